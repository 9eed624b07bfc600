"""Conditioner networks, and recipes for them: ``mlp(hidden=64)(in_channels, out_channels)``."""

from flowkit.nets.convnet import ConvNet
from flowkit.nets.made import MADE
from flowkit.nets.mlp import MLP, ResidualMLP
from flowkit.nets.pair import PairedMLP
from flowkit.nets.parts import ACTIVATIONS
from flowkit.nets.recipe import KINDS, Recipe, make, register

mlp = register("mlp", MLP)
residual_mlp = register("residual_mlp", ResidualMLP)
paired_mlp = register("paired_mlp", PairedMLP)
convnet = register("convnet", ConvNet)
made = register("made", MADE)

__all__ = [
    "ACTIVATIONS",
    "KINDS",
    "MADE",
    "MLP",
    "ConvNet",
    "PairedMLP",
    "Recipe",
    "ResidualMLP",
    "convnet",
    "made",
    "make",
    "mlp",
    "paired_mlp",
    "register",
    "residual_mlp",
]
