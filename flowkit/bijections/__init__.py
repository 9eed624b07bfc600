"""Invertible layers with exact log-determinants, and how to chain them."""

from flowkit.bijections.activation import LeakyReLU
from flowkit.bijections.actnorm import ActNorm
from flowkit.bijections.autoregressive import MaskedAutoregressive
from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.bijections.compose import Compose, Inverse
from flowkit.bijections.coupling import AdditiveCoupling, AffineCoupling
from flowkit.bijections.linear import InvertibleConv1x1, InvertibleLinear
from flowkit.bijections.multiscale import Merge, MultiScale, Split
from flowkit.bijections.permutation import Flip, Permutation, Shuffle, Swap
from flowkit.bijections.reshape import Haar, Squeeze, Unsqueeze

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Compose",
    "Flip",
    "Haar",
    "Inverse",
    "InvertibleConv1x1",
    "InvertibleLinear",
    "LeakyReLU",
    "MaskedAutoregressive",
    "Merge",
    "MultiScale",
    "Permutation",
    "Shuffle",
    "Split",
    "Squeeze",
    "Swap",
    "Unsqueeze",
    "batch_logdet",
]
