"""Embedders: the network that turns a representation into what the couplings of a conditional flow are given.

One for vectors, one for feature maps, as Net2Net and the invariances use them (arXiv 2005.13580, 2008.01777), with
their authors' key names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from flowkit import graph as g
from zoo.blocks.flow import NORM
from zoo.layouts import CONV1X1, Rule

Norm = Literal["actnorm", "batch", "instance"]
SLOPE = 0.2


def dense_dims(channels: int, out: int, depth: int) -> list[int]:
    """``depth`` widths from ``channels`` to ``out`` in equal steps, rounded down: 4096 -> 2773 -> 1450 -> 128."""
    if depth < 2:
        raise ValueError(f"embedder: expected a depth of 2 or more, input and output included, got {depth}")
    return [int(width) for width in np.floor(np.linspace(channels, out, depth))]


def dense(z: g.Value, dims: Sequence[int]) -> g.Value:
    """A representation (K,) through linear maps "linear_i"; actnorm and leaky ReLU (0.2) between them.

    Arguments:
        dims: the width before and after every linear map; the first is K.

    Raises:
        ValueError: if there are fewer than two, or the first is not K.
    """
    if len(dims) < 2 or dims[0] != z.channels:
        raise ValueError(f"embedder: expected two or more widths that start with {z.channels}, got {list(dims)}")
    last = len(dims) - 2
    for i, width in enumerate(dims[1:]):
        z = g.linear(z, width, name=f"linear_{i}")
        if i < last:
            z = g.norm(z, "actnorm", name=f"norm_{i}")
            z = g.activation(z, "leaky_relu", slope=SLOPE, name=f"activation_{i}")
    return z


def widths(down: int, width: int = 64) -> list[int]:
    """Channels after each of ``down`` convolutions: 64, 128, 256, 512, and 1024 from then on, for a width of 64."""
    return [width * min(2**i, 16) for i in range(down)]


def spatial(z: g.Value, out: int, down: int, norm: Norm = "actnorm", width: int = 64) -> g.Value:
    """A map (K, S, S) halved ``down`` times by convolutions, then one over all that is left: a vector (out,).

    Arguments:
        norm: after each convolution, before its leaky ReLU (0.2).
        width: of the first convolution, 64 in the papers.

    Raises:
        ValueError: if the map is not square, ``down`` is not positive, or nothing is left of the map.
    """
    _, height, breadth = (*z.shape, None, None)[:3]
    if height is None or height != breadth or down < 1 or height // 2**down < 1:
        raise ValueError(
            f"embedder: expected a square map that can be halved {down} (1 or more) times, got {list(z.shape)}"
        )
    for i, channels in enumerate(widths(down, width)):
        z = g.conv(z, channels, kernel=4, stride=2, padding=1, bias=False, name=f"conv_{i}")
        z = g.norm(z, norm, name=f"norm_{i}")
        z = g.activation(z, "leaky_relu", slope=SLOPE, name=f"activation_{i}")
    z = g.conv(z, out, kernel=height // 2**down, padding="valid", name="last")
    vector: g.Value = g.flatten(z, name="flatten")
    return vector


def dense_rules(maps: int, ours: str = "", theirs: str = "net.") -> list[Rule]:
    """Rules for :func:`dense` with this many linear maps: theirs are 1x1 convolutions, three places a step."""
    rules = []
    for i in range(maps):
        rules += [Rule(rf"linear_{i}\.weight", f"{3 * i}.weight", CONV1X1), Rule(rf"linear_{i}\.bias", f"{3 * i}.bias")]
        rules += [Rule(rf"norm_{i}\.norm\.{rule.ours}", f"{3 * i + 1}.{rule.theirs}", rule.form) for rule in NORM]
    return [rule.under(ours, theirs) for rule in rules]


def spatial_rules(ours: str = "", theirs: str = "", norm: Norm = "actnorm") -> list[Rule]:
    """Rules for :func:`spatial`."""
    stage = r"feature_layers.\1.sub_layers."
    rules = [Rule(r"conv_(\d+)\.weight", stage + "0.weight"), *norm_rules(r"norm_(\d+)\.", f"{stage}1.", norm, 2)]
    rules.append(Rule(r"last\.(weight|bias)", r"dense_encode.sub_layers.0.\1"))
    return [rule.under(ours, theirs) for rule in rules]


def norm_rules(ours: str, theirs: str, norm: Norm, group: int = 1) -> list[Rule]:
    """Rules for ``g.norm``: an actnorm's three entries, or those of torch's own layers.

    Arguments:
        ours: regular expression of the node's name, which may hold groups.
        group: number of the next group.
    """
    if norm == "actnorm":
        return [Rule(rf"{ours}norm\.{rule.ours}", theirs + rule.theirs, rule.form) for rule in NORM]
    fields = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
    return [Rule(ours + fields, rf"{theirs}\{group}")]
