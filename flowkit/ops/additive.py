"""Additive coupling: x' = x + t on a run of channels, with the permutation that follows it."""

import torch
from torch import Tensor

from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_coupling, check_permutation, check_x
from flowkit.ops.permute import gather_channels, scatter_channels
from flowkit.ops.workspace import Workspace


def reference(x: Tensor, shift: Tensor, permutation: Tensor | None, begin: int, inverse: bool) -> tuple[Tensor, Tensor]:
    """The coupling in plain torch."""
    end = begin + shift.size(1)
    if inverse:
        x = scatter_channels(x, permutation)
    moved = x[:, begin:end] - shift if inverse else x[:, begin:end] + shift
    y = torch.cat([x[:, :begin], moved, x[:, end:]], 1)
    logdet = x.new_zeros(x.size(0), dtype=logdet_dtype(x.dtype))
    return (y if inverse else gather_channels(y, permutation)), logdet


def backward_reference(
    grad_y: Tensor,
    grad_logdet: Tensor,
    y: Tensor,
    shift: Tensor,
    permutation: Tensor | None,
    begin: int,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and shift; differentiable, so it is also the double backward."""
    end = begin + shift.size(1)
    if inverse:
        return gather_channels(grad_y, permutation), -grad_y[:, begin:end]
    grad_x = scatter_channels(grad_y, permutation)
    return grad_x, grad_x[:, begin:end]


def check(name: str, x: Tensor, shift: Tensor, permutation: Tensor | None, begin: int, inverse: bool) -> None:
    """Raises ValueError for arguments that do not fit x."""
    check_x(name, x)
    check_coupling(name, x, "shift", shift, begin, parts=1)
    check_permutation(name, x, permutation)


_operator = Operator("additive_coupling", reference, backward_reference, check, tensors=3)


def _call(
    x: Tensor, shift: Tensor, begin: int, permutation: Tensor | None, out: Workspace | None, inverse: bool
) -> tuple[Tensor, Tensor]:
    if shift.dtype is not x.dtype:
        shift = shift.to(x.dtype)
    return _operator(out, permutation is None, x, shift, permutation, begin, inverse)


def additive_coupling(
    x: Tensor, shift: Tensor, *, begin: int, permutation: Tensor | None = None, out: Workspace | None = None
) -> tuple[Tensor, Tensor]:
    """Additive coupling (NICE, arXiv 1410.8516): channels [begin, begin + n) become ``x + shift``.

    Arguments:
        x: (B, C, *spatial).
        shift: (B, n, *spatial).
        begin: first transformed channel.
        permutation: (C,) int64, follows the coupling: ``y = x'[:, permutation]``.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and a log-det of zeros (B,).

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    return _call(x, shift, begin, permutation, out, False)


def additive_coupling_inverse(
    y: Tensor, shift: Tensor, *, begin: int, permutation: Tensor | None = None, out: Workspace | None = None
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`additive_coupling`, with the same arguments."""
    return _call(y, shift, begin, permutation, out, True)
