"""Kinds of nodes of encoders and discriminators: posterior samples, spectral norms, normalised images, ResNets."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit import graph as g
from flowkit.nets.parts import ChannelNorm
from zoo.blocks.gaussian import DiagonalGaussian


@g.register("posterior_sample")
class PosteriorSample(nn.Module):
    """Moments (2 Z, *spatial), means before log-variances, and noise (Z, *spatial) -> mean + std * noise.

    Arguments:
        deterministic: the mean alone.
    """

    def __init__(self, deterministic: bool = False) -> None:
        super().__init__()
        self.deterministic = deterministic

    def forward(self, moments: Tensor, noise: Tensor) -> Tensor:
        """(B, 2 Z, *spatial) and (B, Z, *spatial) to (B, Z, *spatial)."""
        return DiagonalGaussian.of(moments, self.deterministic).sample(noise)

    def output_shape(self, moments: g.Shape, noise: g.Shape) -> g.Shape:
        if moments[0] != 2 * (noise[0] or 0) or moments[1:] != noise[1:]:
            raise ValueError(f"expected twice as many moments as noise, got shapes {moments} and {noise}.")
        return noise


WARM_UP = 15
"""Power iterations on fresh weights."""


@g.register("spectral_conv2d")
class SpectralConv2d(nn.Conv2d):
    """A convolution by weight / sigma, its largest singular value, after one power iteration a call in training.

    torch's ``spectral_norm`` of 2018 (arXiv 1802.05957), with its state: ``u`` and ``v`` are buffers. Theirs are
    unrelated at first, so that sigma is anything, 0 too, until a training has begun; here they start as singular
    vectors.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self, in_channels: int, out: int, kernel: int = 3, stride: int = 1, padding: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out, kernel, stride, padding, bias=bias)
        self.register_buffer("u", F.normalize(torch.randn(out), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(self.weight[0].numel()), dim=0))
        for _ in range(0 if self.weight.is_meta else WARM_UP):  # without values there is nothing to warm up
            self._iterate()

    @torch.no_grad()
    def _iterate(self) -> None:
        """One power iteration."""
        matrix = self.weight.flatten(1)
        self.v.copy_(F.normalize(matrix.mT @ self.u, dim=0, eps=1e-12))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=1e-12))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H', W')."""
        if self.training:
            self._iterate()
        sigma = self.u.clone() @ (self.weight.flatten(1) @ self.v.clone())
        return F.conv2d(x, self.weight / sigma, self.bias, self.stride, self.padding)


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's images in [0, 1]."""


@g.register("imagenet_normalise")
class ImagenetNormalise(nn.Module):
    """Images (3, H, W) in [-1, 1] to what networks trained on ImageNet expect: (0.5 (x + 1) - mean) / std.

    Arguments:
        times: how often; 2 in the published autoencoders of Net2Net and the invariances, by a mistake of theirs.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: g.Shape, times: int = 1) -> None:
        super().__init__()
        if shape[0] != 3:
            raise ValueError(f"expected images of 3 channels, got {shape}.")
        self.times = times
        for name, values in zip(("mean", "std"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape."""
        for _ in range(self.times):
            x = (0.5 * (x + 1) - self.mean) / self.std
        return x

    def output_shape(self, shape: g.Shape) -> g.Shape:
        return shape


class _OwnResult(ChannelNorm):
    """Leaves a result that may be changed in place, as torchvision's blocks do; actnorm's backward reads its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clone()


@g.register("resnet")
class ResNet(nn.Module):
    """torchvision's ResNet without its last layer: images (3, H, W) to features (512,) or (2048,).

    Arguments:
        layers: 18, 34, 50 or 101.
        norm: batch normalisation, or actnorm in its place.
    """

    def __init__(self, shape: g.Shape, layers: int = 101, norm: Literal["batch", "actnorm"] = "batch") -> None:
        super().__init__()
        from torchvision import models

        makers = {18: models.resnet18, 34: models.resnet34, 50: models.resnet50, 101: models.resnet101}
        if layers not in makers or shape[0] != 3:
            raise ValueError(f"expected 18, 34, 50 or 101 layers and 3 channels, got {layers} and {shape}.")
        by = nn.BatchNorm2d if norm == "batch" else partial(_OwnResult, log_scale=False)
        self.model = makers[layers](norm_layer=by)
        self.features = self.model.fc.in_features
        self.model.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, features)."""
        found: Tensor = self.model(x)
        return found

    def output_shape(self, shape: g.Shape) -> g.Shape:
        return (self.features,)
