"""Reads the panels of a grid back from its PNG file."""

from pathlib import Path

import torch
from matplotlib.image import imread
from torch import Tensor

from zoo.pictures import CELL, MARGIN, SPACE

GREY = 1 / 127.5
"""By how much a number in [-1, 1] differs at most from what a file with 256 greys holds."""


def panels(path: Path, rows: int, columns: int, side: int) -> Tensor:
    """The panels (R, C, 3, S, S) in [-1, 1] of a grid of images of side S, counted from its end, where no label is."""
    picture = torch.from_numpy(imread(path).copy())[..., :3]
    scale = max(1, -(-CELL // side))
    step = side * scale + SPACE
    found = torch.empty(rows, columns, 3, side, side)
    for i in range(rows):
        for j in range(columns):
            top = picture.shape[0] - MARGIN - (rows - i) * step
            left = picture.shape[1] - MARGIN - (columns - j) * step
            panel = picture[top : top + side * scale : scale, left : left + side * scale : scale]
            found[i, j] = panel.permute(2, 0, 1) * 2 - 1
    return found


def same(panel: Tensor, image: Tensor) -> bool:
    """Whether a panel shows an image, to one grey of 256 (numbers outside [-1, 1] are clipped)."""
    return bool(torch.allclose(panel, image.clamp(-1, 1).expand_as(panel), atol=1.01 * GREY))
