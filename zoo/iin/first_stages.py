"""The frozen networks whose latents are interpreted, as graphs, and what the IIN asks of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import autoencoder as blocks
from zoo.blocks import image_kinds as _image_kinds  # noqa: F401  registers posterior_sample
from zoo.blocks.embedders import Norm
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.registry import register

SIZE, CLASSES = 16, 10
ROWS = 500  # images that are encoded at a time


@register(
    {
        "mnist-ae": {"channels": 1},
        "fashionmnist-ae": {"channels": 1},
        "cifar-ae": {},
        "cmnist-ae": {},
        "celeba-ae": {"size": 64},
    }
)
def autoencoder(
    size: int = 32, channels: int = 3, down: int = 4, latent: int = 64, norm: Norm = "actnorm", width: int = 64
) -> g.Graph:
    """First stage: image (C, S, S) in [-1, 1] and noise (Z,) -> moments, latent (Z,), reconstruction. A VAE.

    Options as in :func:`zoo.blocks.autoencoder.autoencoder`.
    """
    return blocks.autoencoder(size, channels, down, latent, norm, width)


@register({"cmnist-classifier": {}})
def classifier(
    size: int = 32, channels: int = 3, down: int = 4, latent: int = 64, classes: int = 10, norm: Norm = "actnorm",
    width: int = 64,
) -> g.Graph:  # fmt: skip
    """First stage: image (C, S, S) in [-1, 1] -> representation (Z,), which is interpreted, and logits (K,)."""
    return blocks.classifier(size, channels, down, latent, classes, norm, width)


@register({"digits-ae": {}, "tiny-ae": {"width": 4, "latent": 8, "hidden": 16}})
def digit_autoencoder(width: int = 32, latent: int = 24, hidden: int = 256) -> g.Graph:
    """First stage for digits: coloured image (3, 16, 16) and noise (Z,) -> as the autoencoders of the paper."""
    image, noise = g.input("image", (3, SIZE, SIZE)), g.input("noise", latent)
    moments = g.call(_encoder(width, 2 * latent, hidden), image, name="encoder")
    code = g.posterior_sample(moments, noise, name="sample")
    restored = g.call(_decoder(width, latent, hidden), code, name="decoder")
    return g.graph(inputs=(image, noise), moments=moments, latent=code, reconstruction=restored)


@register({"digits-classifier": {}, "tiny-classifier": {"width": 4, "latent": 8, "hidden": 16}})
def digit_classifier(width: int = 32, latent: int = 24, hidden: int = 128) -> g.Graph:
    """First stage for digits: coloured image (3, 16, 16) -> representation (Z,) and logits of ten classes."""
    image = g.input("image", (3, SIZE, SIZE))
    z = g.call(_encoder(width, latent, hidden), image, name="encoder")
    return g.graph(representation=z, logits=g.linear(z, CLASSES, name="head"))


class FirstStage:
    """A frozen network f = G(E(x)) around the latent z = E(x) (B, C).

    Arguments:
        network: a graph with the nodes "encoder" and either "decoder" (an autoencoder) or "head" (a classifier).
    """

    def __init__(self, network: BuiltGraph) -> None:
        self.network = network.eval().requires_grad_(False)

    @property
    def decodes(self) -> bool:
        """Whether it is an autoencoder."""
        return hasattr(self.network, "decoder")

    def to(self, device: torch.device) -> FirstStage:
        """Moves the network."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def mode(self, images: Tensor) -> Tensor:
        """Images (B, ch, H, W) in [-1, 1] -> the most probable latents (B, C)."""
        return self.posterior(images).mode if self.decodes else self._encode(images)

    @torch.no_grad()
    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images -> latents (B, C) drawn from the posterior; a classifier has but one for each image."""
        return self.posterior(images).sample(generator=generator) if self.decodes else self.mode(images)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> DiagonalGaussian:
        """Images -> an autoencoder's distribution of latents (B, C)."""
        return DiagonalGaussian.of(self._encode(images))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C) -> images (B, ch, H, W) in [-1, 1]; ValueError for a classifier."""
        if not self.decodes:
            raise ValueError("first stage: a classifier has no decoder; take a network that interprets an autoencoder")
        images: Tensor = self._part("decoder")(latents)
        return images

    @torch.no_grad()
    def classify(self, latents: Tensor) -> Tensor:
        """Latents (B, C) -> logits (B, classes); ValueError for an autoencoder."""
        if self.decodes:
            raise ValueError("first stage: an autoencoder has no classes; take a network that interprets a classifier")
        logits: Tensor = self._part("head")(latents)
        return logits

    def _encode(self, images: Tensor) -> Tensor:
        encoder = self._part("encoder")
        return torch.cat([encoder(rows) for rows in images.split(ROWS)])

    def _part(self, name: str) -> Any:
        return self.network.get_submodule(name)


def _encoder(width: int, out: int, hidden: int) -> g.Graph:
    x = g.input("image", (3, SIZE, SIZE))
    for number in range(2):
        x = g.activation(g.conv2d(x, width * 2**number, stride=2), "silu")
    return g.graph(vector=g.mlp(g.flatten(x), out, hidden=hidden, depth=0, activation="silu"))


def _decoder(width: int, latent: int, hidden: int) -> g.Graph:
    side = SIZE // 4
    x = g.mlp(g.input("latent", latent), 2 * width * side * side, hidden=hidden, depth=0, activation="silu")
    x = g.reshape(g.activation(x, "silu"), (2 * width, side, side))
    x = g.activation(g.conv2d(g.upsample(x), width), "silu")
    return g.graph(image=g.activation(g.conv2d(g.upsample(x, mode="linear"), 3), "tanh"))
