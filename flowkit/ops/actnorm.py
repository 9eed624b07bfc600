"""Activation normalisation: one scale and one shift a channel."""

import torch
from torch import Tensor

from flowkit.ops._layout import logdet_dtype, pixels
from flowkit.ops._operator import Operator, check_channels, check_x
from flowkit.ops.workspace import Workspace


def _per_channel(p: Tensor, x: Tensor) -> Tensor:
    return p.to(x.dtype).reshape(-1, *[1] * (x.dim() - 2))


def reference(x: Tensor, scale: Tensor, shift: Tensor, log_scale: bool, inverse: bool) -> tuple[Tensor, Tensor]:
    """Actnorm in plain torch."""
    s, t = _per_channel(scale, x), _per_channel(shift, x)
    if log_scale:
        y = (x - t) * torch.exp(-s) if inverse else x * torch.exp(s) + t
        logs = scale
    else:
        y = x / s - t if inverse else s * (x + t)
        logs = torch.log(torch.abs(scale))
    logdet = logs.to(logdet_dtype(x.dtype)).sum() * pixels(x)
    return y, (-logdet if inverse else logdet).expand(x.size(0)).clone()


def backward_reference(
    grad_y: Tensor,
    grad_logdet: Tensor,
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    log_scale: bool,
    inverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale, shift from the output ``y``; differentiable, so it is also the double backward."""
    s, t = _per_channel(scale, y), _per_channel(shift, y)
    wide = logdet_dtype(y.dtype)
    reduce = [0, *range(2, y.dim())]

    def channel_sum(v: Tensor) -> Tensor:
        return v.to(wide).sum(reduce)

    grad_l = grad_logdet.sum() * pixels(y)
    wide_scale = scale.to(wide)
    if log_scale and not inverse:
        grad_x = grad_y * torch.exp(s)
        grad_scale, grad_shift = channel_sum(grad_y * (y - t)) + grad_l, channel_sum(grad_y)
    elif log_scale:
        grad_x = grad_y * torch.exp(-s)
        grad_scale, grad_shift = -channel_sum(grad_y * y) - grad_l, -channel_sum(grad_x)
    elif not inverse:
        grad_x = grad_y * s
        grad_scale = (channel_sum(grad_y * y) + grad_l) / wide_scale
        grad_shift = channel_sum(grad_y) * wide_scale
    else:
        grad_x = grad_y / s
        grad_scale = -(channel_sum(grad_y * (y + t)) + grad_l) / wide_scale
        grad_shift = -channel_sum(grad_y)
    return grad_x, grad_scale.to(scale.dtype), grad_shift.to(shift.dtype)


def check(name: str, x: Tensor, scale: Tensor, shift: Tensor, log_scale: bool, inverse: bool) -> None:
    """Raises ValueError for arguments that do not fit x."""
    check_x(name, x)
    check_channels(name, x, "scale", scale)
    check_channels(name, x, "shift", shift)


_operator = Operator("actnorm", reference, backward_reference, check, tensors=3)


def _call(
    x: Tensor, scale: Tensor, shift: Tensor, log_scale: bool, out: Workspace | None, inverse: bool
) -> tuple[Tensor, Tensor]:
    wide = logdet_dtype(x.dtype)
    if scale.dtype is not wide or shift.dtype is not wide:
        scale, shift = scale.to(wide), shift.to(wide)
    return _operator(out, True, x, scale, shift, log_scale, inverse)


def actnorm(
    x: Tensor, scale: Tensor, shift: Tensor, *, log_scale: bool, out: Workspace | None = None
) -> tuple[Tensor, Tensor]:
    """Activation normalisation (Glow, arXiv 1807.03039, section 3.1).

    Arguments:
        x: (B, C, *spatial).
        scale, shift: (C,). ``log_scale``: ``y = x * exp(scale) + shift``; otherwise ``y = scale * (x + shift)``, where
            the scale may be negative but not zero.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and log|det dy/dx| (B,): pixels * sum(scale), or pixels * sum(log|scale|).

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    return _call(x, scale, shift, log_scale, out, False)


def actnorm_inverse(
    y: Tensor, scale: Tensor, shift: Tensor, *, log_scale: bool, out: Workspace | None = None
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`actnorm`, with the same arguments: x and log|det dx/dy|."""
    return _call(y, scale, shift, log_scale, out, True)
