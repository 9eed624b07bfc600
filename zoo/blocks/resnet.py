"""The encoder of the big autoencoders: a ResNet and a linear map to the posterior's moments, as a graph."""

from __future__ import annotations

from typing import Literal

from flowkit import graph as g
from zoo.blocks import kinds as _kinds  # noqa: F401  registers the zoo's own kinds
from zoo.layouts import CHANNELS, CONV1X1, FLAG, Rule

Norm = Literal["batch", "actnorm"]


def encoder(
    size: int = 128, channels: int = 3, out: int = 256, layers: int = 101, norm: Norm = "actnorm", normalised: int = 1
) -> g.Graph:
    """Image (C, S, S) in [-1, 1] -> features (512,) or (2048,), and the moments (out,) linear in them.

    ``ResnetEncoder`` of arXiv 2005.13580 and 2008.01777.

    Arguments:
        channels: other than 3 are mapped to 3 by a 3x3 convolution without padding; then ``normalised`` is 0.
        layers: 18, 34, 50 or 101.
        normalised: how often images are normalised with ImageNet's mean and deviation. Once is right, the authors do it
            twice, and their weights need that.
    """
    image = g.input("image", (channels, size, size))
    x = image
    if channels != 3:
        if normalised:
            raise ValueError(f"encoder: expected normalised=0 for {channels} channels, got {normalised}")
        x = g.conv2d(x, 3, padding=0, name="match")
    if normalised:
        x = g.imagenet_normalise(x, times=normalised, name="normalise")
    features = g.resnet(x, layers=layers, norm=norm, name="backbone")
    return g.graph(moments=g.linear(features, out, name="head"), features=features)


def encoder_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for :func:`encoder`."""
    rules = [
        Rule(r"match\.(weight|bias)", r"model.in_ch_match.\1"),
        Rule(r"backbone\.model\.(.*)\.norm\.shift", r"model.\1.loc", CHANNELS),
        Rule(r"backbone\.model\.(.*)\.norm\.scale", r"model.\1.scale", CHANNELS),
        Rule(r"backbone\.model\.(.*)\.norm\.initialized", r"model.\1.initialized", FLAG),
        Rule(r"backbone\.model\.(.*)", r"model.\1"),
        Rule(r"head\.weight", "model.fc.sub_layers.0.weight", CONV1X1),
        Rule(r"head\.bias", "model.fc.sub_layers.0.bias"),
    ]
    return [rule.under(ours, theirs) for rule in rules]
