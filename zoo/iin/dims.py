"""How many dimensions of a latent each factor needs: the dimension estimation (arXiv 2004.13166, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Dims(NamedTuple):
    """What the estimation finds: scores (K,), float64, and as many sizes, which add up to the latent's dimensions."""

    scores: Tensor
    sizes: list[int]


def estimate(first: Tensor, second: Tensor, factor: Tensor, count: int, residual: int | None = None) -> Dims:
    """Sizes of the factors from latents of pairs that share one.

    The score of a factor is the share of the latents' variance that its pairs have in common, from about -1 to 1; the
    residual's is 1. Sizes are floor(softmax(scores) * D), and the last is what is left. This is the authors' code, with
    which the published sizes were found; the paper sums correlations of single dimensions.

    Arguments:
        first, second: (N, D), latents of the images.
        factor: (N,), the factor that each pair shares.
        count: factors, the residual included.
        residual: which one that is, the last by default.

    Raises:
        ValueError: for shapes that do not fit, or a factor without pairs.
    """
    if first.ndim != 2 or first.shape != second.shape or factor.shape != first.shape[:1]:
        shapes = ", ".join(str(tuple(t.shape)) for t in (first, second, factor))
        raise ValueError(f"dims: expected latents (N, D) twice and factors (N,), got {shapes}")
    residual = count - 1 if residual is None else residual
    a, b = first.double(), second.double()
    variance = torch.cat([a, b]).var(0, correction=0).sum()
    scores = torch.ones(count, dtype=torch.float64)
    for index in (k for k in range(count) if k != residual):
        rows = factor == index
        if not rows.any():
            raise ValueError(f"dims: expected pairs that share factor {index}, got none among {len(factor)}")
        mean = (a[rows].mean(0) + b[rows].mean(0)) / 2
        scores[index] = ((a[rows] - mean) * (b[rows] - mean)).mean(0).sum() / variance
    sizes = [int(size) for size in (scores.softmax(0) * first.shape[1]).floor()]
    sizes[-1] = first.shape[1] - sum(sizes[:-1])
    return Dims(scores, sizes)
