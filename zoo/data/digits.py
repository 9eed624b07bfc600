"""Scikit-learn's 1,797 handwritten digits, 8x8 pixels, which come with the package: no download."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.extras import require

SHARES = {"test": 0.2, "validation": 0.1}


@dataclass(frozen=True)
class Split:
    """Part of a labelled data set.

    Arguments:
        images: (N, 1, 8, 8), float32 in [-1, 1]; -1 is paper, 1 is ink.
        labels: (N,), int64 in 0..9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


def digits(seed: int = 0) -> dict[str, Split]:
    """The digits as ``train`` (70 %), ``validation`` (10 %) and ``test`` (20 %), with equal shares of every class.

    Raises:
        ModuleNotFoundError: without scikit-learn.
    """
    require("sklearn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.as_tensor(bunch.target, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {"train": [], "validation": [], "test": []}
    for label in range(10):
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        test, validation = (round(len(members) * SHARES[part]) for part in ("test", "validation"))
        groups = members.tensor_split((test, test + validation))
        for part, chosen in zip(("test", "validation", "train"), groups, strict=True):
            parts[part].append(chosen)
    return {part: Split(images[torch.cat(chosen)], labels[torch.cat(chosen)]) for part, chosen in parts.items()}


def augment(images: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """Slightly rotated, scaled and shifted copies, as another writer's hand would.

    Arguments:
        images: (B, 1, 8, 8) in [-1, 1].
        strength: 1 is up to 6 degrees, 4 % and 0.4 pixels; 0 returns the images.
        generator: torch's default generator if None.
    """
    if strength == 0:
        return images
    uniform = torch.rand(4, len(images), generator=generator) * 2 - 1
    angle = uniform[0] * strength * math.radians(6)
    scale = 1 + uniform[1] * strength * 0.04
    shift = uniform[2:] * strength * 0.4 * 2 / images.shape[-1]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    maps = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, mode="bicubic", align_corners=False).clamp(0, 2) - 1
