"""Net2Net's flows as graphs (arXiv 2005.13580): between two experts, with or without a condition, configurations."""

from __future__ import annotations

from typing import Any

from flowkit import graph as g
from zoo.blocks import embedders, flow
from zoo.registry import register

Options = dict[str, Any]
TRANSFER: Options = {"embedding": 10, "embedder_norm": "batch"}
SBERT: Options = {"depth": 24, "embedder_norm": "batch"}
ATTRIBUTES = 40
"""Of CelebA."""
STUFF = 182
"""Classes of COCO-Stuff, the segmentation network's."""
RELEASED: dict[str, Options] = {
    "superresolution-faces": {"condition": 128, "embedder_norm": "batch"},
    "anime-photography": {"condition": 2, **TRANSFER},
    "portraits-photography": {"condition": 2, **TRANSFER},
    "celeba-celebahq-ffhq": {"condition": 3, **TRANSFER},
    "sbert-to-coco-ae256": {"dim": 256, "condition": 1024, "embedding": 256, **SBERT},
    "sbert-to-bigbigan": {"dim": 120, "condition": 1024, "embedding": 256, **SBERT},
    "sbert-to-biggan256": {"dim": 268, "condition": 768, "embedding": 268, **SBERT},
}
"""As in the authors' configuration files."""
OURS: dict[str, Options] = {
    "attributes-celeba": {"condition": ATTRIBUTES, **TRANSFER},
    "humans-animals": {"condition": 2, **TRANSFER},
    "shape-appearance": {"condition": 128, "embedder_norm": "batch"},
    "tiny": {"dim": 8, "condition": 6, "embedding": 5, "depth": 2, "hidden": 16, "embedder_hidden": 12},
}
"""Experiments of the paper without a released configuration: sizes like those of the released ones, chosen by us."""
SPATIAL: dict[str, Options] = {
    "segmentation-argmax": {"channels": STUFF, "size": 128, "down": 5},
    "segmentation-logits": {"channels": STUFF, "size": 128, "down": 5},
    "edges-stylized-resnet50": {"channels": 1024, "size": 16, "down": 2},
    "inpainting-resnet50": {"channels": 1024, "size": 16, "down": 2},
    "layers-early": {"channels": 256, "size": 64, "down": 4},
    "layers-middle": {"channels": 1024, "size": 16, "down": 2},
    "layers-last": {"channels": STUFF, "size": 128, "down": 5},
    "tiny-spatial": {"dim": 8, "channels": 3, "size": 8, "embedding": 5, "down": 2, "depth": 2, "hidden": 16},
}
"""Experiments with feature maps as condition, none of which was released: all sizes are ours.

The segmentation network is a DeepLab-type one on a ResNet, its last layer one-hot ("argmax") or as it is, at half of
256 pixels; the others are maps of a ResNet-50 on 256 pixels: "early" its layer 1, "middle", edges and inpainting its
layer 3.
"""


@register({**RELEASED, **OURS})
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


@register(SPATIAL)
def spatial_translator(
    dim: int = 128,
    channels: int = 1024,
    size: int = 16,
    embedding: int = 128,
    down: int = 2,
    depth: int = 20,
    hidden: int = 1024,
    layers: int = 2,
    activation: flow.Activation = "none",
    exact_logdet: bool = True,
    conditioning: flow.Conditioning = "none",
) -> g.Graph:
    """As :func:`translator`, given a feature map (K, S, S): the paper's embedder H (table 4b) before the flow.

    Arguments:
        channels, size: K and S.
        down: how often the embedder halves the map.
    """
    x, known = g.input("x", dim), g.input("condition", (channels, size, size))
    inner = g.input("condition", known.shape)
    h = g.call(g.graph(h=embedders.spatial(inner, embedding, down)), known, name="embedder")
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


@register({"conditional-flow": {}, "tiny-conditional-flow": {"dim": 8, "embedding": 5, "depth": 2, "hidden": 16}})
def conditional_flow(
    dim: int = 128,
    embedding: int = 128,
    depth: int = 20,
    hidden: int = 1024,
    layers: int = 2,
    activation: flow.Activation = "none",
    exact_logdet: bool = True,
    conditioning: flow.Conditioning = "none",
) -> g.Graph:
    """The flow alone: x (D,) <-> z ~ N(0, 1), given an embedding (E,) of anything. The authors' ``ConditionalFlow``."""
    x, h = g.input("x", dim), g.input("embedding", embedding)
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
    return g.graph(inputs=(x, h), z=z)


@register(
    {
        "unconditional": {},
        "pure-affine": {"coupling_only": True},
        "tiny-unconditional": {"dim": 8, "depth": 2, "hidden": 16},
    }
)
def unconditional(
    dim: int = 128,
    depth: int = 20,
    hidden: int = 1024,
    layers: int = 2,
    exact_inverse: bool = True,
    coupling_only: bool = False,
) -> g.Graph:
    """x (D,) <-> z ~ N(0, 1).

    The authors' ``UnconditionalFlatCouplingFlow`` and, with ``coupling_only``, their ``PureAffineFlatCouplingFlow``.

    Arguments:
        exact_inverse: False inverts an odd number of channels as the authors' code does, which is not the inverse.
        coupling_only: no actnorms and no shuffles.
    """
    x = g.input("x", dim)
    z = flow.flow(
        x, None, depth=depth, hidden=hidden, layers=layers, exact_inverse=exact_inverse, coupling_only=coupling_only
    )
    return g.graph(inputs=(x,), z=z)


from zoo.net2net import autoencoders as _autoencoders  # noqa: E402, F401  registers the small autoencoder
from zoo.net2net import generators as _generators  # noqa: E402, F401  registers the generators
from zoo.net2net import small as _small  # noqa: E402, F401  registers the networks of the runs
