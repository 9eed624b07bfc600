"""First experts of the experiments: modules that turn what a batch holds into a flow's condition. All of them fixed."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.graph import BuiltGraph
from zoo.data.images import downsample
from zoo.data.warp import random_tps
from zoo.experts.classifiers import Greybox, Hooked


class Autoencoder(Protocol):
    """The second expert g, and the first where both are of one kind."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, D)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, D) to images (B, 3, H, W) in [-1, 1]."""


class Fixed(nn.Module):
    """In eval mode for good, and without gradients."""

    def __init__(self, expert: nn.Module) -> None:
        super().__init__()
        self.expert: Any = expert.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Fixed:
        super().train(False)
        return self


class SmallImages(Fixed):
    """Super-resolution: the latents of images reduced to ``size``, by leaving pixels out as the authors do.

    Arguments:
        expert: an autoencoder of images of that size.
    """

    def __init__(self, expert: nn.Module, size: int = 32) -> None:
        super().__init__(expert)
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to (B, K)."""
        latents: Tensor = self.expert.encode(self.reduced(images))
        return latents

    def reduced(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to what the expert sees of them, (B, 3, size, size)."""
        return downsample(images, self.size)


class Warped(Fixed):
    """Shape and appearance: the latents of images under a random thin-plate-spline warp, which keeps appearance.

    What the flow leaves to z ~ N(0, 1) is then the shape. The expert is the autoencoder that the flow translates to.
    """

    def __init__(self, expert: nn.Module, strength: float = 1.0) -> None:
        super().__init__(expert)
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to (B, K)."""
        latents: Tensor = self.expert.encode(random_tps(images, self.strength))
        return latents


class Features(Fixed):
    """Layer diagnosis and edges: a layer of a classifier, stylised or not, or of a segmentation network.

    Arguments:
        size: pixels of a side that feature maps are resized to, bilinearly; 0 leaves them.
    """

    def __init__(self, expert: Greybox | Hooked, size: int = 0) -> None:
        super().__init__(expert)
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to (B, K) or (B, K, H', W')."""
        z: Tensor = self.expert.encode(images)
        if self.size in (0, z.shape[-1]):
            return z
        return F.interpolate(z, (self.size, self.size), mode="bilinear")


class Classes(Features):
    """What a segmentation network says each pixel is, one-hot."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to (B, K, H', W')."""
        logits = super().forward(images)
        return F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).float()


class Inpainting(Features):
    """Features of images with a hole: a random rectangle of half the sides is grey (our choice of hole)."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to (B, K) or (B, K, H', W')."""
        return super().forward(with_hole(images))


def with_hole(images: Tensor) -> Tensor:
    """Images (B, C, H, W) with a grey rectangle of H / 2 x W / 2, at a random place in each."""
    sides = [torch.arange(side, device=images.device) for side in images.shape[-2:]]
    inside = []
    for places in sides:
        half = len(places) // 2
        first = torch.randint(0, len(places) - half + 1, (len(images), 1), device=images.device)
        inside.append((places >= first) & (places < first + half))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0.0)


class Dequantiser(Fixed):
    """A class embedding made continuous: what the dequantiser restores from a sample of its posterior.

    Arguments:
        expert: a graph as net2net/dequantiser.
    """

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, C) to (B, C), with noise drawn anew."""
        size = self.expert.graph.input_shapes["noise"][0]
        noise = torch.randn(len(embedding), size, device=embedding.device, dtype=embedding.dtype)
        restored: Tensor = self.expert(embedding, noise)[-1]
        return restored


class Attributes(nn.Module):
    """CelebA's attributes, -1 or +1, as 0 or 1."""

    def forward(self, attributes: Tensor) -> Tensor:
        """(B, K) to float32 (B, K)."""
        return (attributes > 0).float()


class OwnLatents(nn.Module):
    """BigBiGAN's generator as a second expert; what is encoded are latents already.

    Arguments:
        net: a graph of latents and class probabilities, of which the first class is used.
    """

    def __init__(self, net: BuiltGraph) -> None:
        super().__init__()
        self.net: Any = net.eval().requires_grad_(False)

    def encode(self, codes: Tensor) -> Tensor:
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D) to images (B, 3, S, S) in [-1, 1]."""
        first = torch.zeros(len(codes), self.net.graph.input_shapes["classes"][0], device=codes.device)
        first[:, 0] = 1
        images: Tensor = self.net(codes, first)
        return images
