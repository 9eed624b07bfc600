"""Net2Net's small autoencoder and the VAE of BigGAN's class embeddings, as graphs."""

from __future__ import annotations

from flowkit import graph as g
from zoo.blocks import autoencoder as small
from zoo.blocks.embedders import Norm
from zoo.registry import register


@register({"ae-faces32": {}})
def autoencoder(
    size: int = 32, channels: int = 3, down: int = 4, latent: int = 128, norm: Norm = "actnorm", width: int = 64
) -> g.Graph:
    """Expert: image (C, S, S) in [-1, 1] and noise (Z,) -> moments, latent (Z,), reconstruction; ``BasicAE``.

    Options as in :func:`zoo.blocks.autoencoder.autoencoder`.
    """
    return small.autoencoder(size, channels, down, latent, norm, width)


@register({"dequantiser": {}, "dequantiser-tiny": {"channels": 10, "latent": 8, "hidden": 12}})
def dequantiser(channels: int = 128, latent: int = 128, hidden: int = 4096, layers: int = 2) -> g.Graph:
    """The VAE that makes BigGAN's class embeddings continuous; options as in ``zoo.blocks.autoencoder.dequantiser``."""
    return small.dequantiser(channels, latent, hidden, layers)
