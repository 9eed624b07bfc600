"""What ``zoo evaluate`` measures of Net2Net's networks, printed beside the paper's tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from rich.progress import track
from torch import Tensor

from zoo.data.pairs import attribute_columns
from zoo.experts.labels import flipped
from zoo.metrics import frechet
from zoo.net2net import cost, data, demo, losses, opening, runs, tables, translate
from zoo.net2net.configurations import configuration
from zoo.net2net.experts import Autoencoder
from zoo.net2net.system import System
from zoo.net2net.words import Given
from zoo.runs.autoencoder import scaled
from zoo.runs.translator import Translation
from zoo.training.batches import seeded
from zoo.training.draws import Examples, RandomExamples
from zoo.verbs import Context

Which = Literal["own", "inception"]
COLUMNS: dict[Which, str] = {"own": "here, on own latents (no FID)", "inception": "FID here"}
SCORE = "IS here"
CHUNK = 16  # examples at a time
Rows = dict[str, dict[str, float]]
"""Columns of a table of the paper, by row."""


def run(context: Context, folder: str, features: Which) -> None:
    """Figures of a small run: evaluate.json, and table 1 if its conditions are texts."""
    task, system = opening.task(context, folder, 0, 0), opening.trained(context)
    measured = distance(system, task, context.seed, features)
    figures = {**demo.measure(system, task, context.seed), f"frechet_{features}": measured}
    demo.show(context, figures, "evaluate.json")
    if task.parts["test"].texts:
        tables.show(context.console, tables.TEXT_TO_IMAGE, {"ours": {COLUMNS[features]: measured}})
    tables.show_costs(context.console)


@torch.no_grad()
def distance(system: Translation, task: runs.Task, seed: int, features: Which) -> float:
    """Fréchet distance of a picture for every held-out condition to the held-out pictures.

    Arguments:
        features: "own", the autoencoder's posterior means, which no other network's distance can be compared with; or
            "inception", the FID's.

    Raises:
        FileNotFoundError: if Inception's weights are not there and cannot be fetched.
    """
    own = lambda pictures: system.autoencoder.posterior(pictures)[0]  # noqa: E731
    describe = frechet.inception() if features == "inception" else own
    test = task.parts["test"]
    v = torch.randn(len(test), system.autoencoder.dim, generator=seeded(seed, *b"distance"))
    drawn = system.picture(v, runs.conditions(task, test))
    return frechet.frechet_distance(frechet.moments(describe(scaled(test.images))), frechet.moments(describe(drawn)))


def released(context: Context, given: Given, count: int, features: Which) -> None:
    """Figures of a published configuration: evaluate.json, and the paper's table if it printed one.

    Flows from the layers of one network are measured together, as many as there are.

    Arguments:
        given: for a generator as expert two, ``data`` is COCO: a picture for a caption of each of its pictures.
        count: of held-out examples, evenly spaced; 0 for all.
    """
    flows = {one.name.partition("/")[2]: flow(one, given, count, features) for one in opening.flows(context)}
    several, rows = len(flows) > 1, {row: columns for _, found in flows.values() for row, columns in found.items()}
    figures: dict[str, Any] = {
        f"{name} {key}" if several else key: value for name, (own, _) in flows.items() for key, value in own.items()
    }
    figures["settings"] = _settings(context, count, features)
    demo.show(context, figures, "evaluate.json")
    for published in (tables.TEXT_TO_IMAGE, tables.ATTRIBUTES, tables.LAYERS):
        if rows.keys() <= published.figures.keys():
            tables.show(context.console, published, rows)
    tables.show_costs(context.console)


@torch.no_grad()
def flow(context: Context, given: Given, count: int, features: Which) -> tuple[dict[str, float], Rows]:
    """Figures of one flow, and the columns for each row of :func:`translations`.

    "nll" of latents, as it is trained; "reconstruction_error", the mean absolute error of the autoencoder alone; and
    the Fréchet distance between held-out pictures and those drawn, for texts with the inception score if the features
    are Inception's.

    Raises:
        ValueError: for a count that there is not, or features of an encoder that expert two does not have.
    """
    context, network, given = opening.connected(context, given)
    named = configuration(context.name)
    assert named is not None
    made = opening.between(context, named, network, replace(given, data="") if named.generates else given)
    if features == "own" and not made.size:
        raise ValueError(f"features: expert two of {context.name} is a generator without encoder; expected inception")
    judge = Judge(features, made.experiment.experts.target, scores=made.read is not None)
    noise, means = seeded(context.seed, *b"evaluate"), defaultdict[str, list[Tensor]](list)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        for batch in _chunks(context, _examples(made, given), count):
            x, known = _encoded(made, batch)
            images = opening.pictures(made, batch, x)
            if x is not None:
                means["nll"] += [losses.likelihood(*made.flow(x, known))["total_loss"]] * len(images)
                if made.size:
                    means["reconstruction_error"] += [(made.decode(x) - images).abs().mean()] * len(images)
            judge.compare(images, translations(made, x, known, noise, _row(context.name, made, batch)))
        score = judge.score()
    distances = judge.distances()
    figures = {name: float(torch.stack(values).mean()) for name, values in means.items()}
    figures |= {f"frechet_{features}, {row}": value for row, value in distances.items()}
    columns = {row: {COLUMNS[features]: value} for row, value in distances.items()}
    if score is not None:
        figures["inception_score"] = score
        columns = {row: {SCORE: score} | column for row, column in columns.items()}
    return figures, columns


Translated = Iterator[tuple[str, Tensor, Tensor | None]]


def translations(made: System, x: Tensor | None, known: Tensor, noise: torch.Generator, row: str) -> Translated:
    """What the flow draws for a batch: rows of a table, pictures, and which real ones (B,) they are compared with.

    Between domains, by target: the pictures of all other domains, transferred; with those of the target. For
    attributes (figure 6): all pictures with one attribute turned over; with all. Else, as ``row``, a picture for each
    condition; with all.
    """
    kind = made.configuration.kind
    if kind == "label" and x is not None:
        for k, label in enumerate(torch.eye(known.shape[1])):
            there = known[:, k] > 0
            moved = translate.transfer(made.flow, x[~there], known[~there], label.expand(int((~there).sum()), -1))
            yield f"to domain {k}", made.decode(moved), there
    elif kind == "attributes" and x is not None:
        for row, place in zip(cost.FLIPPED, attribute_columns([*cost.FLIPPED.values()]), strict=True):
            moved = translate.transfer(made.flow, x, known, flipped(known, place))
            yield row, made.decode(moved), None
    else:
        yield row, made.decode(translate.sample(made.flow, known, noise)), None


class Judge:
    """Collects features of real and of drawn pictures, by row.

    Arguments:
        features: "own", the latents of ``expert``, which no other network's distance can be compared with; or
            "inception", the FID's.
        scores: whether Inception also classifies what is drawn.

    Raises:
        FileNotFoundError: if Inception's weights are not there and cannot be fetched.
    """

    def __init__(self, features: Which, expert: Autoencoder, scores: bool = False) -> None:
        self.describe = frechet.inception() if features == "inception" else expert.encode
        self.classify = frechet.inception("logits_unbiased") if features == "inception" and scores else None
        self.real, self.drawn = defaultdict[str, list[Tensor]](list), defaultdict[str, list[Tensor]](list)
        self.logits: list[Tensor] = []

    def compare(self, images: Tensor, drawn: Translated) -> None:
        """Takes in some real pictures and what was drawn."""
        found = self.describe(images)
        for row, pictures, like in drawn:
            self.real[row].append(found if like is None else found[like])
            if len(pictures):
                self.drawn[row].append(self.describe(pictures))
            if self.classify is not None:
                self.logits.append(self.classify(pictures))

    def distances(self) -> dict[str, float]:
        """Fréchet distances by row; ValueError for fewer than two pictures."""
        found = {}
        for row in self.real:
            real, drawn = (torch.cat(side[row] or [torch.empty(0, 1)]) for side in (self.real, self.drawn))
            if min(len(real), len(drawn)) < 2:
                raise ValueError(
                    f"count: expected two pictures or more on each side, got {len(drawn)} drawn and {len(real)} real "
                    f"ones for {row!r}; raise count= or give more data"
                )
            found[row] = frechet.frechet_distance(frechet.moments(drawn), frechet.moments(real))
        return found

    def score(self) -> float | None:
        """The inception score of all that was drawn, if it was classified."""
        return frechet.inception_score(torch.cat(self.logits)).mean if self.logits else None


@torch.no_grad()
def autoencoder(context: Context, folder: str, count: int, features: Which) -> None:
    """Figures of a first-stage autoencoder: evaluate.json; ``count`` as in :func:`released`."""
    expert, parts = opening.first_stage(context, folder)
    judge, errors = Judge(features, expert), list[Tensor]()
    for batch in _chunks(context, parts, count):
        images = batch["image"]
        restored = expert.decode(expert.encode(images))
        errors.append((restored - images).abs().flatten(1).mean(1))
        judge.compare(images, iter([("reconstructions", restored, None)]))
    figures: dict[str, Any] = {"reconstruction_error": float(torch.cat(errors).mean())}
    figures |= {f"frechet_{features}, {row}": value for row, value in judge.distances().items()}
    demo.show(context, figures | {"settings": _settings(context, count, features)}, "evaluate.json")


def _settings(context: Context, count: int, features: Which) -> dict[str, Any]:
    return {"features": features, "count": count, "seed": context.seed}


def _row(name: str, made: System, batch: dict[str, Any]) -> str:
    """What a flow between other experts than domains and attributes has in a table of the paper, or "samples"."""
    layer = name.removeprefix("net2net/layers-")
    if layer in cost.LAYERS:
        return layer
    return "ours" if made.read is not None and "caption" in batch else "samples"


def _examples(made: System, given: Given) -> Examples | RandomExamples:
    if made.configuration.generates and given.data:
        return data.captions(given.data, made.decode(torch.zeros(1, *made.shape("x"))).shape[-1])
    return made.data.validation or made.data.train


def _encoded(made: System, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor]:
    """Latents and conditions; no latents of pictures that a generator has not made."""
    if made.configuration.generates and made.read is not None and "caption" in batch and "latent" not in batch:
        return None, made.read(batch["caption"])
    return made.experiment.encodings(batch)


def _chunks(context: Context, parts: Examples | RandomExamples, count: int) -> Iterator[dict[str, Any]]:
    if not (count == 0 or 2 <= count <= len(parts)):
        raise ValueError(f"count: expected 2 to {len(parts)}, or 0 for all, got {count}")
    starts = range(0, count or len(parts), CHUNK)
    shown = track(starts, "measuring", console=context.console, disable=not context.console.is_terminal)
    yield from (data.stretch(parts, count or len(parts), first, CHUNK, context.seed) for first in shown)
