"""The frozen networks whose latents are interpreted: small ones for digits as graphs, and what the IIN asks of any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.registry import register

SIZE, CLASSES = 16, 10


@register({"digits-ae": {}, "tiny-ae": {"width": 4, "latent": 8, "hidden": 16}})
def digit_autoencoder(width: int = 32, latent: int = 24, hidden: int = 256) -> g.Graph:
    """First stage for digits: coloured image (3, 16, 16) -> posterior of z (C,); latent (C,) -> image. A VAE."""
    image, z = g.input("image", (3, SIZE, SIZE)), g.input("latent", latent)
    mean, logvar = g.call(_encoder(width, 2 * latent, hidden, halves=True), image, name="encoder")
    return g.graph(
        inputs=(image, z), mean=mean, logvar=logvar, image=g.call(_decoder(width, latent, hidden), z, name="decoder")
    )


@register({"digits-classifier": {}, "tiny-classifier": {"width": 4, "latent": 8, "hidden": 16}})
def digit_classifier(width: int = 32, latent: int = 24, hidden: int = 128) -> g.Graph:
    """First stage for digits: coloured image (3, 16, 16) -> logits of ten classes, linear in the latent z (C,)."""
    image = g.input("image", (3, SIZE, SIZE))
    z = g.call(_encoder(width, latent, hidden, halves=False), image, name="encoder")
    return g.graph(latent=z, logits=g.linear(z, CLASSES, name="head"))


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
        return self._encode(images)[0]

    @torch.no_grad()
    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images -> latents (B, C) drawn from the posterior; a classifier has but one for each image."""
        mean, logvar = self._encode(images)
        if logvar is None:
            return mean
        noise = torch.randn(mean.shape, generator=generator, device=None if generator else mean.device)
        return mean + (0.5 * logvar).exp() * noise.to(mean)

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

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self._part("encoder")(images)
        mean, logvar = found if isinstance(found, tuple) else (found, None)
        return mean.flatten(1), None if logvar is None else clamped(logvar.flatten(1))

    def _part(self, name: str) -> Any:
        return self.network.get_submodule(name)


def clamped(logvar: Tensor) -> Tensor:
    """A log-variance as the authors' Distribution limits it, to [-30, 10]."""
    return logvar.clamp(-30, 10)


def _encoder(width: int, out: int, hidden: int, halves: bool) -> g.Graph:
    x = g.input("image", (3, SIZE, SIZE))
    for number in range(2):
        x = g.activation(g.conv2d(x, width * 2**number, stride=2), "silu")
    x = g.mlp(g.flatten(x), out, hidden=hidden, depth=0, activation="silu")
    if not halves:
        return g.graph(latent=x)
    mean, logvar = g.chunk(x)
    return g.graph(mean=mean, logvar=logvar)


def _decoder(width: int, latent: int, hidden: int) -> g.Graph:
    side = SIZE // 4
    x = g.mlp(g.input("latent", latent), 2 * width * side * side, hidden=hidden, depth=0, activation="silu")
    x = g.reshape(g.activation(x, "silu"), (2 * width, side, side))
    x = g.activation(g.conv2d(g.upsample(x), width), "silu")
    return g.graph(image=g.activation(g.conv2d(g.upsample(x, mode="linear"), 3), "tanh"))
