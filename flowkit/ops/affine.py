"""Affine coupling: x' = x * exp(l(u)) + t on a run of channels, with the permutation that follows it."""

import torch
from torch import Tensor

from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_coupling, check_permutation, check_x
from flowkit.ops.permute import gather_channels, scatter_channels
from flowkit.ops.workspace import Workspace

LAYOUTS = ("scale_shift", "shift_scale", "scale_shift_interleaved", "shift_scale_interleaved")
CLAMPS = ("none", "tanh", "atan", "sigmoid")
DEFAULT_BOUND = {"none": 0.0, "tanh": 1.0, "atan": 2.0, "sigmoid": 0.0}
ATAN_SCALE = 0.636  # FrEIA's stand-in for 2/pi
SIGMOID_SHIFT = 2.0  # Glow: sigmoid(u + 2)


def unpack(params: Tensor, shift: Tensor | None, layout: int) -> tuple[Tensor, Tensor]:
    """Views (u, t) of packed coupling parameters."""
    if shift is not None:
        return params, shift
    first, second = params.chunk(2, 1) if layout < 2 else (params[:, 0::2], params[:, 1::2])
    return (first, second) if layout % 2 == 0 else (second, first)


def pack(u: Tensor, t: Tensor, layout: int) -> Tensor:
    """The inverse of :func:`unpack` for parameters in one tensor."""
    first, second = (u, t) if layout % 2 == 0 else (t, u)
    return torch.cat([first, second], 1) if layout < 2 else torch.stack([first, second], 2).flatten(1, 2)


def log_scale(u: Tensor, clamp: int, bound: float, gain: float) -> Tensor:
    """l(u), the clamped log-scale."""
    u = gain * u
    match CLAMPS[clamp]:
        case "tanh":
            return bound * torch.tanh(u)
        case "atan":
            return (bound * ATAN_SCALE) * torch.atan(u)
        case "sigmoid":
            v = u + SIGMOID_SHIFT
            return torch.nn.functional.logsigmoid(v) if bound == 0 else torch.log(torch.sigmoid(v) + bound)
    return u


def log_scale_slope(u: Tensor, clamp: int, bound: float, gain: float) -> Tensor:
    """dl/du."""
    u = gain * u
    match CLAMPS[clamp]:
        case "tanh":
            return (bound * gain) * (1 - torch.tanh(u).square())
        case "atan":
            return (bound * ATAN_SCALE * gain) / (1 + u.square())
        case "sigmoid":
            s = torch.sigmoid(u + SIGMOID_SHIFT)
            return gain * s * (1 - s) / (s + bound)
    return torch.full_like(u, gain)


def reference(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None,
    permutation: Tensor | None,
    begin: int,
    layout: int,
    clamp: int,
    bound: float,
    gain: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """The coupling in plain torch."""
    u, t = unpack(params, shift, layout)
    end = begin + u.size(1)
    logs = log_scale(u, clamp, bound, gain)
    if inverse:
        x = scatter_channels(x, permutation)
        moved = (x[:, begin:end] - t) * torch.exp(-logs)
    else:
        moved = x[:, begin:end] * torch.exp(logs) + t
    y = torch.cat([x[:, :begin], moved, x[:, end:]], 1)
    logdet = logs.to(logdet_dtype(x.dtype)).flatten(1).sum(1)
    return (y, -logdet) if inverse else (gather_channels(y, permutation), logdet)


def backward_reference(
    grad_y: Tensor,
    grad_logdet: Tensor,
    y: Tensor,
    params: Tensor,
    shift: Tensor | None,
    permutation: Tensor | None,
    begin: int,
    layout: int,
    clamp: int,
    bound: float,
    gain: float,
    inverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, params, shift from the output ``y``; differentiable, so it is also the double backward."""
    u, t = unpack(params, shift, layout)
    end = begin + u.size(1)
    if not inverse:
        y, grad_y = scatter_channels(y, permutation), scatter_channels(grad_y, permutation)
    grad, out = grad_y[:, begin:end], y[:, begin:end]
    scale = torch.exp(log_scale(u, clamp, bound, gain))
    grad_l = grad_logdet.to(y.dtype).reshape(-1, *[1] * (y.dim() - 1))
    slope = log_scale_slope(u, clamp, bound, gain)
    if inverse:
        grad_moved = grad / scale
        grad_t = -grad_moved
        grad_u = slope * (-grad * out - grad_l)
    else:
        grad_moved = grad * scale
        grad_t = grad
        grad_u = slope * (grad * (out - t) + grad_l)
    grad_x = torch.cat([grad_y[:, :begin], grad_moved, grad_y[:, end:]], 1)
    if inverse:
        grad_x = gather_channels(grad_x, permutation)
    if shift is None:
        return grad_x, pack(grad_u, grad_t, layout), grad_x.new_empty(0)
    return grad_x, grad_u, grad_t


def check(
    name: str, x: Tensor, params: Tensor, shift: Tensor | None, permutation: Tensor | None, begin: int, *options: object
) -> None:
    """Raises ValueError for arguments that do not fit x."""
    check_x(name, x)
    check_coupling(name, x, "params", params, begin, parts=2 if shift is None else 1)
    if shift is not None:
        check_coupling(name, x, "shift", shift, begin, parts=1)
        if shift.size(1) != params.size(1):
            raise ValueError(
                f"{name}: params has {params.size(1)} channels and shift {shift.size(1)}; they must be equal"
            )
    check_permutation(name, x, permutation)


_operator = Operator("affine_coupling", reference, backward_reference, check, tensors=4)
_LAYOUT_CODE = {name: code for code, name in enumerate(LAYOUTS)}
_CLAMP_CODE = {name: code for code, name in enumerate(CLAMPS)}


def _call(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None,
    begin: int,
    clamp: str,
    bound: float | None,
    gain: float,
    layout: str,
    permutation: Tensor | None,
    out: Workspace | None,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    clamp_code, layout_code = _CLAMP_CODE.get(clamp), _LAYOUT_CODE.get(layout)
    if clamp_code is None:
        raise ValueError(f"affine_coupling: clamp must be one of {', '.join(CLAMPS)}, got {clamp!r}")
    if layout_code is None:
        raise ValueError(f"affine_coupling: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if params.dtype is not x.dtype:
        params = params.to(x.dtype)
    if shift is not None and shift.dtype is not x.dtype:
        shift = shift.to(x.dtype)
    options = (begin, layout_code, clamp_code, DEFAULT_BOUND[clamp] if bound is None else bound, gain, inverse)
    return _operator(out, permutation is None, x, params, shift, permutation, *options)


def affine_coupling(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None = None,
    *,
    begin: int,
    clamp: str = "tanh",
    bound: float | None = None,
    gain: float = 1.0,
    layout: str = "scale_shift",
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Affine coupling (Real NVP, arXiv 1605.08803, eq. 7-8): one pass over memory.

    Channels [begin, begin + n) become ``x * exp(l(u)) + t``, the others pass through, and the result is permuted:
    ``y = x'[:, permutation]``.

    Arguments:
        x: (B, C, *spatial), 0 to 3 spatial dimensions.
        params: raw scale u and shift t, (B, 2n, *spatial); u alone, (B, n, *spatial), if ``shift`` is given.
        shift: t, (B, n, *spatial), when it comes from a network of its own.
        begin: first transformed channel.
        clamp: l(u) is ``gain*u`` ("none"), ``bound*tanh(gain*u)`` ("tanh"), ``bound*0.636*atan(gain*u)`` ("atan",
            FrEIA), ``log(sigmoid(gain*u + 2) + bound)`` ("sigmoid", Glow, arXiv 1807.03039).
        bound: largest |l| of tanh (default 1) and atan (default 2); smallest scale of sigmoid (default 0).
        gain: multiplies u before the clamp.
        layout: how ``params`` packs u and t: "scale_shift" or "shift_scale" in halves, "scale_shift_interleaved" or
            "shift_scale_interleaved" in alternating channels.
        permutation: (C,) int64, follows the coupling.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and log|det dy/dx| (B,) in float32 (float64 for float64).

    Raises:
        ValueError: a shape, dtype, device or option that does not fit.
    """
    return _call(x, params, shift, begin, clamp, bound, gain, layout, permutation, out, False)


def affine_coupling_inverse(
    y: Tensor,
    params: Tensor,
    shift: Tensor | None = None,
    *,
    begin: int,
    clamp: str = "tanh",
    bound: float | None = None,
    gain: float = 1.0,
    layout: str = "scale_shift",
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`affine_coupling`, with the same arguments: x and log|det dx/dy|."""
    return _call(y, params, shift, begin, clamp, bound, gain, layout, permutation, out, True)
