"""The IIN's pictures: samples, reconstructions, exchanged factors, interpolations and walks as grids."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from zoo import pictures
from zoo.iin import edits
from zoo.iin.interpreter import Interpreter
from zoo.training.batches import seeded


def samples(parts: Interpreter, seed: int, rows: int, columns: int, path: Path) -> None:
    """Rows of samples."""
    made = parts.images(parts.noise(rows * columns, seeded(seed, *b"samples")))
    pictures.grid(made.unflatten(0, (rows, columns)), path, title="Samples: z ~ N(0, 1), back through the flow")


def reconstructions(parts: Interpreter, images: Tensor, path: Path) -> None:
    """Inputs, autoencoded, and autoencoded through the flow and back."""
    z = parts.first.mode(images)
    rows = [images, parts.first.decode(z), parts.images(parts.interpret(images))]
    names = ["input", "autoencoded", "interpreted and back"]
    pictures.grid(torch.stack(rows), path, rows=names, title="No edit: the network does what it did")


def swaps(parts: Interpreter, first: Tensor, second: Tensor, index: int, path: Path) -> float:
    """Pairs, pairs with a factor exchanged, and exchanged back; returns the largest error of the last."""
    a, b = parts.interpret(first), parts.interpret(second)
    before = [parts.images(a), parts.images(b)]
    images = [parts.images(edits.cross(a, b, index)), parts.images(edits.cross(b, a, index))]
    # through the latents, not the factors: what an edited network would be given
    a, b = (list(parts.flow(parts.latents(z))[:-1]) for z in (edits.cross(a, b, index), edits.cross(b, a, index)))
    back = [parts.images(edits.cross(a, b, index)), parts.images(edits.cross(b, a, index))]
    name = parts.names[index]
    labels = ["first", "second", f"first, {name} of second", f"second, {name} of first", "first, swapped twice"]
    pictures.grid(
        torch.stack([*before, *images, back[0]]),
        path,
        rows=labels,
        title=f"Swapped: {name} ({parts.sizes[index]} dimensions)",
    )
    return max(float((x - y).abs().max()) for x, y in zip(before, back, strict=True))


def crossed(parts: Interpreter, images: Tensor, index: int, path: Path) -> None:
    """A table of all pairs of images; inputs (autoencoded) stand in the first row and column."""
    z = parts.interpret(images)
    own, count, name = parts.images(z), len(images), parts.names[index]
    rows = [[torch.ones_like(own[0]), *own]]
    for i in range(count):
        kept = [factor[i : i + 1].expand(count, -1) for factor in z]
        rows.append([own[i], *parts.images(edits.cross(kept, z, index))])
    title = f"Crossed: {name} of the image above, all else of the image on the left"
    pictures.grid(rows, path, title=title)


def lines(parts: Interpreter, first: Tensor, second: Tensor, steps: int, index: int | None, path: Path) -> None:
    """Straight lines in the latent and in all factors (or in one factor alone), a pair of rows each."""
    a, b = parts.interpret(first), parts.interpret(second)
    moved = [edits.interpolate(x, y, steps) if index in (None, k) else x.expand(steps, *x.shape)
             for k, (x, y) in enumerate(zip(a, b, strict=True))]  # fmt: skip
    through = parts.images([z.flatten(0, 1) for z in moved]).unflatten(0, (steps, len(first))).transpose(0, 1)
    name = "factors" if index is None else parts.names[index]
    rows, labels = list(through), [f"in {name}"] * len(first)
    if index is None:
        line = edits.interpolate(parts.first.mode(first), parts.first.mode(second), steps)
        straight = parts.first.decode(line.flatten(0, 1)).unflatten(0, (steps, len(first))).transpose(0, 1)
        rows = [row for pair in zip(straight, through, strict=True) for row in pair]
        labels = ["in the latent", "in all factors"] * len(first)
    pictures.grid(rows, path, rows=labels, title=f"Straight lines in {name}")


def walks(parts: Interpreter, images: Tensor, index: int, steps: int, rho: float, seed: int, path: Path) -> None:
    """Random walks in one factor, a row each."""
    z = parts.interpret(images)
    rows = [
        parts.images([moved if k == index else other for k, other in enumerate(z)])
        for moved in edits.walk(z[index], steps, rho, seeded(seed, *b"walk"))
    ]
    name = parts.names[index]
    pictures.grid(torch.stack(rows, 1), path, title=f"Random walks in {name}, correlation {rho} from step to step")
