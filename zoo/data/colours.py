"""Scikit-learn's digits in two colours, ink and paper, drawn anew each time: a set of which much can be forgotten."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data.digits import Split, digits

SIZE = 16
CANDIDATES = 4  # pairs of colours, of which the one with the most contrast is taken


def large_digits(seed: int = 0) -> dict[str, Split]:
    """The parts of :func:`zoo.data.digits.digits`, images enlarged to (N, 1, 16, 16)."""
    return {
        name: Split(
            F.interpolate(part.images, (SIZE, SIZE), mode="bicubic", align_corners=False).clamp(-1, 1), part.labels
        )
        for name, part in digits(seed).items()
    }


def draw_colours(count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Colours of ink and paper, (B, 3) each in [-1, 1], uniform but for some contrast between them."""
    ink, paper = torch.rand(2, CANDIDATES, count, 3, generator=generator) * 2 - 1
    best = (ink - paper).square().sum(2).argmax(0), torch.arange(count)
    return ink[best], paper[best]


def palette(labels: Tensor) -> Tensor:
    """One bright colour for each of ten labels (B,), (B, 3) in [-1, 1]: equal steps around the circle of hues."""
    hue = labels[:, None] / 10 * 6 + torch.tensor([0.0, 4.0, 2.0])
    return ((hue % 6 - 3).abs() - 1).clamp(0, 1) * 2 - 1


def coloured(images: Tensor, ink: Tensor, paper: Tensor) -> Tensor:
    """Grey images (B, 1, H, W), -1 paper and 1 ink, in colours (B, 3) -> (B, 3, H, W), all in [-1, 1]."""
    return torch.lerp(paper[:, :, None, None], ink[:, :, None, None], (images + 1) / 2)
