"""Affine coupling: x' = x * exp(l(u)) + t on a run of channels, with the permutation that follows it."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_coupling, check_permutation, check_x
from flowkit.ops.permute import gather_channels, scatter_channels
from flowkit.ops.workspace import Workspace

LAYOUTS = ("scale_shift", "shift_scale", "scale_shift_interleaved", "shift_scale_interleaved")
CLAMPS = ("none", "tanh", "atan", "sigmoid", "softplus", "softclip", "hard")
FORMS = ("s*x+t", "s*(x+t)", "x/s+t")
DEFAULT_BOUND: dict[str, float | tuple[float, float]] = {
    "none": 0.0,
    "tanh": 1.0,
    "atan": 2.0,
    "sigmoid": 0.0,
    "softplus": 0.0,
    "softclip": math.log(1000),  # zuko: scales between 1e-3 and 1e3
    "hard": (-5.0, 3.0),  # Pyro
}
DEFAULT_OFFSET = {"sigmoid": 2.0}  # Glow: sigmoid(u + 2)
ATAN_SCALE = 0.636  # FrEIA's stand-in for 2/pi

_SHIFT_FIRST, _DIVIDE = 1, 2  # places in FORMS

ClampOptions = tuple[int, float, float, float, float]
"""(clamp, bound, gain, offset, factor) as the operator takes them; a hard clamp's limits are offset and bound."""


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


def log_scale(u: Tensor, options: ClampOptions) -> Tensor:
    """l(u), the clamped log-scale."""
    code, bound, gain, offset, factor = options
    match CLAMPS[code]:
        case "hard":
            u = gain * u
            return u + (u.clamp(offset, bound) - u).detach()  # the gradient passes straight through
        case "none":
            return gain * u + offset
    v = gain * u + offset
    match CLAMPS[code]:
        case "tanh":
            return bound * torch.tanh(v)
        case "atan":
            return (bound * ATAN_SCALE) * torch.atan(v)
        case "softclip":
            return v / (1 + v.abs() / bound)
        case "sigmoid" if bound == 0:
            return F.logsigmoid(v) + math.log(factor)
        case "sigmoid":
            return torch.log(factor * torch.sigmoid(v) + bound)
    if bound:
        return torch.log(factor * _softplus(v) + bound)
    return torch.where(v < _FAR, v, torch.log(_softplus(v.clamp(min=_FAR)))) + math.log(factor)


_FAR = -40.0
"""Below, softplus(v) = sigmoid(v) = exp(v) to the last bit of float64."""


def _softplus(v: Tensor) -> Tensor:
    return -F.logsigmoid(-v)  # F.softplus is cut off at 20


def log_scale_slope(u: Tensor, options: ClampOptions) -> Tensor:
    """dl/du."""
    code, bound, gain, offset, factor = options
    v = gain * u + offset
    match CLAMPS[code]:
        case "tanh":
            return (bound * gain) * (1 - torch.tanh(v).square())
        case "atan":
            return (bound * ATAN_SCALE * gain) / (1 + v.square())
        case "softclip":
            return gain / (1 + v.abs() / bound).square()
        case "sigmoid" if bound == 0:
            return gain * torch.sigmoid(-v)
        case "sigmoid":
            s = torch.sigmoid(v)
            return (gain * factor) * s * (1 - s) / (factor * s + bound)
        case "softplus":
            v = v if bound else v.clamp(min=_FAR)
            return (gain * factor) * torch.sigmoid(v) / (factor * _softplus(v) + bound)
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
    offset: float,
    factor: float,
    form: int,
    shift_gain: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """The coupling in plain torch."""
    u, raw = unpack(params, shift, layout)
    t, end = shift_gain * raw, begin + u.size(1)
    logs = log_scale(u, (clamp, bound, gain, offset, factor)) * (-1 if form == _DIVIDE else 1)
    scale = torch.exp(-logs if inverse else logs)
    if inverse:
        x = scatter_channels(x, permutation)
        moved = x[:, begin:end] * scale - t if form == _SHIFT_FIRST else (x[:, begin:end] - t) * scale
    else:
        moved = (x[:, begin:end] + t) * scale if form == _SHIFT_FIRST else x[:, begin:end] * scale + t
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
    offset: float,
    factor: float,
    form: int,
    shift_gain: float,
    inverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, params, shift from the output ``y``; differentiable, so it is also the double backward."""
    u, raw = unpack(params, shift, layout)
    t, end = shift_gain * raw, begin + u.size(1)
    if not inverse:
        y, grad_y = scatter_channels(y, permutation), scatter_channels(grad_y, permutation)
    grad, out = grad_y[:, begin:end], y[:, begin:end]
    options, sign = (clamp, bound, gain, offset, factor), -1 if form == _DIVIDE else 1
    logs, slope = sign * log_scale(u, options), sign * log_scale_slope(u, options)
    grad_l = grad_logdet.to(y.dtype).reshape(-1, *[1] * (y.dim() - 1))
    if inverse:
        grad_moved = grad * torch.exp(-logs)
        grad_t = -grad if form == _SHIFT_FIRST else -grad_moved
        grad_u = slope * (-grad * (out + t if form == _SHIFT_FIRST else out) - grad_l)
    else:
        grad_moved = grad * torch.exp(logs)
        grad_t = grad_moved if form == _SHIFT_FIRST else grad
        grad_u = slope * (grad * (out if form == _SHIFT_FIRST else out - t) + grad_l)
    grad_t = shift_gain * grad_t
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
_FORM_CODE = {name: code for code, name in enumerate(FORMS)}

Bound = float | tuple[float, float] | None


def clamp_options(clamp: str, bound: Bound, gain: float, offset: float | None, factor: float) -> ClampOptions:
    """The options of a clamp as the operator takes them.

    Raises:
        ValueError: an unknown clamp, or a bound of the wrong kind.
    """
    code = _CLAMP_CODE.get(clamp)
    if code is None:
        raise ValueError(f"affine_coupling: clamp must be one of {', '.join(CLAMPS)}, got {clamp!r}")
    limit = DEFAULT_BOUND[clamp] if bound is None else bound
    if isinstance(limit, (tuple, list)) != (clamp == "hard"):
        wanted = "a pair (least, largest)" if clamp == "hard" else "one number"
        raise ValueError(f"affine_coupling: bound must be {wanted} for clamp {clamp!r}, got {bound}")
    if isinstance(limit, (tuple, list)):
        low, limit = limit
        return code, limit, gain, low, factor
    return code, limit, gain, DEFAULT_OFFSET.get(clamp, 0.0) if offset is None else offset, factor


def affine_options(
    clamp: str = "tanh",
    bound: Bound = None,
    gain: float = 1.0,
    offset: float | None = None,
    factor: float = 1.0,
    form: str = "s*x+t",
    layout: str = "scale_shift",
) -> tuple[Any, ...]:
    """The options as the operator takes them: layout, those of the clamp, form; ValueError for unknown ones."""
    layout_code, form_code = _LAYOUT_CODE.get(layout), _FORM_CODE.get(form)
    if layout_code is None:
        raise ValueError(f"affine_coupling: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if form_code is None:
        raise ValueError(f"affine_coupling: form must be one of {', '.join(FORMS)}, got {form!r}")
    return layout_code, *clamp_options(clamp, bound, gain, offset, factor), form_code


CLAMP_OPTIONS = ("clamp", "bound", "gain", "offset", "factor", "form", "layout")


def wrong_option(
    clamp: str,
    bound: Any,
    gain: float,
    offset: float | None,
    factor: float,
    form: str,
    layout: str,
    shift_gain: float = 1,
) -> tuple[str, str, object] | None:
    """The first option out of its range: its name, what is expected, what came; None if all are right."""
    for name, value, known in (("clamp", clamp, CLAMPS), ("layout", layout, LAYOUTS), ("form", form, FORMS)):
        if value not in known:
            return name, f"one of {', '.join(known)}", repr(value)
    for name, number in (("gain", gain), ("shift_gain", shift_gain)):
        if not math.isfinite(number):
            return name, "a finite number", number
    if not 0 < factor < math.inf or (factor != 1 and clamp not in ("sigmoid", "softplus")):
        return "factor", "a positive number, 1 unless the clamp is sigmoid or softplus", factor
    if offset is not None and (clamp == "hard" or not math.isfinite(offset)):
        return "offset", "a finite number, or None for a hard clamp", offset
    if bound is None:
        return None
    if clamp == "hard":
        fits = isinstance(bound, (tuple, list)) and len(bound) == 2 and bound[0] < bound[1]
        return None if fits else ("bound", "a pair (least, largest) for a hard clamp", bound)
    positive = {"sigmoid": " >= 0", "softplus": " >= 0", "softclip": " > 0"}.get(clamp, "")
    fits = isinstance(bound, (int, float)) and math.isfinite(bound)
    if not fits or (positive and (bound < 0 or (bound == 0 and clamp == "softclip"))):
        return "bound", f"a finite number{positive}", bound
    return None


def _call(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None,
    begin: int,
    clamp: str,
    bound: Bound,
    gain: float,
    offset: float | None,
    factor: float,
    shift_gain: float,
    form: str,
    layout: str,
    permutation: Tensor | None,
    out: Workspace | None,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    if params.dtype is not x.dtype:
        params = params.to(x.dtype)
    if shift is not None and shift.dtype is not x.dtype:
        shift = shift.to(x.dtype)
    options = affine_options(clamp, bound, gain, offset, factor, form, layout)
    return _operator(out, permutation is None, x, params, shift, permutation, begin, *options, shift_gain, inverse)


def affine_coupling(
    x: Tensor,
    params: Tensor,
    shift: Tensor | None = None,
    *,
    begin: int,
    clamp: str = "tanh",
    bound: Bound = None,
    gain: float = 1.0,
    offset: float | None = None,
    factor: float = 1.0,
    shift_gain: float = 1.0,
    form: str = "s*x+t",
    layout: str = "scale_shift",
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Affine coupling (Real NVP, arXiv 1605.08803, eq. 7-8): one pass over memory.

    Channels [begin, begin + n) become ``s * x + t`` with ``s = exp(l(u))``, the others pass through, and the result is
    permuted: ``y = x'[:, permutation]``.

    Arguments:
        x: (B, C, *spatial), 0 to 3 spatial dimensions.
        params: raw scale u and shift t, (B, 2n, *spatial); u alone, (B, n, *spatial), if ``shift`` is given.
        shift: t, (B, n, *spatial), when it comes from a network of its own.
        begin: first transformed channel.
        clamp: l as a function of ``v = gain * u + offset``:

            ========== ====================================== ==================================================
            "none"     v                                      any sign of the gain
            "tanh"     bound * tanh(v)                        bound 1 by default
            "atan"     bound * 0.636 * atan(v)                FrEIA; bound 2 by default
            "sigmoid"  log(factor * sigmoid(v) + bound)       Glow, arXiv 1807.03039; offset 2, bound 0 by default
            "softplus" log(factor * softplus(v) + bound)      bound 0 by default
            "softclip" v / (1 + abs(v) / bound)               zuko; bound log(1000) by default
            "hard"     gain * u, cut off at the bound's ends  Pyro; bound (-5, 3) by default, no offset; the gradient
                                                              passes straight through
            ========== ====================================== ==================================================
        bound: see ``clamp``; a pair for "hard".
        gain, offset: see ``clamp``; the offset is 2 for "sigmoid" and 0 for the others by default.
        factor: see ``clamp``, for "sigmoid" and "softplus".
        shift_gain: multiplies t (FrEIA's AllInOneBlock: gain and shift_gain 0.1).
        form: "s*x+t"; "s*(x+t)", adding first, as in glow-pytorch and jet; or "x/s+t", whose inverse multiplies.
        layout: how ``params`` packs u and t: "scale_shift" or "shift_scale" in halves, "scale_shift_interleaved" or
            "shift_scale_interleaved" in alternating channels.
        permutation: (C,) int64, follows the coupling.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and log|det dy/dx| (B,) in float32 (float64 for float64).

    Raises:
        ValueError: a shape, dtype, device or option that does not fit.
    """
    return _call(
        x, params, shift, begin, clamp, bound, gain, offset, factor, shift_gain, form, layout, permutation, out, False
    )


def affine_coupling_inverse(
    y: Tensor,
    params: Tensor,
    shift: Tensor | None = None,
    *,
    begin: int,
    clamp: str = "tanh",
    bound: Bound = None,
    gain: float = 1.0,
    offset: float | None = None,
    factor: float = 1.0,
    shift_gain: float = 1.0,
    form: str = "s*x+t",
    layout: str = "scale_shift",
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`affine_coupling`, with the same arguments: x and log|det dx/dy|."""
    return _call(
        y, params, shift, begin, clamp, bound, gain, offset, factor, shift_gain, form, layout, permutation, out, True
    )
