"""Kinds of nodes of BigGAN's generator: spectrally normalised layers, conditional norms, self-attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit import graph as g
from flowkit.nets.parts import ChannelNorm

Unit = Literal["add", "clamp"]
EPS = 1e-4
"""Of the generator's spectral and batch norms."""


class SpectralWeight(nn.Module):
    """A weight divided by its largest singular value, estimated by one power iteration from a stored vector.

    ``weight / sigma`` with v = n(W' u), sigma = n(W v) . (W v), W of shape (out, rest). The stored u is never written
    back, in training neither: a fixed function of weight and u, whose gradient flows through the iteration, as in
    Net2Net's BigGAN (arXiv 1809.11096). The stored v, of the length of u in their files, is kept for these alone.

    Arguments:
        shape: of the weight.
        unit: how n avoids a division by zero: a / (|a| + 1e-4), or, with "clamp", a / max(|a|, 1e-4).
    """

    u: Tensor
    v: Tensor

    def __init__(self, *shape: int, unit: Unit = "add") -> None:
        super().__init__()
        self.unit = unit
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02))  # its scale does not count
        for name in ("u", "v"):
            self.register_buffer(name, F.normalize(torch.randn(shape[0]), dim=0))

    def normalised(self) -> Tensor:
        """The weight of the map, of the weight's shape."""
        matrix = self.weight.flatten(1)
        image = matrix @ self._unit(matrix.mT @ self.u)
        return self.weight / (self._unit(image) @ image)

    def _unit(self, vector: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(vector)
        return vector / (length + EPS if self.unit == "add" else length.clamp(min=EPS))


@g.register("biggan_conv")
class BigGANConv(SpectralWeight):
    """A convolution with a spectrally normalised weight, which keeps the size.

    Arguments:
        unit: see :class:`SpectralWeight`.
    """

    def __init__(self, channels: int, out: int, kernel: int = 3, bias: bool = True, unit: Unit = "add") -> None:
        super().__init__(out, channels, kernel, kernel, unit=unit)
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H, W)."""
        return F.conv2d(x, self.normalised(), self.bias, padding=self.weight.shape[-1] // 2)


@g.register("biggan_linear")
class BigGANLinear(SpectralWeight):
    """A linear map with a spectrally normalised weight.

    Arguments:
        unit: see :class:`SpectralWeight`.
    """

    def __init__(self, channels: int, out: int, bias: bool = True, unit: Unit = "add") -> None:
        super().__init__(out, channels, unit=unit)
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, out)."""
        return F.linear(x, self.normalised(), self.bias)


@g.register("biggan_norm")
class ConditionalNorm(nn.Module):
    """A norm of an image (C, H, W), then a scale 1 + gamma(c) and a shift beta(c), linear in a condition (K,).

    Arguments:
        over: "batch" in all published generators; "actnorm": see the kind "norm".
        unit: see :class:`SpectralWeight`.
    """

    def __init__(
        self, shapes: tuple[g.Shape, ...], over: Literal["batch", "actnorm"] = "batch", unit: Unit = "add"
    ) -> None:
        super().__init__()
        channels, condition = shapes[0][0] or 0, shapes[1][0] or 0
        batch = over == "batch"
        self.norm = nn.BatchNorm2d(channels, EPS, affine=False) if batch else ChannelNorm(channels, log_scale=False)
        self.gamma = BigGANLinear(condition, channels, bias=False, unit=unit)
        self.beta = BigGANLinear(condition, channels, bias=False, unit=unit)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) and (B, K) to (B, C, H, W)."""
        scale, shift = 1 + self.gamma(condition), self.beta(condition)
        return self.norm(x) * scale[..., None, None] + shift[..., None, None]

    def output_shape(self, image: g.Shape, condition: g.Shape) -> g.Shape:
        return image


@g.register("biggan_attention")
class SelfAttention(nn.Module):
    """x + gamma times what every pixel gathers from a quarter of the pixels (arXiv 1805.08318); gamma starts at 0.

    Arguments:
        unit: see :class:`SpectralWeight`.
    """

    def __init__(self, channels: int, unit: Unit = "add") -> None:
        super().__init__()
        self.unit = unit
        self.theta = self.pixelwise(channels, channels // 8)
        self.phi = self.pixelwise(channels, channels // 8)
        self.g = self.pixelwise(channels, channels // 2)
        self.out = self.pixelwise(channels // 2, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def pixelwise(self, channels: int, out: int) -> nn.Module:
        """A 1x1 convolution without bias."""
        return BigGANConv(channels, out, 1, bias=False, unit=self.unit)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), H and W even, to the same shape."""
        keys = F.max_pool2d(self.phi(x), 2).flatten(2)
        values = F.max_pool2d(self.g(x), 2).flatten(2)
        weights = (self.theta(x).flatten(2).mT @ keys).softmax(2)
        gathered = (values @ weights.mT).unflatten(2, x.shape[2:])
        return self.gamma * self.out(gathered) + x


@g.register("channels_last_image")
class ChannelsLastImage(nn.Module):
    """A vector read as an image with the channels last, (H, W, C), and turned to (C, H, W).

    Arguments:
        side: H and W.
    """

    def __init__(self, channels: int, side: int = 4) -> None:
        super().__init__()
        if channels % side**2:
            raise ValueError(f"side: expected {channels} channels to be divisible by {side**2}, side squared")
        self.side, self.channels = side, channels // side**2

    def forward(self, x: Tensor) -> Tensor:
        """(B, H W C) -> (B, C, H, W)."""
        return x.unflatten(1, (self.side, self.side, -1)).permute(0, 3, 1, 2).contiguous()

    def output_shape(self, shape: g.Shape) -> g.Shape:
        return (self.channels, self.side, self.side)
