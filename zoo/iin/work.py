"""What several verbs need: images, read as they go, dimension estimates, responses, figures, sketched pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from zoo import pictures
from zoo.data.images import nchw, resize_smallest, to_float
from zoo.experts import lpips
from zoo.iin import analysis, dims, losses
from zoo.iin.first_stages import ROWS, FirstStage
from zoo.iin.interpreter import Interpreter, first_name, first_stage, interpreter
from zoo.iin.stylize import synthesise
from zoo.iin.systems import Part, dataset, factors, system
from zoo.metrics.frechet import Features, inception
from zoo.training.batches import mixed, seeded
from zoo.training.draws import RandomExamples
from zoo.verbs import Context

Batch = dict[str, Any]
SIDES = ("example1", "example2")  # of a batch of pairs
JUDGE = "iin/digits-classifier"
NONE = "none"  # of the networks that measure pictures
SHOWN = 8  # images in a picture of pairs
PROTOCOL = 10_000  # images that the published figures are computed on


class Chosen:
    """``count`` examples of a data set or all if fewer, at random but for the seed, read while they are iterated over.

    Iterating gives batches of 500 at most, dicts of (B, ...).

    Arguments:
        examples: the data set.
        seed: of the choice and of what the data set draws.
        count: how many.
    """

    def __init__(self, examples: RandomExamples, seed: int, count: int) -> None:
        self.examples, self.seed = examples, seed
        self.places = np.random.RandomState(mixed(seed) % 2**32).permutation(len(examples))[:count].tolist()

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Batch]:
        random = self._random()
        return (self._read(self.places[k : k + ROWS], random) for k in range(0, len(self), ROWS))

    def batch(self) -> Batch:
        """All of them at once."""
        return self._read(self.places, self._random())

    def _random(self) -> np.random.RandomState:
        return np.random.RandomState(mixed(self.seed, 1) % 2**32)

    def _read(self, places: Sequence[int], random: np.random.RandomState) -> Batch:
        found: Batch = default_collate([self.examples.draw(place, random) for place in places])
        return found


def test_images(context: Context, data: str, count: int, part: Part = "test") -> Batch:
    """A batch of ``count`` single images of a part, see :func:`chosen_images`."""
    return chosen_images(context, data, count, part).batch()


def chosen_images(context: Context, data: str, count: int, part: Part = "test") -> Chosen:
    """``count`` single images of a part; 0 for the protocol's, or all if fewer.

    Raises:
        ValueError: for more than there are, or a negative number.
    """
    examples = dataset(system(context.name).data, part, data)
    count = count or min(PROTOCOL, len(examples))
    if not 1 <= count <= len(examples):
        raise ValueError(f"images: expected 1 to {len(examples)}, all of the {part} part, got {count}")
    return Chosen(examples, context.seed, count)


def drawn_pairs(
    context: Context, data: str, count: int, part: Part = "test", names: Sequence[str] | None = None
) -> Chosen:
    """Up to ``count`` pairs of a part."""
    return Chosen(dataset(system(context.name).data, part, data, pairs=True, names=names), context.seed, count)


def estimate(context: Context, pairs: Chosen, first: str) -> tuple[dims.Dims, Sequence[str]]:
    """The dimension estimation of the command's first stage, and the factors' names."""
    stage, names = first_stage(context, first), factors(pairs.examples)
    found = [(*(stage.mode(batch[side]["image"]) for side in SIDES), batch["factor"]) for batch in pairs]
    one, two, shared = (torch.cat(parts) for parts in zip(*found, strict=True))
    return dims.estimate(one, two, shared, len(names)), names


def responses(context: Context, image: Tensor, steps: int, rho: float, first: str) -> dict[str, analysis.Response]:
    """The response analysis of every factor."""
    parts, generator = interpreter(context, first), seeded(context.seed, *b"response")
    classify = _classify(context, parts.first)
    return {
        name: analysis.respond(parts, classify, image, index, steps, rho, generator)
        for index, name in enumerate(parts.names)
    }


def figures(context: Context, data: str, first: str, features: str, count: int) -> dict[str, Any]:
    """What ``evaluate`` reports of a network, by kind."""
    known, images = system(context.name), chosen_images(context, data, count)
    stage = first_stage(context, first)
    if known.kind == "classifier":
        hits = [stage.classify(stage.mode(batch["image"])).argmax(1) == batch["class"] for batch in images]
        return {"accuracy": float(torch.cat(hits).double().mean())}
    if known.kind == "autoencoder":
        return _autoencoded(stage, images, perceptual=known.data != "digits" and features != NONE)
    parts = interpreter(context, first)
    found: dict[str, Any] = {"images": len(images), "loss": _loss(context, parts, images, data)}
    if stage.decodes and features != NONE:
        measure = _features(context, features)
        found["features"] = "classifier" if _uses_classifier(context, features) else "inception"
        generator = seeded(context.seed, *b"frechet")
        batches = (batch["image"] for batch in images)
        for name, value in analysis.frechet_table(parts, batches, len(images), measure, generator).items():
            found[f"Fréchet distance, {name}"] = value
    return found


def sketch(context: Context, example1: str, example2: str, factor: str, data: str, count: int, path: Path) -> None:
    """Synthesised pairs of the training part: the first as a picture, all in a safetensors file beside it."""
    from safetensors.torch import save_file

    batch = test_images(context, data, count + 2, "train")["image"]
    images, size = batch[2:], batch.shape[-1]
    one, two = (_read(file, size) if file else batch[k] for k, file in enumerate((example1, example2)))
    names = registered_factors(context)
    if factor not in names:
        raise ValueError(f"factor: expected one of {', '.join(names)}, got {factor!r}")
    made = synthesise(images, one, two, names.index(factor), seeded(context.seed, *b"pairs"))
    pictures.grid(
        [[one, two], *(list(row[:SHOWN]) for row in (images, made.first, made.second))],
        path,
        rows=["the two examples", "images", "first of a pair", "second of a pair"],
        title=f"Pairs that share {factor}, as two examples sketch it",
    )
    save_file({key: value.contiguous() for key, value in made._asdict().items()}, path.with_suffix(".safetensors"))


def registered_factors(context: Context) -> list[str]:
    """The names of the factors of a command's network."""
    from zoo import registry

    return list(registry.graph(context.name, **context.options).output_shapes)


def _classify(context: Context, stage: FirstStage) -> Callable[[Tensor], Tensor]:
    """Classes of latents: the first stage's own, or of the digits that an autoencoder makes of them."""
    if not stage.decodes:
        return lambda z: stage.classify(z).argmax(1)
    judge = judge_of(context)
    return lambda z: judge.classify(judge.mode(stage.decode(z))).argmax(1)


def judge_of(context: Context) -> FirstStage:
    """The independent classifier of the digits; ValueError for other data."""
    if system(context.name).data != "digits":
        raise ValueError(
            f"{context.name}: {first_name(context)} is no classifier, and one of its own is at hand for digits alone; "
            "take iin/cmnist-classifier-factors"
        )
    return FirstStage(context.network(JUDGE))


@torch.no_grad()
def _autoencoded(stage: FirstStage, images: Chosen, perceptual: bool) -> dict[str, Any]:
    """Errors of reconstructions and the KL divergence from N(0, 1), means of the images."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    distance = lpips.published() if perceptual else None
    for batch in images:
        posterior = stage.posterior(batch["image"])
        restored = stage.decode(posterior.mode)
        found["reconstruction error"].append((restored - batch["image"]).abs().flatten(1).mean(1))
        found["KL divergence"].append(posterior.kl())
        if distance is not None:
            found["LPIPS"].append(distance(batch["image"], restored).flatten())
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}


def _features(context: Context, features: str) -> Features:
    if not _uses_classifier(context, features):
        network = inception()
        return lambda images: network(images.expand(-1, 3, -1, -1))
    return judge_of(context).mode


def _uses_classifier(context: Context, features: str) -> bool:
    return features == "classifier" or (features == "auto" and system(context.name).data == "digits")


@torch.no_grad()
def _loss(context: Context, parts: Interpreter, images: Chosen, data: str) -> float:
    """The training's loss on the test part."""
    noise, whole = seeded(context.seed, *b"loss"), system(context.name).kind == "whole"
    chosen = images if whole else drawn_pairs(context, data, len(images), names=parts.names)
    loss = _whole_loss if whole else _factor_loss
    means = [(float(loss(parts, batch, noise)), len(next(iter(batch.values())))) for batch in chosen]
    return sum(mean * size for mean, size in means) / len(chosen)


def _whole_loss(parts: Interpreter, images: Batch, noise: torch.Generator) -> Tensor:
    return losses.unsupervised(*parts.flow(parts.first.sample(images["image"], noise))).loss


def _factor_loss(parts: Interpreter, pairs: Batch, noise: torch.Generator) -> Tensor:
    (*a, before), (*b, after) = (parts.flow(parts.first.sample(pairs[side]["image"], noise)) for side in SIDES)
    return losses.factor(a, b, before, after, pairs["factor"]).loss


def _read(file: str, size: int) -> Tensor:
    """An image file, its smaller side scaled to ``size``."""
    from zoo.data.folders import read_image

    return nchw(to_float(resize_smallest(read_image(Path(file)), size)))
