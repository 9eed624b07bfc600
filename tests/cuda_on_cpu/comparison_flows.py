"""As comparison.py, for the operators of whole layers: spline couplings, triangular solves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import torch

from flowkit import bijections, nets
from flowkit.ops import rational_quadratic as splines
from flowkit.ops._operator import OPERATORS
from flowkit.ops.affine import affine_options
from flowkit.ops.made import ACTIVATIONS, RESIDUALS
from tests.cuda_on_cpu.comparison import Case, Namespace, all_close, backward, close, forward


def made_inverse(ops: Namespace, case: Case, condition: int, options: dict[str, Any], order: list[int]) -> None:
    """The fused inverse of an affine autoregressive transform against one pass of its network for each rank."""
    torch.manual_seed(case.seed)
    net = nets.made(**options)
    layer = bijections.MaskedAutoregressive(case.channels, net, condition=condition, order=order).to(case.dtype)
    y, given = case.tensor(), torch.randn(case.batch, condition, dtype=case.dtype) if condition else None
    network = cast(nets.MADE, layer.net).network(given)
    codes = ACTIVATIONS.index(network.activation), RESIDUALS.index(network.residual)
    weights, biases = ([t.detach() for t in tensors] for tensors in (network.weights, network.biases))
    affine = affine_options("tanh", None, 1.0, None, 1.0, "s*x+t", "scale_shift_interleaved")
    results = ops.made_affine_inverse(y, weights, biases, network.units, network.counts, *codes, *affine)
    truth = layer.double().inverse(y.double(), None if given is None else given.double())  # recorded: a loop
    all_close(replace(case, slope=10), results, [t.detach() for t in truth], reduced=(1,))


def parametric(ops: Namespace, operator: str, case: Case, parameters: int, options: tuple[float, ...]) -> None:
    """A coupling with ``parameters`` raw parameters for each element."""
    torch.manual_seed(case.seed)
    case = replace(case, slope=20)
    x, params, permutation = 2 * case.tensor(), case.tensor(case.count * parameters), case.permutation()
    tensors, options = (params, permutation), (case.begin, *options, case.inverse)
    forward(ops, operator, case, x, tensors, options, permutation is None)
    backward(ops, operator, case, x, tensors, options)


def rational_quadratic(ops: Namespace, case: Case, bins: int, preset: str, tails: str | None = None) -> None:
    """Rational-quadratic splines."""
    options = splines.options(bins, preset, tails, None, None, None, 1.0)
    parametric(ops, "rational_quadratic_coupling", case, splines.parameter_count(*options), options)


def masked_conv(ops: Namespace, case: Case, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    """The solve with an autoregressive convolution, in place too, and its gradients."""
    torch.manual_seed(case.seed)
    operator = OPERATORS["masked_conv_solve"]
    x, grad, channels = case.tensor(), case.tensor(), case.channels
    weight = torch.randn(channels, channels, *kernel, dtype=torch.float64)
    weight *= 0.3 / math.sqrt(max(weight[:1].numel(), 1))
    centre = weight.reshape(channels, channels, -1)[:, :, math.prod(kernel) // 2]
    centre.diagonal().copy_(torch.rand(channels) + 0.7)
    weight = weight.to(case.dtype)
    (truth,) = operator.reference(x.double(), weight.double(), dilation, case.inverse)
    close(case, ops.masked_conv_solve(x, weight, dilation, case.inverse), truth)
    for out in (torch.full_like(x, math.nan), x.clone()):
        ops.masked_conv_solve_out(out if out.isfinite().all() else x, weight, dilation, case.inverse, out)
        close(case, out, truth)
    y = truth.to(case.dtype)
    truths = operator.backward_reference(grad.double(), y.double(), weight.double(), dilation, case.inverse)
    all_close(case, ops.masked_conv_solve_backward(grad, y, weight, dilation, case.inverse), truths, reduced=(1,))
