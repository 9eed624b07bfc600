"""Concepts from two sketches: a style spread over a data set gives pairs that share the concept (iin, section 1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo import weights

Stylizer = Callable[[Tensor, Tensor], Tensor]
"""Contents (B, ch, H, W) and one style (ch, H, W), both in [-1, 1] -> contents in that style."""
EPSILON = 1e-4


class Pairs(NamedTuple):
    """Two images each, (N, ch, H, W), and the factor that they share, (N,)."""

    first: Tensor
    second: Tensor
    factor: Tensor


def colours(contents: Tensor, style: Tensor) -> Tensor:
    """A stylizer: the contents' colours whitened, and coloured with mean and covariance of the style's."""
    pixels = contents.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    whitened = _power(_covariance(pixels - mean), -0.5) @ (pixels - mean)
    target = style.flatten(1)
    centre = target.mean(1, keepdim=True)
    coloured = _power(_covariance(target - centre), 0.5) @ whitened + centre
    return coloured.unflatten(2, contents.shape[2:]).clamp(-1, 1)


def synthesise(
    images: Tensor,
    example1: Tensor,
    example2: Tensor,
    factor: int,
    generator: torch.Generator,
    stylizer: Stylizer = colours,
) -> Pairs:
    """Pairs that share a concept which two example images sketch by their difference.

    Every image is given the style of one of the examples, at random, and so is a random partner.

    Arguments:
        images: (N, ch, H, W), of the data set.
        example1, example2: (ch, H, W), the concept's two values.
        factor: the concept's number.
        stylizer: spreads a style; an arbitrary-style network can stand here.

    Raises:
        ValueError: if an example has another number of channels than the images.
    """
    for example in (example1, example2):
        if example.ndim != 3 or len(example) != images.shape[1]:
            raise ValueError(f"example: expected ({images.shape[1]}, H, W), got {tuple(example.shape)}")
    partners = images[torch.randint(len(images), (len(images),), generator=generator)]
    style = torch.randint(2, (len(images), 1, 1, 1), generator=generator) == 1
    sides = [
        torch.where(style, stylizer(contents, example2), stylizer(contents, example1))
        for contents in (images, partners)
    ]
    return Pairs(sides[0], sides[1], torch.full((len(images),), factor))


class StoredPairs:
    """Pairs from a file that the verb ``pairs`` wrote, as a data set with the samples of ``ColouredMNIST``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else.
    """

    def __init__(self, file: str | Path) -> None:
        tensors, _ = weights.read(file)
        if tensors.keys() != {*Pairs._fields}:
            raise ValueError(
                f"pairs: expected a file with {', '.join(Pairs._fields)}, got {', '.join(tensors) or 'none'}"
            )
        self.pairs = Pairs(**tensors)

    def __len__(self) -> int:
        return len(self.pairs.factor)

    def __getitem__(self, index: int) -> dict[str, Any]:
        first, second, factor = (values[index] for values in self.pairs)
        return {"factor": factor, "example1": {"image": first}, "example2": {"image": second}}


def _covariance(centred: Tensor) -> Tensor:
    eye = torch.eye(centred.shape[-2], dtype=centred.dtype)
    return centred @ centred.mT / centred.shape[-1] + EPSILON * eye


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=EPSILON).pow(exponent)[..., None, :] @ vectors.mT
