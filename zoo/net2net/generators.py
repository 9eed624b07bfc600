"""The generators that Net2Net translates to, as registered graphs: BigGAN, BigGAN-deep, that of BigBiGAN."""

from __future__ import annotations

from flowkit import graph as g
from zoo.blocks import biggan as blocks
from zoo.blocks import biggan_deep as deep
from zoo.blocks.biggan_kinds import Unit
from zoo.registry import register


@register(
    {
        "biggan128": {},
        "biggan256": {"size": 256, "latent": 140},
        "tiny-biggan": {"width": 4, "classes": 10},
        "bigbigan-generator": {"unit": "clamp", "last_eps": 1e-5},
        "tiny-bigbigan-generator": {"width": 4, "classes": 3, "unit": "clamp", "last_eps": 1e-5},
    }
)
def biggan(
    size: int = 128,
    latent: int = 120,
    width: int = 96,
    classes: int = blocks.CLASSES,
    unit: Unit = "add",
    last_eps: float = 1e-4,
) -> g.Graph:
    """BigGAN's generator: a latent (Z,) ~ N(0, 1) and class probabilities (K,) -> image (3, S, S) in [-1, 1].

    See :func:`zoo.blocks.biggan.generator`, and :class:`zoo.experts.biggan.BigGAN` for class numbers and embeddings.
    BigBiGAN's has one class, the first.
    """
    return blocks.generator(size, latent, width, classes, unit=unit, last_eps=last_eps)


@register(
    {
        "biggan-deep-128": {},
        "biggan-deep-256": {"size": 256},
        "biggan-deep-512": {"size": 512},
        "tiny-biggan-deep": {"width": 4, "latent": 6, "classes": 5},
    }
)
def biggan_deep(
    size: int = 128,
    latent: int = 128,
    width: int = 128,
    classes: int = blocks.CLASSES,
    truncation: float = 1.0,
    exchanged: bool = False,
) -> g.Graph:
    """BigGAN-deep's generator: a latent (Z,), truncated, and class probabilities (K,) -> image (3, S, S) in [-1, 1].

    See :func:`zoo.blocks.biggan_deep.generator`. The port to torch runs with ``exchanged=True``.
    """
    layers = deep.published_layers(size)
    return deep.generator(layers, deep.ATTENTION, latent, width, classes, truncation, exchanged=exchanged)


@register(
    {
        "ae-faces256": {},
        "ae-celeba-celebahq-ffhq256": {},
        "ae-anime256": {},
        "ae-portraits256": {},
        "ae-coco256": {"latent": 256},
    }
)
def bigae(size: int = 256, latent: int = 128, width: int = 96, normalised: int = 1) -> g.Graph:
    """The big autoencoder: image (3, S, S) in [-1, 1] and noise (Z,) -> moments (2 Z,), latent, reconstruction.

    The authors' ``BigAE``; see :func:`zoo.blocks.biggan.autoencoder`. Their weights need ``normalised=2``.
    """
    return blocks.autoencoder(size, latent, width, normalised=normalised)
