"""Network Fusion's networks as graphs (arXiv 2005.13580, version 1): flows into the latents of a BigGAN."""

from __future__ import annotations

from flowkit import graph as g
from zoo.blocks import autoencoder, biggan, flow
from zoo.blocks.biggan_kinds import EPS
from zoo.net2net import graph as net2net
from zoo.registry import register

BERT, RESNET50 = 768, 2048
"""Numbers of the representations: the sentence's, and the ResNet-50's after its average pool."""


@register(
    {
        "bert-to-biggan256": {"embedder_norm": "batch"},
        "sketch-to-biggan": {"condition": RESNET50, "embedder_norm": "batch"},
        "tiny": {
            "latent": 120,
            "condition": 64,
            "embedding": 16,
            "depth": 3,
            "hidden": 64,
            "embedder_hidden": 64,
            "embedder_norm": "batch",
        },
    }
)
def translator(
    latent: int = 140,
    condition: int = BERT,
    embedding: int = 268,
    depth: int = 24,
    hidden: int = 1024,
    embedder_hidden: int = 256,
    embedder_norm: flow.Norm = "none",
) -> g.Graph:
    """The flow: x = (latent z, dequantised class embedding) <-> v ~ N(0, 1), given the other network's representation.

    Net2Net's :func:`zoo.net2net.graph.translator`, whose released configuration for 256 pixels "bert-to-biggan256" is.
    No sizes were released for sketches; they are ours.

    Arguments:
        latent: of the BigGAN: 140 at 256 pixels, 120 at 128. x has 128 numbers more.
    """
    return net2net.translator(
        dim=latent + biggan.EMBEDDING,
        condition=condition,
        embedding=embedding,
        depth=depth,
        hidden=hidden,
        embedder_hidden=embedder_hidden,
        embedder_norm=embedder_norm,
    )


@register({"biggan256": {}, "tiny-biggan": {"size": 128, "latent": 120, "width": 4, "classes": 10}})
def generator(
    size: int = 256, latent: int = 140, width: int = 96, classes: int = biggan.CLASSES, last_eps: float = EPS
) -> g.Graph:
    """The second expert, a BigGAN: :func:`zoo.blocks.biggan.generator`."""
    return biggan.generator(size, latent, width, classes, last_eps=last_eps)


@register({"dequantiser": {}, "tiny-dequantiser": {"hidden": 16}})
def dequantiser(hidden: int = 4096) -> g.Graph:
    """The autoencoder that turns one of 1,000 class embeddings (128,) and noise (128,) into a density over (128,)."""
    return autoencoder.dequantiser(biggan.EMBEDDING, biggan.EMBEDDING, hidden)
