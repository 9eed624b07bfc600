"""Random thin-plate-spline warps: the same appearance in another shape (Net2Net, shape and appearance)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 4
"""Control points a side."""


def kernel(squared: Tensor) -> Tensor:
    """U = r^2 ln r^2 of squared distances, 0 at 0."""
    return torch.xlogy(squared, squared)


def control_grid(side: int = GRID) -> Tensor:
    """(side * side, 2) points (x, y) over [-1, 1]^2, row by row."""
    line = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def offsets(count: int, strength: float = 1.0, generator: torch.Generator | None = None, side: int = GRID) -> Tensor:
    """Random displacements (count, side * side, 2) of the control points, U(-1, 1) / 4 * strength; the border stays.

    Raises:
        ValueError: for a grid without inner points.
    """
    if side < 3:
        raise ValueError(f"warp: expected a grid of 3 points a side or more, got {side}")
    moved = (torch.rand(count, side, side, 2, generator=generator) * 2 - 1) / 4 * strength
    moved[:, [0, -1]] = 0
    moved[:, :, [0, -1]] = 0
    return moved.reshape(count, -1, 2)


def spline(points: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """The thin-plate spline through (points, values), elsewhere.

    Arguments:
        points: (K, 2).
        values: (B, K, 2), at the points.
        at: (N, 2).

    Returns:
        (B, N, 2); affine ``values`` come back exactly.
    """
    count = len(points)
    affine = torch.cat([points.new_ones(count, 1), points], 1)
    system = points.new_zeros(count + 3, count + 3)
    system[:count, :count] = kernel(torch.cdist(points, points).square())
    system[:count, count:], system[count:, :count] = affine, affine.T
    right = torch.cat([values, values.new_zeros(len(values), 3, 2)], 1)
    weights = torch.linalg.solve(system.double(), right.double()).to(values.dtype)
    basis = torch.cat([kernel(torch.cdist(at, points).square()), at.new_ones(len(at), 1), at], 1)
    return basis @ weights


def warp(images: Tensor, displacements: Tensor) -> Tensor:
    """Images (B, C, H, W) looked up at places moved by a spline through the control points' displacements.

    Arguments:
        displacements: (B, K, 2) of :func:`offsets`, in units of half a side.

    Raises:
        ValueError: if the batch sizes differ, or K is no square.
    """
    side = round(displacements.shape[1] ** 0.5)
    if len(images) != len(displacements) or side**2 != displacements.shape[1]:
        raise ValueError(
            f"warp: expected displacements ({len(images)}, K, 2) with a square K, got {tuple(displacements.shape)}"
        )
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    pixels, points = torch.stack([x, y], -1).reshape(-1, 2).to(images), control_grid(side).to(images)
    places = spline(points, points + displacements.to(images), pixels).reshape(-1, height, width, 2)
    return F.grid_sample(images, places, align_corners=True)


def random_tps(images: Tensor, strength: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Each image of a batch (B, C, H, W) under a random warp of its own."""
    return warp(images, offsets(len(images), strength, generator))
