"""Leaky ReLU with its true log-determinant."""

import math

import torch
from torch import Tensor

from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_x
from flowkit.ops.workspace import Workspace


def reference(x: Tensor, slope: float, inverse: bool) -> tuple[Tensor, Tensor]:
    """Leaky ReLU in plain torch."""
    y = torch.where(x < 0, x / slope if inverse else x * slope, x)
    negative = (x < 0).flatten(1).sum(1).to(logdet_dtype(x.dtype))
    return y, negative * (-math.log(slope) if inverse else math.log(slope))


def backward_reference(grad_y: Tensor, grad_logdet: Tensor, y: Tensor, slope: float, inverse: bool) -> tuple[Tensor]:
    """The gradient of x; the sign of y is the sign of x, and the log-det is constant almost everywhere."""
    return (torch.where(y < 0, grad_y / slope if inverse else grad_y * slope, grad_y),)


def check(name: str, x: Tensor, slope: float, inverse: bool) -> None:
    """Raises ValueError for an x that is no (B, C, *spatial) in floating point."""
    check_x(name, x)


_operator = Operator("leaky_relu", reference, backward_reference, check, tensors=1)


def _call(x: Tensor, slope: float, out: Workspace | None, inverse: bool) -> tuple[Tensor, Tensor]:
    if not 0 < slope < math.inf:
        raise ValueError(f"leaky_relu: slope must be positive and finite, got {slope}")
    return _operator(out, True, x, slope, inverse)


def leaky_relu(x: Tensor, slope: float, *, out: Workspace | None = None) -> tuple[Tensor, Tensor]:
    """``y = x`` where x >= 0, ``slope * x`` elsewhere, with log-det (number of negative elements) * log(slope).

    Arguments:
        x: (B, C, *spatial).
        slope: positive.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and log|det dy/dx| (B,).

    Raises:
        ValueError: a slope that is not positive, or x of a wrong dtype or rank.
    """
    return _call(x, slope, out, False)


def leaky_relu_inverse(y: Tensor, slope: float, *, out: Workspace | None = None) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`leaky_relu`, with the same arguments: x and log|det dx/dy|."""
    return _call(y, slope, out, True)
