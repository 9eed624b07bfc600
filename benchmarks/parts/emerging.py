"""The inverse of an emerging convolution beside a substitution loop in Python, and its time against the pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.parts.rows import Row, Settings, cost, faster, row, shape_text
from flowkit.bench.timing import calling
from flowkit.bijections import AutoregressiveConv, EmergingConv

SIDES = (16, 32, 64, 128)


@torch.no_grad()
def rows(settings: Settings) -> Iterator[Row]:
    """The loop at 32 x 32, then nanoseconds a pixel for growing images; a square of quick ones has 8 channels."""
    channels, side, sides = (8, 8, (8, 16)) if settings.quick else (64, 32, SIDES)
    layer = EmergingConv(channels, 3).to(settings.device)
    for batch in (1,) if settings.quick else (1, 16):
        y = torch.randn(batch, channels, side, side, device=settings.device)
        times = settings.times({"ours": calling(layer.inverse, y), "loop": calling(in_python, layer, y)})
        peer, size = "a loop over pixels in Python", shape_text(tuple(y.shape))
        yield row("emerging 3x3, inverse", size, times["ours"], peer, times["loop"], faster(50))
    images = {side: torch.randn(1, channels, side, side, device=settings.device) for side in sides}
    times = settings.times({str(side): calling(layer.inverse, image) for side, image in images.items()})
    pixel = {side: times[str(side)] * 1e6 / side**2 for side in sides}
    for side in sides[1:]:
        size, peer = shape_text(tuple(images[side].shape)), f"the same at {sides[0]} x {sides[0]}"
        yield row("emerging 3x3, inverse, a pixel", size, pixel[side], peer, pixel[sides[0]], cost(1.25), unit="ns")


def in_python(layer: EmergingConv, y: Tensor) -> Tensor:
    """The inverse, pixel by pixel."""
    for half in (layer["after"], layer["before"]):
        y = substitute(half, y)
    return y


def substitute(layer: AutoregressiveConv, y: Tensor) -> Tensor:
    """The x whose 3 x 3 autoregressive convolution is y: what its window holds already is subtracted at each pixel."""
    weight = layer.masked_weight()
    if layer.reverse:
        y, weight = y.flip(1, 2, 3), weight.flip(0, 1, 2, 3)
    triangle, others = weight[:, :, 1, 1], weight.flatten(1).mT
    x = y.new_zeros(*y.shape[:2], y.shape[2] + 2, y.shape[3] + 2)  # not solved yet: zero
    for h in range(y.shape[2]):
        for w in range(y.shape[3]):
            rest = y[:, :, h, w] - x[:, :, h : h + 3, w : w + 3].flatten(1) @ others
            x[:, :, h + 1, w + 1] = torch.linalg.solve_triangular(triangle, rest.mT, upper=False).mT
    x = x[:, :, 1:-1, 1:-1]
    return x.flip(1, 2, 3) if layer.reverse else x
