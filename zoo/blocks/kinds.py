"""Kinds of graph nodes that only published systems need."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit import graph as g
from flowkit import ops
from flowkit.bijections import LeakyReLU, Swap
from zoo.blocks import biggan_deep_kinds as _biggan_deep_kinds  # noqa: F401  registers others
from zoo.blocks import biggan_kinds as _biggan_kinds  # noqa: F401  registers others
from zoo.blocks import image_kinds as _image_kinds  # noqa: F401  registers the others


@g.register("legacy_leaky_relu")
class LegacyLeakyReLU(LeakyReLU):
    """A leaky ReLU that reports a log-det of 0, as the code of Net2Net and of the invariances does; not exact.

    Arguments:
        slope: of the negative side, 0.9 in both.
    """

    in_place = one_operator = False

    def __init__(self, slope: float = 0.9) -> None:
        super().__init__(slope)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and zeros (B,)."""
        y, logdet = super().forward(x)
        return y, torch.zeros_like(logdet)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and zeros (B,)."""
        x, logdet = super().inverse(y)
        return x, torch.zeros_like(logdet)


@g.register("legacy_swap")
class LegacySwap(Swap):
    """A swap whose inverse moves ``split`` channels to the end as well, which undoes it for halves of one size only.

    The reverse pass of Net2Net's coupling does this to an odd number of channels; not exact.
    """

    in_place = one_operator = False

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and zeros (B,)."""
        return super().forward(y)
