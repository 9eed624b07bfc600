"""From a verb's options to what it works on: a flow between its experts, and some held-out pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo.net2net import data, runs, translate
from zoo.net2net.autoencoder_experiment import GaussianAutoencoder
from zoo.net2net.configurations import AUTOENCODERS, CONFIGURATIONS, LAYERS, Configuration, configuration
from zoo.net2net.experiment import RUNS
from zoo.net2net.experts import SmallImages
from zoo.net2net.memory import remembered
from zoo.net2net.small import LOW
from zoo.net2net.system import System, system
from zoo.net2net.words import Given
from zoo.runs.autoencoder import scaled
from zoo.runs.translator import Translation
from zoo.training.batches import seeded
from zoo.training.draws import Examples, RandomExamples
from zoo.verbs import Context

NOTE = "OpenMoji, CC BY-SA 4.0; generated pictures derive from it"


def run_name(context: Context) -> str:
    """The small run that a registered name belongs to; ValueError for a network without one."""
    name = context.name.partition("/")[2].removesuffix("-autoencoder")
    if name not in runs.PLANS:
        others = () if name in CONFIGURATIONS or context.name.partition("/")[2] in AUTOENCODERS else (
            *CONFIGURATIONS, *AUTOENCODERS)  # fmt: skip
        known = ", ".join(f"net2net/{known}" for known in (*runs.PLANS, *others))
        raise ValueError(f"{context.name}: the verb does not know it; expected one of {known}")
    return name


def task(context: Context, folder: str, autoencoder_epochs: int, flow_epochs: int) -> runs.Task:
    """The run that a registered name belongs to; epochs of 0 are the plan's.

    Raises:
        ValueError: for a network without a run, or a folder for one that has its own pictures.
    """
    name = run_name(context)
    if folder and name != "animalfaces":
        raise ValueError(f"data: net2net/{name} has pictures of its own; leave data= out")
    plan = runs.PLANS[name]
    plan = replace(plan, autoencoder=autoencoder_epochs or plan.autoencoder, flow=flow_epochs or plan.flow)
    size = runs.graphs(context, name)[0].input_shapes["image"][1] or 0
    if name == "animalfaces":
        return runs.faces_task(plan, size, folder)
    return runs.emoji_task(plan, size) if name == "emoji" else runs.shapes_task(plan, size)


def trained(context: Context) -> Translation:
    """The networks of a run: trained in the folder, or fresh ones with ``--random``."""
    return runs.translation(context, context.name.partition("/")[2].removesuffix("-autoencoder"))


@dataclass(frozen=True)
class Opened:
    """What the pictures are drawn from.

    Arguments:
        flow: latents (N, D) <-> v, given conditions.
        decode: latents -> pictures in [-1, 1].
        images: (N, 3, S, S), held out.
        latents, known: of these pictures: expert two's and expert one's.
        labels: their texts; none if pictures are the condition.
        read: texts -> conditions, if the condition is a text.
        low: (N, 3, s, s), what is known of pictures if that is a small picture, and ``see``: such pictures ->
            conditions.
        domains: K of a flow between K domains, 0 for others.
        encode: pictures (N, 3, size, size) -> latents, between experts that were named.
        note: to be said below a picture.
    """

    context: Context
    flow: BuiltGraph
    decode: Callable[[Tensor], Tensor]
    images: Tensor
    latents: Tensor
    known: Tensor
    labels: list[str]
    read: Callable[[list[str]], Tensor] | None = None
    low: Tensor | None = None
    see: Callable[[Tensor], Tensor] | None = None
    domains: int = 0
    note: str = ""
    encode: Callable[[Tensor], Tensor] | None = None
    size: int = 0

    def noise(self, count: int) -> Tensor:
        """(count, D), drawn by the seed."""
        dim = self.flow.graph.input_shapes["x"][0] or 0
        return torch.randn(count, dim, generator=seeded(self.context.seed, *b"pictures"))

    def picture(self, v: Tensor, known: Tensor) -> Tensor:
        """tau: v (N, D), or (D,) for all, and conditions -> pictures."""
        return self.decode(translate.backward(self.flow, v.expand(len(known), -1), known))

    def path(self, name: str) -> Path:
        """Of a picture."""
        return self.context.out / f"{name}.png"


@torch.no_grad()
def opened(context: Context, given: Given, count: int | None) -> Opened:
    """What a name, and the words for its experts and data, stand for; with ``count`` held-out pictures.

    Arguments:
        count: None where no pictures are needed, and so no data.

    Raises:
        ValueError: for a count below 1 or more than there are; FileNotFoundError if the flow has not been trained.
    """
    if count is not None and count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    named = configuration(context.name)
    if named is None:
        if given.source or given.target:
            raise ValueError(f"{context.name}: its experts are those of the run; leave source= and target= out")
        return of(context, task(context, given.data, 0, 0), trained(context), count or 1)
    context, flow, given = connected(context, given)
    return _shown(context, between(context, named, flow, given), count)


def connected(context: Context, given: Given) -> tuple[Context, BuiltGraph, Given]:
    """The flow of a published configuration, and what its training was given where a command says nothing."""
    flow = context.network()
    runs.refuse_other_options(context, flow)
    context, experts = remembered(context, asdict(given))
    if context.random:
        context.console.print(f"{context.name}: what is not named is random or made up", highlight=False)
    return context, flow, Given(**experts)


def between(context: Context, named: Configuration, flow: BuiltGraph, given: Given) -> System:
    """A flow between its experts; their latents are the posteriors' means."""
    name = context.name.partition("/")[2]
    rate = RUNS[name].learning_rate() if name in RUNS else 0.0
    return system(context, named, flow, given, rate, mean=True)


def _shown(context: Context, made: System, count: int | None) -> Opened:
    dim, condition = made.shape("x"), made.shape("condition")
    see = read = low = None
    images, x, known = torch.empty(0, 3, 1, 1), torch.empty(0, *dim), torch.empty(0, *condition)
    labels: list[str] = []
    if count:
        batch = data.batch(made.data.validation or made.data.train, count, context.seed)
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            x, known = made.experiment.encodings(batch)
        images = pictures(made, batch, x)
        labels = _labels(made, batch, images)
        low = made.small(images) if made.small else None
    source = made.experiment.experts.source
    if isinstance(source, SmallImages):
        see = source.expert.encode
    if made.read is not None:
        read = made.read
    encode = made.experiment.experts.target.encode if made.size else None
    return Opened(context, made.flow.eval(), made.decode, images, x, known, labels, read, low, see,
                  made.configuration.domains, "Random experts" if context.random else "", encode,
                  made.size)  # fmt: skip


def pictures(made: System, batch: dict[str, Any], x: Tensor | None) -> Tensor:
    """Those of a batch, or what a generator makes of it or of its latents."""
    if "z" in batch:
        expert = made.experiment.experts.target
        found: Tensor = expert.generate(batch["z"], batch["class"])
        return found
    images: Tensor = batch["image"] if x is None or made.size else made.decode(x)
    return images


def _labels(made: System, batch: dict[str, Any], images: Tensor) -> list[str]:
    if made.configuration.kind == "captioned":
        found: list[str] = made.experiment.experts.source[0](images)
        return found
    return list(batch["caption"]) if made.configuration.kind == "sentence" else []


def of(context: Context, made: runs.Task, system: Translation, count: int) -> Opened:
    """The same for a run whose networks are there."""
    test = made.parts["test"]
    order = torch.randperm(len(test), generator=seeded(context.seed, *b"shown"))[:count]
    part = runs.Part(test.images[order], tuple(test.texts[i] for i in order.tolist()) if test.texts else ())
    labels, images, known = [said[0] for said in part.texts], scaled(part.images), runs.conditions(made, part)
    flow: Any = system.density.bijection
    texts = bool(labels)
    return Opened(
        context,
        flow,
        system.autoencoder.decode,
        images,
        system.autoencoder.posterior(images)[0],
        known,
        labels,
        (lambda said: made.represent(images, said)) if texts else None,
        None if texts else known.unflatten(1, (3, LOW, LOW)),
        None if texts else lambda low: low.flatten(1),
        note=NOTE if made.name == "emoji" else "",
    )


def layers(context: Context, given: Given) -> dict[str, Opened]:
    """The flows from layers of a network, as many as there are of those that go with the name, with one picture each.

    Raises:
        FileNotFoundError: if not even that of the name has been trained.
    """
    return {c.name.partition("/")[2]: opened(c, given, 1) for c in flows(context)}


def flows(context: Context) -> list[Context]:
    """The command for its own flow, and for flows from other layers of a network as many as there are."""
    own = context.name.partition("/")[2]
    every = LAYERS if own in LAYERS and context.weights is None else (own,)
    contexts = [replace(context, name=f"net2net/{name}") for name in every]
    return [c for c in contexts if c.name == context.name or context.random or c.file(c.name).is_file()]


def first_stage(context: Context, folder: str) -> tuple[GaussianAutoencoder, Examples | RandomExamples]:
    """A first-stage autoencoder, whose latents are means, and the pictures that it has not seen.

    Raises:
        ValueError: without a folder; FileNotFoundError if the autoencoder has not been trained.
    """
    net = context.network()
    runs.refuse_other_options(context, net)
    if not folder:
        raise ValueError(f"{context.name}: expected data=FOLDER of images")
    sets, size = AUTOENCODERS[context.name.partition("/")[2]], net.graph.input_shapes["image"][1] or 0
    parts = data.examples(sets, folder, size)
    return GaussianAutoencoder(net, deterministic=True), parts.validation or parts.train


@torch.no_grad()
def autoencoded(context: Context, folder: str, count: int) -> tuple[Tensor, Tensor]:
    """Held-out pictures, and what a first-stage autoencoder makes of them; errors as :func:`first_stage`."""
    expert, parts = first_stage(context, folder)
    images: Tensor = data.batch(parts, count, context.seed)["image"]
    return images, expert.decode(expert.encode(images))
