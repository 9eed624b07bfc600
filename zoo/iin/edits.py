"""Edits of interpreted latents: exchanging factors, interpolating, and walking at random in one factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zoo.iin.losses import shared

Factors = list[Tensor]


def swap(first: Sequence[Tensor], second: Sequence[Tensor], factor: Tensor) -> Factors:
    """The first images' factors (B, N_k, ...), those that a pair shares taken from the second ones.

    Arguments:
        factor: (B,), as :func:`zoo.iin.losses.shared` reads it.
    """
    pairs = enumerate(zip(first, second, strict=True))
    return [torch.where(_like(shared(factor, k), a).bool(), b, a) for k, (a, b) in pairs]


def cross(kept: Sequence[Tensor], donor: Sequence[Tensor], index: int) -> Factors:
    """All factors of ``kept`` but ``index``, which is the donor's.

    Raises:
        ValueError: if there is no such factor.
    """
    if not 0 <= index < len(kept):
        raise ValueError(f"factor: expected 0 to {len(kept) - 1}, got {index}")
    return [*kept[:index], donor[index], *kept[index + 1 :]]


def interpolate(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Straight lines (steps, B, ...) from ``first`` to ``second``, ends included."""
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, the ends, got {steps}")
    return torch.stack([torch.lerp(first, second, k / (steps - 1)) for k in range(steps)])


def walk(start: Tensor, steps: int, rho: float, generator: torch.Generator) -> Iterator[Tensor]:
    """A random walk whose stationary law is N(0, 1): z <- rho z + sqrt(1 - rho^2) noise (Ornstein-Uhlenbeck).

    The paper says that its walks are such processes, but not how long their steps are.

    Arguments:
        start: (B, ...), the first value that is given out.
        steps: values in all.
        rho: correlation of a value with the one before, in [0, 1).
        generator: of the noise.

    Raises:
        ValueError: for rho outside [0, 1).
    """
    if not 0 <= rho < 1:
        raise ValueError(f"rho: expected a number in [0, 1), got {rho}")
    for step in range(steps):
        if step:
            noise = torch.randn(start.shape, generator=generator, dtype=start.dtype).to(start.device)
            start = rho * start + (1 - rho**2) ** 0.5 * noise
        yield start


def _like(mask: Tensor, value: Tensor) -> Tensor:
    return mask.reshape(-1, *(1,) * (value.ndim - 1))
