"""The IIN's networks as graphs (arXiv 2004.13166): the flow that interprets a latent, whole or split into factors."""

from __future__ import annotations

from flowkit import graph as g
from zoo.blocks import flow
from zoo.iin import factors as parts
from zoo.iin import first_stages as _first_stages  # noqa: F401  registers the networks that are interpreted
from zoo.registry import register

COLOURED, FACES = "digit,colour,residual", "eyeglasses,male,no_beard,smiling,residual"


@register(
    {
        "mnist": {},
        "fashionmnist": {},
        "cifar": {},
        "celeba": {},
        "digits-unsupervised": {"dim": 24, "depth": 6, "hidden": 128},
        "tiny": {"dim": 8, "depth": 2, "hidden": 16},
    }
)
def transformer(dim: int = 64, depth: int = 12, hidden: int = 512, layers: int = 2) -> g.Graph:
    """The unsupervised IIN: a latent (C,) of a frozen network <-> z ~ N(0, 1) (C,), the authors' VectorTransformer.

    Arguments:
        dim: C, even.
        depth: blocks of the flow.
        hidden, layers: width and hidden-to-hidden layers of the conditioner networks.
    """
    x = g.input("x", dim)
    return g.graph(z=_flow(x, depth, hidden, layers))


@register(
    {
        "cmnist-factors": {"factors": COLOURED},
        "celeba-factors": {"factors": FACES},
        "cmnist-classifier-factors": {"factors": COLOURED, "sizes": "22,11,31"},
        "digits": {"factors": COLOURED, "dim": 24, "depth": 6, "hidden": 128},
        "digits-classifier-factors": {"factors": COLOURED, "dim": 24, "depth": 6, "hidden": 128},
        "tiny-factors": {"factors": COLOURED, "dim": 8, "depth": 2, "hidden": 16},
    }
)
def factor_transformer(
    dim: int = 64,
    factors: str = COLOURED,
    sizes: str = "",
    depth: int = 12,
    hidden: int = 512,
    layers: int = 2,
) -> g.Graph:
    """The supervised IIN: a latent (C,) <-> factors (N_k,), each ~ N(0, 1), the authors' FactorTransformer.

    Arguments:
        factors: names of the concepts and, last, of what they leave; the outputs are called so.
        sizes: N_k, such as 22,11,31, as the dimension estimation gives them; equal chunks if empty.
        dim, depth, hidden, layers: as in :func:`transformer`.
    """
    names = parts.names(factors)
    return split_transformer(dim, names, parts.sizes(sizes, dim, names), depth, hidden, layers)


def split_transformer(dim: int, names: list[str], sizes: list[int], depth: int, hidden: int, layers: int) -> g.Graph:
    """The flow and the split of its result into named factors of these sizes."""
    x = g.input("x", dim)
    z = _flow(x, depth, hidden, layers)
    outputs = g.split(z, sizes=sizes, name="factors") if len(sizes) > 1 else (z,)
    return g.graph(**dict(zip(names, outputs, strict=True)))


def _flow(x: g.Value, depth: int, hidden: int, layers: int) -> g.Value:
    if x.channels % 2:
        raise ValueError(f"dim: expected an even number of channels, which the couplings halve, got {x.channels}")
    return flow.flow(x, None, depth=depth, hidden=hidden, layers=layers)
