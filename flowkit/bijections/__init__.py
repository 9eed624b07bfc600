"""Invertible layers with exact log-determinants, and how to chain them.

Mixed precision: under ``torch.autocast`` the conditioner networks run in bfloat16 or float16. The layers stay in the
type of x, float32: what a network gives is widened before the operator, 1x1 maps and their matrices are never
narrowed, and log-dets are float32. Beside float32 throughout, results and gradients are then off by about one
rounding of the networks' type: tested are 2e-2 (bfloat16) and 5e-3 (float16) of the largest value, for gradients
twice that, of splines, whose log-det has a slope that jumps at knots, six times. Both directions of one coupling see
the same passive channels, so that its round trip is as exact as in float32 (tested: 1e-4). In a chain, the rounding
of one layer can tip a rounding inside the next network: few entries, but by as much as above. Whoever needs exact
inverses of a chain runs the inverse, and the forward that it undoes, without autocast. ``layer.bfloat16()`` narrows
the layers too; log-dets remain float32.
"""

from flowkit.bijections.activation import LeakyReLU
from flowkit.bijections.actnorm import ActNorm
from flowkit.bijections.all_in_one import AllInOneBlock
from flowkit.bijections.autoregressive import MaskedAutoregressive
from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.bijections.compose import Compose, Inverse
from flowkit.bijections.convolution import AutoregressiveConv, EmergingConv, PeriodicConv
from flowkit.bijections.coupling import AdditiveCoupling, AffineCoupling
from flowkit.bijections.folded import FixedLinear, NormalizedLinear
from flowkit.bijections.linear import InvertibleConv1x1, InvertibleLinear
from flowkit.bijections.multiscale import Merge, MultiScale, Split
from flowkit.bijections.permutation import Flip, Permutation, Shuffle, Swap
from flowkit.bijections.reshape import CheckerboardSqueeze, CheckerboardUnsqueeze, Haar, Squeeze, Unsqueeze
from flowkit.bijections.splines import MixtureLogisticCoupling, RationalQuadraticCoupling, RationalQuadraticSpline
from flowkit.bijections.step import AdditiveStep, AffineStep
from flowkit.bijections.woodbury import WoodburyTransform

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AdditiveStep",
    "AffineCoupling",
    "AffineStep",
    "AllInOneBlock",
    "AutoregressiveConv",
    "Bijection",
    "CheckerboardSqueeze",
    "CheckerboardUnsqueeze",
    "Compose",
    "EmergingConv",
    "FixedLinear",
    "Flip",
    "Haar",
    "Inverse",
    "InvertibleConv1x1",
    "InvertibleLinear",
    "LeakyReLU",
    "MaskedAutoregressive",
    "Merge",
    "MixtureLogisticCoupling",
    "MultiScale",
    "NormalizedLinear",
    "PeriodicConv",
    "Permutation",
    "RationalQuadraticCoupling",
    "RationalQuadraticSpline",
    "Shuffle",
    "Split",
    "Squeeze",
    "Swap",
    "Unsqueeze",
    "WoodburyTransform",
    "batch_logdet",
]
