"""Several fully connected networks of one shape on the same input, in one call where no gradients are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowkit import _native
from flowkit.ops._operator import _run, is_transformed
from flowkit.ops.made import ACTIVATIONS
from flowkit.ops.stacked_linear import MOST_SAMPLES, stacked_linear


def reference(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str, tanh: Sequence[bool]
) -> Tensor:
    """Layer by layer; differentiable."""
    if weights[0].ndim == 2:
        weights, biases = [weight[None] for weight in weights], [bias[None] for bias in biases]
    act = getattr(torch.nn.functional, activation)
    first, *others = (weight if weight.dtype == x.dtype else weight.to(x.dtype) for weight in weights)
    h = stacked_linear(x.mT[None], first.flatten(0, 1)[None], biases[0].flatten()[None])
    h = h.reshape(*first.shape[:2], len(x))
    for weight, bias in zip(others, biases[1:], strict=True):
        h = stacked_linear(act(h), weight, bias)
    if all(tanh):
        h = h.tanh()
    elif any(tanh):
        h = torch.stack([part.tanh() if ends else part for part, ends in zip(h, tanh, strict=True)])
    return h.flatten(0, 1).mT


def stacked_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str, tanh: Sequence[bool]
) -> Tensor:
    """What G networks give for x, one after the other: linear maps with an activation between them.

    On a CPU, without gradients and for up to ``MOST_SAMPLES`` samples, one kernel runs all layers: so few samples are
    bound by reading the weights, and by the calls between them. Everything else goes layer by layer, through
    :func:`stacked_linear`.

    Arguments:
        x: (N, in), float32 or float64 for the kernel.
        weights: (G, out, in) of each layer, or (out, in) of one network, of the type of x. Where x is float32 they may
            be bfloat16, which halves what is read; it is widened in registers, and all sums are float32.
        biases: (G, out) of each layer, or (out,), of the type of x.
        activation: one of ``flowkit.nets.ACTIVATIONS``.
        tanh: whether a tanh ends each of the G networks.

    Returns:
        (N, G * out).

    Raises:
        ValueError: shapes or types that do not fit.
    """
    if not _has_kernel(x, weights, biases, activation):
        return reference(x, weights, biases, activation, tanh)
    codes = ACTIVATIONS.index(activation), sum(ends << g for g, ends in enumerate(tanh))
    try:
        result: Tensor = _run(_direct, torch.ops.flowkit.stacked_mlp.default, x, weights, biases, *codes)
    except RuntimeError as error:
        _, found, refused = str(error).partition("flowkit: ")
        if found:
            raise ValueError(f"stacked_mlp: {refused}") from None
        raise
    return result


def _has_kernel(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str) -> bool:
    if torch.compiler.is_compiling() or not (x.is_cpu and x.size(0) <= MOST_SAMPLES and _native.supports(x)):
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights, *biases)):
        return False
    narrow = weights[0].dtype is torch.bfloat16 and x.dtype is torch.float32
    typed = x.dtype in (torch.float32, torch.float64) and (narrow or weights[0].dtype is x.dtype)
    return typed and activation in ACTIVATIONS and not torch.is_autocast_enabled("cpu") and not is_transformed()


def _fake(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: int, tanhs: int) -> Tensor:
    return x.new_empty(x.size(0), biases[-1].numel())


if _native.available:
    torch.library.register_fake("flowkit::stacked_mlp", _fake)
    _direct = getattr(_native.direct, "stacked_mlp", None)
