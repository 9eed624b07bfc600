"""What an interpretation is worth, in numbers: response analysis, exchanged factors, identity, Fréchet distances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.iin import edits
from zoo.iin.interpreter import Interpreter
from zoo.metrics.frechet import Features, frechet_distance, moments

CHUNK = 100  # images that are made and described at a time
Classify = Callable[[Tensor], Tensor]
"""Latents (B, C) -> classes (B,)."""


class Response(NamedTuple):
    """How a classifier answers to a random walk in one factor: standard deviation of its classes, and their counts."""

    sigma: float
    counts: dict[int, int]


def respond(
    parts: Interpreter, classify: Classify, image: Tensor, index: int, steps: int, rho: float, seed: torch.Generator
) -> Response:
    """The response analysis of the paper (section 4.3) for one image and one factor.

    Arguments:
        classify: of latents.
        image: (ch, H, W); the walk begins at its factor, the others stay.
        steps, rho: of :func:`zoo.iin.edits.walk`.
        seed: of the walk's noise.
    """
    factors = parts.interpret(image[None])
    path = torch.cat(list(edits.walk(factors[index], steps, rho, seed)))
    moved = [path if k == index else z.expand(steps, -1) for k, z in enumerate(factors)]
    classes = classify(parts.latents(moved))
    values, counts = classes.unique(return_counts=True)
    return Response(float(classes.double().std(correction=0)), dict(zip(values.tolist(), counts.tolist(), strict=True)))


class Exchange(NamedTuple):
    """Shares of images whose digit and colour are read as the recipient's own and as the donor's."""

    digit_own: float
    digit_donor: float
    colour_own: float
    colour_donor: float


def exchange(
    parts: Interpreter,
    images: Tensor,
    labels: Tensor,
    colours: Tensor,
    donors: Tensor,
    index: int,
    read_digit: Classify,
    read_colour: Callable[[Tensor], Tensor],
) -> Exchange:
    """Takes one factor of every image from another image and asks independent networks what they see.

    Arguments:
        images, labels, colours: (N, 3, H, W), (N,), (N, 3).
        donors: (N,), where each image's new factor comes from; another digit.
        index: the factor.
        read_digit: of images, classes (N,).
        read_colour: of images, colours (N, 3); it counts as the one of the two it is closer to.
    """
    factors = parts.interpret(images)
    edited = parts.images(edits.cross(factors, [z[donors] for z in factors], index))
    digit, colour = read_digit(edited), read_colour(edited)
    own = (colour - colours).square().sum(1) < (colour - colours[donors]).square().sum(1)
    shares = (digit == labels, digit == labels[donors], own, ~own)
    return Exchange(*(float(share.double().mean()) for share in shares))


def identity_errors(parts: Interpreter, images: Tensor) -> dict[str, float]:
    """Largest errors after no edit: of latents, and of images or logits that are computed from them."""
    z = parts.first.mode(images)
    again = parts.latents(parts.interpret(images))
    output = parts.first.decode if parts.first.decodes else parts.first.classify
    after = "image" if parts.first.decodes else "logits"
    return {"latent": float((again - z).abs().max()), after: float((output(again) - output(z)).abs().max())}


def frechet_table(
    parts: Interpreter, batches: Iterable[Tensor], count: int, features: Features, generator: torch.Generator
) -> Mapping[str, float]:
    """The four distances of the published protocol (iin, section 4.1), each to the real images.

    Arguments:
        batches: the real images, (B, ch, H, W) each, gone through once.
        count: of these images; as many are made.
        features: of images.
    """
    plain = torch.randn(count, sum(parts.sizes), generator=generator)
    found: dict[str, list[Tensor]] = {"real": [], "reconstructions": []}
    for images in (some for batch in batches for some in batch.split(CHUNK)):
        found["real"].append(features(images))
        found["reconstructions"].append(features(parts.first.decode(parts.first.sample(images, generator))))
    found["samples without the flow"] = [features(parts.first.decode(some)) for some in plain.split(CHUNK)]
    found["samples"] = [features(parts.images(some.split(parts.sizes, 1))) for some in plain.split(CHUNK)]
    seen = {name: torch.cat(chunks) for name, chunks in found.items()}
    real = seen.pop("real")
    known, order = moments(real), torch.randperm(count, generator=generator)
    distances = {name: frechet_distance(known, moments(made)) for name, made in seen.items()}
    halves = [moments(real[places]) for places in order.tensor_split(2)]
    return {**distances, "real images, one half to the other": frechet_distance(*halves)}
