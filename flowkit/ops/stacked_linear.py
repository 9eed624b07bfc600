"""Stacked linear maps: several matrices, each times its own few samples, in one call that reads every weight once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowkit import _native
from flowkit.ops._operator import _run, is_transformed

MOST_SAMPLES = 64  # more are left to torch's matrix product, which then is as fast


def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The maps in plain torch."""
    return torch.baddbmm(bias[..., None], weight, x)


def backward_reference(grad_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; differentiable, so it is also the double backward."""
    return weight.mT @ grad_y, grad_y @ x.mT, grad_y.sum(-1)


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``y[g] = weight[g] x[g] + bias[g]``: what the layers of several networks of one shape are, one sample a column.

    On a CPU, in float32 or float64 and for up to ``MOST_SAMPLES`` samples, a kernel of ours runs: so few samples are
    bound by reading the weights. Everything else, CUDA included, is torch's batched matrix product.

    Arguments:
        x: (G, in, N).
        weight: (G, out, in).
        bias: (G, out).

    Returns:
        y (G, out, N).

    Raises:
        ValueError: shapes that do not fit.
    """
    given, wanted = (tuple(weight.shape), tuple(bias.shape)), (tuple(x.shape[:1]), tuple(x.shape[1:2]))
    if x.dim() != 3 or weight.dim() != 3 or given[0][::2] != wanted[0] + wanted[1] or given[1] != given[0][:2]:
        raise ValueError(
            "stacked_linear: expected x (G, in, N), weight (G, out, in) and bias (G, out), "
            f"got {tuple(x.shape)}, {given[0]} and {given[1]}"
        )
    if not _has_kernel(x, weight, bias):
        return reference(x, weight, bias)
    if torch.compiler.is_compiling():
        return torch.ops.flowkit.stacked_linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        return _StackedLinear.apply(x, weight, bias)
    return _forward(x, weight, bias)


def _has_kernel(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    fits = x.is_cpu and weight.is_cpu and bias.is_cpu and x.size(2) <= MOST_SAMPLES
    typed = x.dtype in (torch.float32, torch.float64) and x.dtype == weight.dtype == bias.dtype
    return fits and typed and _native.supports(x) and not torch.is_autocast_enabled("cpu") and not is_transformed()


def _forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    result: Tensor = _run(_direct, torch.ops.flowkit.stacked_linear.default, x, weight, bias)
    return result


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    wants = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    if torch.is_grad_enabled():  # a graph of the backward is wanted: double backward
        found = backward_reference(grad_y, x, weight)
    else:
        native = torch.ops.flowkit.stacked_linear_backward.default
        found = _run(_direct_backward, native, grad_y, x, weight, *wants)
    return found[0] if wants[0] else None, *(found[1:] if wants[1] else (None, None))


class _StackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        _setup_context(ctx, (x, weight, bias), None)
        return _forward(x, weight, bias)

    backward = staticmethod(_backward)


def _fake(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.size(0), weight.size(1), x.size(2))


def _fake_backward(grad_y: Tensor, x: Tensor, weight: Tensor, wants_x: bool, wants_weight: bool) -> tuple[Tensor, ...]:
    of_weight = (weight.shape, weight.shape[:2]) if wants_weight else ((0,), (0,))
    return x.new_empty(x.shape if wants_x else (0,)), *(x.new_empty(shape) for shape in of_weight)


if _native.available:
    torch.library.register_fake("flowkit::stacked_linear", _fake)
    torch.library.register_fake("flowkit::stacked_linear_backward", _fake_backward)
    torch.library.register_autograd("flowkit::stacked_linear", _backward, setup_context=_setup_context)
    _direct = getattr(_native.direct, "stacked_linear", None)
    _direct_backward = getattr(_native.direct, "stacked_linear_backward", None)
