"""Tensor functions of invertible layers: fused native kernels, autograd, and a plain-torch reference beside each."""

from flowkit.ops.actnorm import actnorm, actnorm_inverse
from flowkit.ops.additive import additive_coupling, additive_coupling_inverse
from flowkit.ops.affine import affine_coupling, affine_coupling_inverse
from flowkit.ops.convolution import convolution
from flowkit.ops.leaky_relu import leaky_relu, leaky_relu_inverse
from flowkit.ops.linear import channel_linear
from flowkit.ops.made import MaskedNetwork, has_made_inverse, made_affine_inverse
from flowkit.ops.masked_conv import autoregressive_mask, masked_conv_solve
from flowkit.ops.mixture_logistic import mixture_logistic_coupling, mixture_logistic_coupling_inverse
from flowkit.ops.mlp_coupling import Layers, mlp_coupling
from flowkit.ops.permute import permute_channels
from flowkit.ops.rational_quadratic import rational_quadratic_coupling, rational_quadratic_coupling_inverse
from flowkit.ops.reversal import Reversal
from flowkit.ops.stacked_linear import stacked_linear
from flowkit.ops.stacked_mlp import stacked_mlp
from flowkit.ops.step import additive_step, additive_step_inverse, affine_step, affine_step_inverse
from flowkit.ops.workspace import Workspace, use_workspace

__all__ = [
    "Layers",
    "MaskedNetwork",
    "Reversal",
    "Workspace",
    "actnorm",
    "actnorm_inverse",
    "additive_coupling",
    "additive_coupling_inverse",
    "additive_step",
    "additive_step_inverse",
    "affine_coupling",
    "affine_coupling_inverse",
    "affine_step",
    "affine_step_inverse",
    "autoregressive_mask",
    "channel_linear",
    "convolution",
    "has_made_inverse",
    "leaky_relu",
    "leaky_relu_inverse",
    "made_affine_inverse",
    "masked_conv_solve",
    "mixture_logistic_coupling",
    "mixture_logistic_coupling_inverse",
    "mlp_coupling",
    "permute_channels",
    "rational_quadratic_coupling",
    "rational_quadratic_coupling_inverse",
    "stacked_linear",
    "stacked_mlp",
    "use_workspace",
]
