"""Flow steps: a coupling, the permutation and the actnorm that follow it, in one pass over memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from flowkit.ops import additive, affine
from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_channels
from flowkit.ops.actnorm import backward_reference as actnorm_backward
from flowkit.ops.actnorm import reference as actnorm_reference
from flowkit.ops.workspace import Workspace


def _reference(coupling: Any, tensors: int) -> Any:
    """The reference of a step from that of its coupling, whose arguments are ``tensors``, permutation, *options."""

    def reference(*args: Any) -> tuple[Tensor, Tensor]:
        x, given, (scale, shift, permutation, *options, log_scale, inverse) = args[0], args[1:tensors], args[tensors:]

        def couple(v: Tensor) -> tuple[Tensor, Tensor]:
            y, logdet = coupling.reference(v, *given, permutation, *options, inverse)
            return y, logdet

        def norm(v: Tensor) -> tuple[Tensor, Tensor]:
            return actnorm_reference(v, scale, shift, log_scale, inverse)

        middle, first = norm(x) if inverse else couple(x)
        y, second = couple(middle) if inverse else norm(middle)
        return y, first + second

    return reference


def _backward_reference(coupling: Any, tensors: int) -> Any:
    """The gradients of a step in terms of its output, likewise."""

    def backward(grad_y: Tensor, grad_logdet: Tensor, y: Tensor, *args: Any) -> tuple[Tensor, ...]:
        given, (scale, shift, permutation, *options, log_scale, inverse) = args[: tensors - 1], args[tensors - 1 :]

        def couple_back(grad: Tensor, output: Tensor) -> tuple[Tensor, ...]:
            grads = coupling.backward_reference(grad, grad_logdet, output, *given, permutation, *options, inverse)
            return tuple(grads)

        def norm_back(grad: Tensor, output: Tensor) -> tuple[Tensor, ...]:
            return actnorm_backward(grad, grad_logdet, output, scale, shift, log_scale, inverse)

        if inverse:
            grad_middle, *grads = couple_back(grad_y, y)
            middle, _ = coupling.reference(y, *given, permutation, *options, False)
            grad_x, *norm_grads = norm_back(grad_middle, middle)
        else:
            grad_middle, *norm_grads = norm_back(grad_y, y)
            middle, _ = actnorm_reference(y, scale, shift, log_scale, True)
            grad_x, *grads = couple_back(grad_middle, middle)
        return grad_x, *grads, *norm_grads

    return backward


def _check(coupling: Any, tensors: int) -> Any:
    def check(name: str, x: Tensor, *args: Any) -> None:
        given, (scale, shift, permutation, begin, *_) = args[: tensors - 1], args[tensors - 1 :]
        coupling.check(name, x, *given, permutation, begin, *[False] * (coupling is additive))
        check_channels(name, x, "norm_scale", scale)
        check_channels(name, x, "norm_shift", shift)

    return check


def _operator(name: str, coupling: Any, tensors: int) -> Operator:
    """``tensors``: how many the coupling takes, x first, before the permutation."""
    parts = (_reference(coupling, tensors), _backward_reference(coupling, tensors), _check(coupling, tensors))
    return Operator(name, *parts, tensors=tensors + 3)


_affine = _operator("affine_step", affine, 3)
_additive = _operator("additive_step", additive, 2)


def _wide(x: Tensor, *norm: Tensor) -> tuple[Tensor, ...]:
    wide = logdet_dtype(x.dtype)
    return tuple(t if t.dtype is wide else t.to(wide) for t in norm)


def _call_affine(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None,
    norm: tuple[Tensor, Tensor],
    log_scale: bool,
    permutation: Tensor | None,
    out: Workspace | None,
    begin: int,
    shift_gain: float,
    coupling: dict[str, Any],
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    if params.dtype is not x.dtype:
        params = params.to(x.dtype)
    if shift is not None and shift.dtype is not x.dtype:
        shift = shift.to(x.dtype)
    tensors = (x, params, shift, *_wide(x, *norm), permutation)
    options = (begin, *affine.affine_options(**coupling), shift_gain, log_scale, inverse)
    return _affine(out, permutation is None, *tensors, *options)


def affine_step(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None = None,
    *,
    norm_scale: Tensor,
    norm_shift: Tensor,
    log_scale: bool = True,
    begin: int,
    shift_gain: float = 1.0,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
    **coupling: Any,
) -> tuple[Tensor, Tensor]:
    """:func:`affine_coupling`, then :func:`actnorm`, in one pass over memory (the step of Glow, arXiv 1807.03039).

    Arguments:
        x, params, shift, begin, shift_gain, permutation, out: as in :func:`affine_coupling`.
        norm_scale, norm_shift, log_scale: the actnorm's, (C,), of the channels as they lie after the permutation.
        coupling: clamp, bound, gain, offset, factor, form, layout, as in :func:`affine_coupling`.

    Returns:
        y like x, and log|det dy/dx| (B,) of both in float32 (float64 for float64).

    Raises:
        ValueError: a shape, dtype, device or option that does not fit.
    """
    norm = (norm_scale, norm_shift)
    return _call_affine(x, params, shift, norm, log_scale, permutation, out, begin, shift_gain, coupling, False)


def affine_step_inverse(
    y: Tensor,
    params: Tensor,
    shift: Tensor | None = None,
    *,
    norm_scale: Tensor,
    norm_shift: Tensor,
    log_scale: bool = True,
    begin: int,
    shift_gain: float = 1.0,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
    **coupling: Any,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`affine_step`, with the same arguments: x and log|det dx/dy|."""
    norm = (norm_scale, norm_shift)
    return _call_affine(y, params, shift, norm, log_scale, permutation, out, begin, shift_gain, coupling, True)


def _call_additive(
    x: Tensor,
    shift: Tensor,
    norm: tuple[Tensor, Tensor],
    log_scale: bool,
    begin: int,
    permutation: Tensor | None,
    out: Workspace | None,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    if shift.dtype is not x.dtype:
        shift = shift.to(x.dtype)
    return _additive(out, permutation is None, x, shift, *_wide(x, *norm), permutation, begin, log_scale, inverse)


def additive_step(
    x: Tensor,
    shift: Tensor,
    *,
    norm_scale: Tensor,
    norm_shift: Tensor,
    log_scale: bool = True,
    begin: int,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`additive_coupling`, then :func:`actnorm`, in one pass over memory.

    Arguments:
        x, shift, begin, permutation, out: as in :func:`additive_coupling`.
        norm_scale, norm_shift, log_scale: as in :func:`affine_step`.

    Returns:
        y like x, and log|det dy/dx| (B,), that of the actnorm.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    return _call_additive(x, shift, (norm_scale, norm_shift), log_scale, begin, permutation, out, False)


def additive_step_inverse(
    y: Tensor,
    shift: Tensor,
    *,
    norm_scale: Tensor,
    norm_shift: Tensor,
    log_scale: bool = True,
    begin: int,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`additive_step`, with the same arguments: x and log|det dx/dy|."""
    return _call_additive(y, shift, (norm_scale, norm_shift), log_scale, begin, permutation, out, True)
