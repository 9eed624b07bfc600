"""First experts of the experiments: modules that turn what a batch holds into a flow's condition. All of them fixed."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data.images import downsample
from zoo.data.warp import random_tps
from zoo.experts.classifiers import Greybox


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
        latents: Tensor = self.expert.encode(downsample(images, self.size))
        return latents


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
    """Layer diagnosis and edges: a layer of a classifier, stylised or not."""

    def __init__(self, expert: Greybox) -> None:
        super().__init__(expert)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to (B, K) or (B, K, H', W')."""
        z: Tensor = self.expert.encode(images)
        return z


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


class Segmentation(Fixed):
    """What a segmentation network says of each pixel.

    Arguments:
        expert: images (B, 3, H, W), normalised as it was trained with, to logits (B, K, h, w), or a dictionary that has
            them under "out" as torchvision's networks return it.
        size: S of the condition; logits are resized to it bilinearly.
        hard: whether the condition is the class, one-hot, and not the logits.
    """

    def __init__(self, expert: nn.Module, size: int, hard: bool) -> None:
        super().__init__(expert)
        self.size, self.hard = size, hard

    def forward(self, images: Tensor) -> Tensor:
        """To (B, K, S, S)."""
        answer = self.expert(images)
        logits = F.interpolate(
            answer if isinstance(answer, Tensor) else answer["out"], (self.size, self.size), mode="bilinear"
        )
        if not self.hard:
            return logits
        return F.one_hot(logits.argmax(1), logits.shape[1]).permute(0, 3, 1, 2).float()


class BigBiGANEncoder(nn.Module):
    """Raises ModuleNotFoundError: no weights of BigBiGAN's encoder exist outside TensorFlow Hub."""

    def __init__(self) -> None:
        raise ModuleNotFoundError(
            "bigbigan: its encoder was only published as a TensorFlow Hub module (deepmind/bigbigan-resnet50/1), which "
            "this project does not run; encode images with it elsewhere, keep its samples 'z_sample' (N, 120), and "
            "train net2net/sbert-to-bigbigan on these latents"
        )
