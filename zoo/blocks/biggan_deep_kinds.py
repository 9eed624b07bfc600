"""Kinds of graph nodes that BigGAN-deep is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit import graph as g
from zoo.blocks.biggan_kinds import SelfAttention
from zoo.blocks.image_kinds import SpectralConv2d

STATISTICS, EPS = 51, 1e-4


@g.register("truncated_norm")
class TruncatedNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-4), by stored statistics of images of latents truncated at a threshold.

    Arguments:
        truncation: 0 to 1; between two thresholds with statistics, theirs are interpolated.
        statistics: how many thresholds there are, in equal steps from 0 to 1.
        exchanged: the weights of the interpolation the wrong way round, as in the port to torch.
        affine: whether a learned scale and shift for each channel follow.
    """

    means: Tensor
    variances: Tensor

    def __init__(
        self,
        channels: int,
        truncation: float = 1.0,
        statistics: int = STATISTICS,
        exchanged: bool = False,
        affine: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= truncation <= 1 or statistics < 2:
            raise ValueError(f"truncation: expected 0 to 1 and 2 statistics or more, got {truncation}, {statistics}.")
        self.register_buffer("means", torch.zeros(statistics, channels))
        self.register_buffer("variances", torch.ones(statistics, channels))
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        part, whole = math.modf(truncation / (1 / (statistics - 1)))
        self.index, self.part = int(whole), 1 - part if exchanged and part else part

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        mean, variance = self._between(self.means), self._between(self.variances)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=EPS)

    def _between(self, table: Tensor) -> Tensor:
        return table[self.index] if self.part == 0 else torch.lerp(table[self.index], table[self.index + 1], self.part)

    def output_shape(self, shape: g.Shape) -> g.Shape:
        return shape


@g.register("deep_attention")
class DeepAttention(SelfAttention):
    """The kind "biggan_attention" with spectral norms as in the kind "spectral_conv2d"."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def pixelwise(self, channels: int, out: int) -> nn.Module:
        """A 1x1 convolution without bias."""
        return SpectralConv2d(channels, out, 1, padding=0, bias=False)


@g.register("first_channels")
class FirstChannels(nn.Module):
    """The first channels of a value (C, *spatial).

    Arguments:
        out: how many.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        if not 1 <= out <= channels:
            raise ValueError(f"out: expected 1 to {channels}, got {out}.")
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (B, out, *spatial)."""
        return x[:, : self.out]

    def output_shape(self, shape: g.Shape) -> g.Shape:
        return (self.out, *shape[1:])
