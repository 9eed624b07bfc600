"""Net2Net's networks as graphs (arXiv 2005.13580): the conditional flow between two experts, and its configurations."""

from __future__ import annotations

from flowkit import graph as g
from zoo.blocks import flow
from zoo.registry import register

TRANSFER = {"embedding": 10, "embedder_norm": "batch"}
SBERT = {"depth": 24, "embedder_norm": "batch"}


@register(
    {
        "superresolution-faces": {"condition": 128, "embedder_norm": "batch"},
        "anime-photography": {"condition": 2, **TRANSFER},
        "portraits-photography": {"condition": 2, **TRANSFER},
        "celeba-celebahq-ffhq": {"condition": 3, **TRANSFER},
        "sbert-to-coco-ae256": {"dim": 256, "condition": 1024, "embedding": 256, **SBERT},
        "sbert-to-bigbigan": {"dim": 120, "condition": 1024, "embedding": 256, **SBERT},
        "sbert-to-biggan256": {"dim": 268, "condition": 768, "embedding": 268, **SBERT},
        "tiny": {"dim": 8, "condition": 6, "embedding": 5, "depth": 2, "hidden": 16, "embedder_hidden": 12},
    }
)
def translator(
    dim: int = 128,
    condition: int = 128,
    embedding: int = 128,
    depth: int = 20,
    hidden: int = 1024,
    layers: int = 2,
    activation: flow.Activation = "none",
    exact_logdet: bool = True,
    conditioning: flow.Conditioning = "none",
    embedder_hidden: int = 256,
    embedder_layers: int = 2,
    embedder_norm: flow.Norm = "none",
) -> g.Graph:
    """The conditional flow: the second expert's latent x (D,) <-> z ~ N(0, 1), given the first's representation (K,).

    The authors' ``ConditionalFlatCouplingFlow``; options as in :func:`zoo.blocks.flow.flow`.
    """
    x, known = g.input("x", dim), g.input("condition", condition)
    h = g.call(embedder(condition, embedding, embedder_hidden, embedder_layers, embedder_norm), known, name="embedder")
    z = flow.flow(
        x,
        h,
        depth=depth,
        hidden=hidden,
        layers=layers,
        activation=activation,
        exact_logdet=exact_logdet,
        conditioning=conditioning,
    )
    return g.graph(inputs=(x, known), z=z)


def embedder(condition: int, embedding: int, hidden: int, layers: int, norm: flow.Norm) -> g.Graph:
    """A representation (K,) -> what the couplings are given (E,)."""
    known = g.input("condition", condition)
    return g.graph(h=flow.fully_connected(known, embedding, hidden, layers, norm))
