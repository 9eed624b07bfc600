"""The networks of the invariances as graphs (arXiv 2008.01777): flows given a representation, flows to concepts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from flowkit import graph as g
from flowkit.graph import BuiltGraph, Input
from zoo.blocks import autoencoder, embedders, flow
from zoo.blocks import biggan as big
from zoo.iin.graph import factor_transformer
from zoo.registry import register

IMAGENET = 1000
CELEBA = "hair,glasses,gender,beard,age,smiling,residual"
ANIMALS, ANIMALS_RESTRICTED = 149, 10
BIGGAN256 = 268
"""The latent of BigGAN-256: 140 numbers of noise and 128 of class embedding."""
HALVINGS = {224: 5, 56: 4, 28: 3, 14: 2, 13: 2, 7: 1}
"""How often the embedder of a feature map halves it, by its side (published configurations)."""
RESNET101 = {"input": (3, 224), "maxpool": (64, 56), "layer1": (256, 56), "layer2": (512, 28), "layer3": (1024, 14),
             "layer4": (2048, 7)}  # fmt: skip
ALEXNET: dict[str, dict[str, Any]] = {
    "alexnet-conv5": {"condition": 256, "size": 13, "down": 2},
    "alexnet-fc6": {"condition": 4096},
    "alexnet-fc7": {"condition": 4096},
    "alexnet-fc8": {"condition": IMAGENET},
    "alexnet-softmax": {"condition": IMAGENET},
}


def _resnet101(name: str, classes: int) -> dict[str, dict[str, Any]]:
    """The cuts of a ResNet-101 with a head of its own, as configurations ``<name>-<cut>``."""
    cuts: dict[str, dict[str, Any]] = {
        cut: {"condition": channels, "size": side, "down": HALVINGS[side]}
        for cut, (channels, side) in RESNET101.items()
    }
    cuts["avgpool"] = {"condition": 2048, "embedder_depth": 6}
    cuts["fc"] = cuts["softmax"] = {"condition": classes}
    return {f"{name}-{cut}": options for cut, options in cuts.items()}


FACENET: dict[str, dict[str, Any]] = {
    "facenet-input": {"condition": 3, "size": 160, "down": 5, "hidden": 512},
    "facenet-conv4a": {"condition": 192, "size": 36, "down": 3, "hidden": 512},
    "facenet-mixed6a": {"condition": 896, "size": 8, "down": 1, "hidden": 512},
    "facenet-avgpool1a": {"condition": 1792, "hidden": 512},
    "facenet-embedding": {"condition": 512, "hidden": 512},
}
"""Width and depth are the paper's (table of hyper-parameters); it does not tell the embedders: as for the ResNets."""


@register(
    {
        **ALEXNET,
        "resnet50-avgpool": {"dim": BIGGAN256, "condition": 2048},
        "stylized-resnet50-avgpool": {"dim": BIGGAN256, "condition": 2048},
        **_resnet101("resnet101", ANIMALS_RESTRICTED),
        **_resnet101("resnet101-animals149", ANIMALS),
        **FACENET,
        "tiny": {"dim": 8, "condition": 20, "depth": 4, "hidden": 10},
        "tiny-spatial": {"dim": 8, "condition": 4, "size": 7, "down": 1, "depth": 4, "hidden": 10},
    }
)
def cinn(
    dim: int = 128,
    condition: int = 4096,
    size: int = 1,
    down: int = 4,
    embedder_depth: int = 4,
    embedder_dims: tuple[int, ...] = (),
    depth: int = 20,
    hidden: int = 1024,
    layers: int = 2,
    activation: flow.Activation = "none",
    exact_logdet: bool = True,
    conditioning: flow.Conditioning = "none",
) -> g.Graph:
    """A complete latent x (D,) <-> the invariances v ~ N(0, 1) of a representation z, "condition".

    The authors' ``ConditionalTransformer``; options of the flow as in :func:`zoo.blocks.flow.flow`. The embedding of z
    has D numbers.

    Arguments:
        dim: D.
        condition: K, the channels of z.
        size: S; z is a vector (K,) where it is 1, else a feature map (K, S, S).
        down: how often the embedder of a feature map halves it.
        embedder_depth: for a vector, how many widths from K to D, in equal steps, both included.
        embedder_dims: the widths themselves instead, K and D included.
    """
    known = g.input("condition", condition if size == 1 else (condition, size, size))
    x = g.input("x", dim)
    h = g.call(embedder(dim, condition, size, down, embedder_depth, embedder_dims), known, name="embedder")
    v = flow.flow(
        x,
        h,
        depth=depth,
        hidden=hidden,
        layers=layers,
        activation=activation,
        exact_logdet=exact_logdet,
        conditioning=conditioning,
    )
    return g.graph(inputs=(x, known), v=v)


def embedder(dim: int, condition: int, size: int, down: int, depth: int, dims: tuple[int, ...] = ()) -> g.Graph:
    """A representation (K,) or (K, S, S) -> what the couplings are given (D,); options as in :func:`cinn`."""
    known = g.input("condition", condition if size == 1 else (condition, size, size))
    if size > 1:
        return g.graph(h=embedders.spatial(known, dim, down))
    widths = dims or embedders.dense_dims(condition, dim, depth)
    if widths[-1] != dim:
        raise ValueError(f"embedder_dims: expected widths that end with dim={dim}, got {list(widths)}")
    return g.graph(h=embedders.dense(known, widths))


@register(
    {
        "concepts": {},
        "concepts-tiny": {"dim": 10, "concepts": "digit,colour,residual", "sizes": "2,3,5", "depth": 3, "hidden": 9},
    }
)
def concepts(
    dim: int = 128,
    concepts: str = CELEBA,
    sizes: str = "",
    depth: int = 12,
    hidden: int = 512,
    layers: int = 2,
) -> g.Graph:
    """A complete latent x (D,) <-> named concepts and what they leave, each ~ N(0, 1): the IIN's flow, the paper's e.

    Arguments:
        concepts: their names, the residual last; the outputs are called so.
        sizes: of each, such as 20,20,88; those of the paper were not published. Equal chunks if empty.
        dim, depth, hidden, layers: as in :func:`zoo.iin.graph.factor_transformer`.
    """
    return factor_transformer(dim, concepts, sizes, depth, hidden, layers)


from zoo.invariances import small as _small  # noqa: E402, F401  registers the small systems, whose flows are these


@register({"dequantiser": {}, "dequantiser-tiny": {"dim": 6, "hidden": 9}})
def dequantiser(dim: int = 128, hidden: int = 4096, layers: int = 2) -> g.Graph:
    """The VAE that makes BigGAN's class embeddings (D,) continuous before the texture-bias flows are trained on them.

    The authors' ``FlatVAE``; see :func:`zoo.blocks.autoencoder.dequantiser`.
    """
    return autoencoder.dequantiser(dim, dim, hidden, layers)


@register({"biggan-128": {}, "biggan-256": {"size": 256, "latent": 140}, "biggan-tiny": {"width": 4, "classes": 10}})
def biggan(size: int = 128, latent: int = 120, width: int = 96, classes: int = IMAGENET) -> g.Graph:
    """BigGAN's generator: a latent (Z,) and class probabilities (K,) -> image (3, S, S) in [-1, 1].

    See :func:`zoo.blocks.biggan.generator`, whose node "painter" takes a class embedding instead.
    """
    return big.generator(size, latent, width, classes)


@register(
    {
        "bigae-animals": {},
        "bigae-animalfaces": {"norm": "batch", "last_norm": "batch"},
        "bigae-tiny": {"latent": 104, "width": 4, "layers": 18, "classes": 10, "hidden": 16},
    }
)
def bigae(
    norm: big.Norm = "actnorm",
    last_norm: big.Norm = "actnorm",
    normalised: int = 1,
    latent: int = 128,
    width: int = 96,
    layers: int = 101,
    classes: int = IMAGENET,
    hidden: int = 2000,
) -> g.Graph:
    """The complete description of an image: image (3, 128, 128) in [-1, 1] -> latent (D,) -> image.

    The authors' ``BigAE``; see :func:`zoo.blocks.biggan.autoencoder`. Their weights need ``normalised=2``.
    """
    return big.autoencoder(
        128, latent, width, norm, last_norm, normalised, layers=layers, classes=classes, hidden=hidden
    )


def beyond_embedder(network: BuiltGraph) -> BuiltGraph:
    """The rest of a :func:`cinn`, given the embedding of z as "embedder": so that z is embedded once for all samples.

    Its modules are those of ``network``.
    """
    graph = network.graph
    x = next(value for value in graph.inputs if value.name == "x")
    inputs = x, Input("embedder", graph.shapes["embedder"])
    rest = replace(graph, inputs=inputs, nodes=tuple(node for node in graph.nodes if node.name != "embedder"))
    with torch.device("meta"):
        built = rest.build()
    for node in rest.nodes:
        setattr(built, node.name, network.get_submodule(node.name))
    return built.train(network.training)
