"""The patch discriminator of the autoencoders' losses (arXiv 1611.07004, as Net2Net and the IIN use it), as a graph."""

from __future__ import annotations

from typing import Literal

from flowkit import graph as g
from zoo.blocks import kinds as _kinds  # noqa: F401  registers the zoo's own kinds
from zoo.blocks.embedders import SLOPE, norm_rules
from zoo.layouts import Rule

Norm = Literal["batch", "actnorm"]


def discriminator(
    channels: int = 3, size: int = 64, width: int = 64, layers: int = 3, norm: Norm = "batch", spectral: bool = False
) -> g.Graph:
    """Image (C, S, S) in [-1, 1] -> a map of logits (1, h, w), one for each patch: real or not.

    Arguments:
        layers: convolutions that halve the map; one more keeps it, one more gives the logits.
        spectral: spectral normalisation of every convolution, beside ``norm``.
    """
    image = g.input("image", (channels, size, size))
    conv = g.spectral_conv2d if spectral else g.conv2d
    x = conv(image, width, kernel=4, stride=2, padding=1, name="conv_0")
    x = g.activation(x, "leaky_relu", slope=SLOPE, name="activation_0")
    for i in range(1, layers + 1):
        bias, stride = norm == "actnorm", 2 if i < layers else 1
        x = conv(x, width * min(2**i, 8), kernel=4, stride=stride, padding=1, bias=bias, name=f"conv_{i}")
        x = g.norm(x, norm, name=f"norm_{i}")
        x = g.activation(x, "leaky_relu", slope=SLOPE, name=f"activation_{i}")
    return g.graph(logits=conv(x, 1, kernel=4, stride=1, padding=1, name=f"conv_{layers + 1}"))


def discriminator_rules(
    layers: int = 3, norm: Norm = "batch", spectral: bool = False, theirs: str = "main."
) -> list[Rule]:
    """Rules for :func:`discriminator`, whose layers the authors number in one sequence."""
    rules = []
    for i in range(layers + 2):
        index = 3 * i - 1 if i else 0
        rules.append(Rule(rf"conv_{i}\.bias", f"{index}.bias"))
        if spectral:
            rules.append(Rule(rf"conv_{i}\.weight", f"{index}.weight_orig"))
            rules.append(Rule(rf"conv_{i}\.([uv])", rf"{index}.weight_\1"))
        else:
            rules.append(Rule(rf"conv_{i}\.weight", f"{index}.weight"))
        rules += norm_rules(rf"norm_{i}\.", f"{index + 1}.", norm)
    return [rule.under(theirs=theirs) for rule in rules]
