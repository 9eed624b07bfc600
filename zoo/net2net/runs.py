"""The two runs of Net2Net on real pictures: what they learn from, and the training of their two networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph, Graph
from zoo import registry
from zoo.data import folders
from zoo.data.emoji import Emoji, emoji
from zoo.data.images import downsample
from zoo.downloads import cache
from zoo.experts.sentences import SentenceEncoder, bundled
from zoo.net2net.small import LOW
from zoo.runs.autoencoder import Autoencoder, AutoencoderExperiment, moved, scaled, shifted
from zoo.runs.stages import stage
from zoo.runs.translator import Translation, TranslatorExperiment
from zoo.training.batches import mixed, seeded
from zoo.training.stage import Stage, Trained, forget, run
from zoo.verbs import Context, at_least_one

SPLIT = 0
"""Seed of the parts of the data, whatever the command's seed: no picture is trained on and then tested with."""
TEST, VALIDATION = 0.13, 0.08
"""Shares of the groups of emoji."""
A_GROUP = 6  # members of a group of emoji that are trained on at most: couples have a hundred skin tones
SHAPES = {"train": 64, "validation": 16, "test": 24}
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Plan:
    """How a run is trained.

    Arguments:
        autoencoder, flow: epochs.
        batch: pictures a step.
        autoencoder_rate, flow_rate: peaks of the learning-rate cycles.
        variants: encodings of every picture that the flow learns from, each of the picture moved by some pixels.
        mirrored: whether every other variant is of the mirror image.
        shift: pixels by which pictures are moved at most.
        prior_weight: of the autoencoder's KL term.
        noise: on the conditions, in their deviations.
    """

    autoencoder: int
    flow: int
    batch: int = 64
    autoencoder_rate: float = 3e-3
    flow_rate: float = 1e-3
    variants: int = 6
    mirrored: bool = False
    shift: int = 1
    prior_weight: float = 0.5
    noise: float = 0.3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        at_least_one(autoencoder_epochs=self.autoencoder, flow_epochs=self.flow)


PLANS = {
    "emoji": Plan(autoencoder=60, flow=16, flow_rate=2e-3, noise=0.5, mirrored=True),
    "tiny-pictures": Plan(autoencoder=2, flow=2, batch=16, variants=2),
    "animalfaces": Plan(autoencoder=40, flow=12, batch=16, flow_rate=2e-3, shift=3, mirrored=True),
}


@dataclass(frozen=True)
class Part:
    """Pictures (N, 3, S, S), uint8, and what is known of each: text, or nothing (the picture itself, reduced)."""

    images: Tensor
    texts: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Task:
    """A run.

    Arguments:
        name: of the registered flow, without the paper's.
        parts: "train", "validation" and "test".
        represent: expert one: pictures in [-1, 1] (N, 3, S, S) and a text each (or "") -> conditions (N, C).
    """

    name: str
    parts: dict[str, Part]
    plan: Plan
    represent: Callable[[Tensor, list[str]], Tensor]


def graphs(context: Context, name: str) -> tuple[Graph, Graph]:
    """Autoencoder and flow of a run; the command's options are those of the network that it names.

    Raises:
        ValueError: if the flow fits neither the autoencoder's latent nor what expert one says.
    """
    names = f"net2net/{name}-autoencoder", f"net2net/{name}"
    first, second = (registry.graph(n, **(context.options if n == context.name else {})) for n in names)
    wanted = {
        "x": first.output_shapes["latent"],
        "condition": registry.graph(f"net2net/{name}").input_shapes["condition"],
    }
    for key, shape in wanted.items():
        if second.input_shapes[key] != shape:
            raise ValueError(
                f"{names[1]}: expected the shape {shape} of the input {key!r}, as the latent of {names[0]} and the "
                f"condition of the run have it, got {second.input_shapes[key]}"
            )
    return first, second


def emoji_task(plan: Plan, size: int) -> Task:
    """Names to emoji; expert one is all-MiniLM-L6-v2. ModuleNotFoundError without the extra ``emoji``.

    Arguments:
        size: pixels of a side, of this task and of those below.
    """
    return text_task("emoji", emoji(size, cache()), SentenceEncoder.from_folder(bundled()), plan)


def text_task(name: str, found: Emoji, encoder: Callable[[list[str]], Tensor], plan: Plan) -> Task:
    """Names to pictures: groups are held out whole; of those held out, the plain pictures count."""
    rest, test = found.split(TEST, SPLIT)
    train, validation = rest.split(VALIDATION, SPLIT + 1)
    parts = {"train": train.limited(A_GROUP, SPLIT), "validation": validation.plain_part(), "test": test.plain_part()}
    named = {k: Part(p.images, p.names) for k, p in parts.items()}
    return Task(name, named, plan, lambda _, texts: even(encoder(texts)))


def even(vectors: Tensor) -> Tensor:
    """Vectors (N, C) scaled to a mean square of 1: the numbers of a vector of length 1 are too small to learn from."""
    return torch.nn.functional.normalize(vectors) * vectors.shape[1] ** 0.5


def faces_task(plan: Plan, size: int, data: str) -> Task:
    """Super-resolution of animal faces, 16 to 64 pixels; expert one is the pixels of the small picture.

    Arguments:
        data: a folder with a sub-folder of images for each class.

    Raises:
        ValueError: without ``data``, or with too few pictures; FileNotFoundError if there is no such folder.
    """
    if not data:
        raise ValueError("net2net/animalfaces: expected data=FOLDER, with a sub-folder of images for each class")
    files = folders.split(folders.folder(data, size), SHARES, SPLIT)
    for name, part in files.items():
        if not len(part):
            raise ValueError(f"data: too few pictures in {data!r}: none is left for the {name} part")
    parts = {k: Part(((f.tensors()[0] + 1) * 127.5).round().to(torch.uint8)) for k, f in files.items()}
    return Task("animalfaces", parts, plan, lambda images, _: downsample(images, LOW).flatten(1))


def shapes_task(plan: Plan, size: int) -> Task:
    """Offline and in seconds: squares of random colours and places; the condition is the picture at 16 pixels."""
    parts = {name: Part(squares(count, size, mixed(SPLIT, *name.encode()))) for name, count in SHAPES.items()}
    return Task("tiny-pictures", parts, plan, lambda images, _: downsample(images, LOW).flatten(1))


def squares(count: int, size: int, seed: int) -> Tensor:
    """(count, 3, size, size), uint8: a square of a quarter of the side on white."""
    noise, images = seeded(seed), torch.full((count, 3, size, size), 255, dtype=torch.uint8)
    colours = torch.randint(256, (count, 3, 1, 1), generator=noise, dtype=torch.uint8)
    corners = torch.randint(size - size // 4 + 1, (count, 2), generator=noise).tolist()
    for image, colour, (top, left) in zip(images, colours, corners, strict=True):
        image[:, top : top + size // 4, left : left + size // 4] = colour
    return images


def conditions(task: Task, part: Part, way: int = 0) -> Tensor:
    """What expert one makes of a part, (N, C); ``way``: which of the ways to say it, modulo their number."""
    texts = [said[way % len(said)] for said in part.texts] or [""] * len(part)
    return task.represent(scaled(part.images), texts)


def autoencoder_stage(task: Task, graph: Graph, seed: int) -> Stage:
    """Expert two."""
    plan = task.plan
    images = scaled(task.parts["validation"].images)
    noise = torch.randn(len(images), graph.output_shapes["latent"][0] or 0, generator=seeded(seed, *b"validation"))
    return stage(
        f"net2net-{task.name}-autoencoder",
        "1/3 Expert two, an autoencoder",
        "absolute error + KL",
        graph,
        partial(AutoencoderExperiment, view=lambda images: moved(scaled(images), plan.shift)),
        training=(task.parts["train"].images,),
        validation=(images, noise),
        epochs=plan.autoencoder,
        every=min(5, plan.autoencoder),
        batch=plan.batch,
        learning_rate=plan.autoencoder_rate,
        weight_decay=plan.weight_decay,
        seed=seed,
        options={"error": "absolute", "prior_weight": plan.prior_weight},
        data=f"{_digest(task)} {plan.shift}",
    )


def flow_stage(task: Task, graph: Graph, first: Trained, seed: int) -> Stage:
    """The flow between the experts."""
    plan, expert = task.plan, Autoencoder(first.network)
    train, validation = task.parts["train"], task.parts["validation"]
    with torch.random.fork_rng():
        torch.manual_seed(mixed(seed, *b"variants"))
        moved = [shifted(scaled(train.images), plan.shift) for _ in range(plan.variants)]
    if plan.mirrored:
        moved[1::2] = [images.flip(-1) for images in moved[1::2]]
    posteriors = [expert.posterior(images) for images in moved]
    ways = range(max(map(len, train.texts), default=0))
    said = [conditions(task, train, way) for way in ways]
    known = [said[k % len(said)] if said else task.represent(images, []) for k, images in enumerate(moved)]
    mean, deviation = expert.posterior(scaled(validation.images))
    noise = torch.randn(mean.shape, generator=seeded(seed, *b"validation"))
    return stage(
        f"net2net-{task.name}",
        "2/3 The flow from expert one's representation to expert two's latent",
        "bits/dim",
        graph,
        TranslatorExperiment,
        training=(torch.stack([m for m, _ in posteriors], 1), torch.stack([d for _, d in posteriors], 1),
                  torch.stack(known, 1)),
        validation=(mean + deviation * noise, conditions(task, validation)),
        epochs=plan.flow,
        every=min(2, plan.flow),
        batch=plan.batch,
        learning_rate=plan.flow_rate,
        weight_decay=plan.weight_decay,
        seed=seed,
        options={"noise": plan.noise},
        data=f"{_digest(task)} {plan.variants} {plan.mirrored} {plan.shift}",
        earlier=(first.fingerprint,),
    )  # fmt: skip


def train(task: Task, context: Context) -> tuple[Translation, dict[str, Trained], Stage]:
    """Trains what the folder does not hold yet; also returns what the stages left and the flow's stage."""
    graph = graphs(context, task.name)[1]
    first = train_autoencoder(task, context)
    made = flow_stage(task, graph, first, context.seed)
    if context.fresh:
        forget(context.out, f"{made.name}.*")
    second = run(made, context.out, context.console)
    return Translation(Autoencoder(first.network), second.network), {"autoencoder": first, "flow": second}, made


def train_autoencoder(task: Task, context: Context) -> Trained:
    """Trains expert two, unless the folder holds it."""
    stage = autoencoder_stage(task, graphs(context, task.name)[0], context.seed)
    if context.fresh:
        forget(context.out, f"{stage.name}.*")
    return run(stage, context.out, context.console)


def translation(context: Context, name: str) -> Translation:
    """The networks of a run: trained in the folder, or fresh ones with ``--random``.

    Raises:
        FileNotFoundError: if they have not been trained there; ValueError if those there have other options than the
            command.
    """
    graphs(context, name)
    autoencoder, flow = (context.network(f"net2net/{name}{part}") for part in ("-autoencoder", ""))
    refuse_other_options(context, flow if context.name == f"net2net/{name}" else autoencoder)
    return Translation(Autoencoder(autoencoder), flow)


def refuse_other_options(context: Context, network: BuiltGraph) -> None:
    """ValueError if the network that the command names was trained with other options than the command's."""
    if context.options and network.graph.to_yaml() != registry.graph(context.name, **context.options).to_yaml():
        asked = ", ".join(f"{key}={value}" for key, value in context.options.items())
        raise ValueError(
            f"{context.name}: the network in {str(context.file(context.name))!r} was not trained with {asked}; "
            "leave the options out to use it, or train with them into another folder"
        )


def _digest(task: Task) -> str:
    """Changes with the data."""
    found = hashlib.sha256()
    for part in task.parts.values():
        found.update(part.images.numpy().tobytes())
        found.update(repr(part.texts).encode())
    return found.hexdigest()[:16]
