"""Rational-quadratic spline coupling: every element of a run of channels through a monotone spline of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.ops._parametric import ParametricCoupling, at_bin, from_zero
from flowkit.ops.workspace import Workspace

MAPS = ("softmax", "softclip", "free", "square")
TAILS = ("identity", "interval", "circular", "affine")
SOFTCLIP = math.log(1e-3)  # zuko: slopes lie in [1e-3, 1e3]
UNIT_SOFTPLUS = math.log(math.e - 1)  # softplus of it is 1


@dataclass(frozen=True)
class Preset:
    """How a library makes knots from raw parameters; see :func:`rational_quadratic_coupling`."""

    map: str
    tails: tuple[str, ...]
    min_size: float
    min_slope: float
    bound: float
    unit_slope: bool = False


PRESETS = {
    "nflows": Preset("softmax", ("identity", "interval", "circular"), 1e-3, 1e-3, 3.0),
    "nflows_identity": Preset("softmax", ("identity", "interval", "circular"), 1e-3, 1e-3, 3.0, unit_slope=True),
    "zuko": Preset("softclip", ("identity", "circular"), 0.0, 0.0, 5.0),
    "freia": Preset("free", ("affine",), 0.1, 1e-7, 3.0),
    "freia_identity": Preset("square", ("identity",), 1e-6, 1e-7, 3.0),
}


def parameter_count(bins: int, map: int, tails: int, *options: float) -> int:
    """Raw parameters of one element."""
    extra = {"free": 2, "square": 1}.get(MAPS[map], 0)
    return 3 * bins + extra + {"identity": -1, "interval": 1, "circular": 0, "affine": -1}[TAILS[tails]]


def _log_weights(raw: Tensor, map: str, gain: float) -> Tensor:
    raw = gain * raw.clamp(-1e30, 1e30)
    return raw / (1 + (2 * raw / SOFTCLIP).abs()) if map == "softclip" else raw


def _raw_slope(raw: Tensor) -> Tensor:
    return raw.clamp(-1e4, 1e4)


def _shares(raw: Tensor, map: str, gain: float, min_size: float) -> Tensor:
    """Sizes of bins that add up to 1."""
    return min_size + (1 - raw.size(2) * min_size) * torch.softmax(_log_weights(raw, map, gain), 2)


def _slopes(raw: Tensor, map: str, min_slope: float, beta: float) -> Tensor:
    if map == "softclip":
        raw = raw.clamp(-1e30, 1e30)
        return torch.exp(raw / (1 + (raw / SOFTCLIP).abs()))
    offset = UNIT_SOFTPLUS if map in ("free", "square") else 0.0
    return min_slope + F.softplus(beta * _raw_slope(raw) + offset) / beta


@dataclass
class Knots:
    """Knots of splines: (B, n, bins + 1, *spatial) each."""

    x: Tensor
    y: Tensor
    slopes: Tensor


def knots(
    p: Tensor,
    bins: int,
    map: int,
    tails: int,
    left: float,
    right: float,
    bottom: float,
    top: float,
    min_size: float,
    min_slope: float,
    gain: float,
    beta: float,
) -> Knots:
    """The knots that raw parameters (B, n, P, *spatial) stand for."""
    kind, tail = MAPS[map], TAILS[tails]
    raw_w, raw_h, rest = p[:, :, :bins], p[:, :, bins : 2 * bins], p[:, :, 2 * bins :]
    if kind == "free":
        w, h = (
            min_size + F.softplus(_raw_slope(raw) + math.log(math.expm1(extent / bins - min_size)))
            for raw, extent in ((raw_w, right - left), (raw_h, top - bottom))
        )
        low_y, low_x = (rest[:, :, i : i + 1].clamp(-1e30, 1e30) for i in (0, 1))
        x, y = left + low_x + from_zero(w), bottom + low_y + from_zero(h)
        rest = rest[:, :, 2:]
    else:
        x, y = (from_zero(_shares(raw, kind, gain, min_size)) for raw in (raw_w, raw_h))
        if kind == "square":
            half = 0.5 * (right - left) * F.softplus(_raw_slope(rest[:, :, :1]) + UNIT_SOFTPLUS).clamp(min=1e-6)
            middle = 0.5 * (right + left)
            x, y = middle + half * (2 * x - 1), middle + half * (2 * y - 1)
            rest = rest[:, :, 1:]
        else:
            x, y = left + (right - left) * x, bottom + (top - bottom) * y
    slopes = _slopes(rest, kind, min_slope, beta)
    if tail == "circular":
        slopes = torch.cat([slopes, slopes[:, :, :1]], 2)
    elif tail != "interval":
        edge = (y[:, :, -1:] - y[:, :, :1]) / (x[:, :, -1:] - x[:, :, :1])
        if tail == "identity":
            edge = torch.ones_like(edge)
        slopes = torch.cat([edge, slopes, edge], 2)
    return Knots(x, y, slopes)


def _wrap(x: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """x moved by whole periods into the box, and their number; far away, where those lose all digits, as it is."""
    position = (x - axis[:, :, 0]) / (axis[:, :, -1] - axis[:, :, 0])
    near = position.detach().abs() < 2.0**20
    turns = torch.where(near, position.detach(), 0.0).floor()
    return x - turns * (axis[:, :, -1] - axis[:, :, 0]), turns


@dataclass
class _Bins:
    """The bin of each element, seen from a place in the box, and what holds outside."""

    x0: Tensor
    y0: Tensor
    w: Tensor
    h: Tensor
    d0: Tensor  # slopes at the ends relative to h / w
    d1: Tensor
    inside: Tensor
    excess: Tensor
    outside: Tensor
    edge: Tensor

    @classmethod
    def of(cls, v: Tensor, k: Knots, axis: Tensor) -> _Bins:
        start, end = axis[:, :, 0], axis[:, :, -1]
        inside = torch.where(v < start, start, torch.where(v > end, end, v))
        outside = (v < start) | (v > end)
        index = (inside.unsqueeze(2) >= axis[:, :, 1:-1]).sum(2)
        x0, y0 = at_bin(k.x, index), at_bin(k.y, index)
        w, h = at_bin(k.x, index + 1) - x0, at_bin(k.y, index + 1) - y0
        relative = w / h
        d0, d1 = at_bin(k.slopes, index) * relative, at_bin(k.slopes, index + 1) * relative
        edge = torch.where(v > end, k.slopes[:, :, -1], k.slopes[:, :, 0])
        excess = torch.where(outside, v - inside, 0.0)
        return cls(x0, y0, w, h, d0, d1, inside, excess, outside, edge)

    def value_and_log_slope(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx at the place ``theta`` in [0, 1] of the bin."""
        tau = 1 - theta
        denominator = theta.square() + tau.square() + (self.d0 + self.d1) * theta * tau
        slope = self.d1 * theta.square() + 2 * theta * tau + self.d0 * tau.square()
        y = self.y0 + self.h * theta * (theta + self.d0 * tau) / denominator
        log_slope = torch.log(self.h * slope / (self.w * denominator.square()))
        return y, torch.where(self.outside, torch.log(self.edge), log_slope)


def _forward(x: Tensor, p: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    k = knots(p, *options)
    tails, left, bottom = TAILS[options[2]], options[3], options[5]
    v, turns = _wrap(x, k.x) if tails == "circular" else (x, 0.0)
    b = _Bins.of(v, k, k.x)
    y, logs = b.value_and_log_slope((b.inside - b.x0) / b.w)
    if tails in ("identity", "circular"):
        far = x + (bottom - left)
        logs = torch.where(b.outside, torch.zeros_like(logs), logs)
    else:
        far = y + b.edge * b.excess
    if tails == "circular":
        y = y + turns * (k.y[:, :, -1] - k.y[:, :, 0])
    return torch.where(b.outside, far, y), logs


def _inverse(y: Tensor, p: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    k = knots(p, *options)
    tails, left, bottom = TAILS[options[2]], options[3], options[5]
    v, turns = _wrap(y, k.y) if tails == "circular" else (y, 0.0)
    b = _Bins.of(v, k, k.y)
    eta = (b.inside - b.y0) / b.h
    r = b.d0 * (1 - eta) - b.d1 * eta
    root = torch.sqrt(r.square() + 4 * eta * (1 - eta))
    rising = r > 0
    t = torch.where(rising, r, -r) + root
    theta = torch.where(rising, 2 * eta / (t + 2 * eta), t / (t + 2 * (1 - eta)))
    x = b.x0 + b.w * theta
    _, logs = b.value_and_log_slope(theta)
    if tails in ("identity", "circular"):
        far = y + (left - bottom)
        logs = torch.where(b.outside, torch.zeros_like(logs), logs)
    else:
        far = x + b.excess / b.edge
    if tails == "circular":
        x = x + turns * (k.x[:, :, -1] - k.x[:, :, 0])
    return torch.where(b.outside, far, x), -logs


_coupling = ParametricCoupling("rational_quadratic_coupling", parameter_count, _forward, _inverse)
reference, backward_reference = _coupling.reference, _coupling.backward_reference


def options(
    bins: int,
    preset: str,
    tails: str | None,
    bound: float | tuple[float, float, float, float] | None,
    min_size: float | None,
    min_slope: float | None,
    gain: float,
) -> tuple[int, int, int, float, float, float, float, float, float, float, float]:
    """The operator's options, checked; see :func:`rational_quadratic_coupling`."""
    name = "rational_quadratic_coupling"
    if preset not in PRESETS:
        raise ValueError(f"{name}: preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    chosen = PRESETS[preset]
    tails = chosen.tails[0] if tails is None else tails
    if tails not in chosen.tails:
        raise ValueError(f"{name}: tails of preset {preset} must be one of {', '.join(chosen.tails)}, got {tails!r}")
    bound = chosen.bound if bound is None else bound
    left, right, bottom, top = bound if isinstance(bound, tuple) else (-bound, bound, -bound, bound)
    if not (-math.inf < left < right < math.inf and -math.inf < bottom < top < math.inf):
        raise ValueError(f"{name}: bound must be positive or (left, right, bottom, top) of a box, got {bound}")
    if tails == "identity" and not math.isclose(right - left, top - bottom):
        raise ValueError(f"{name}: bound must be a box as wide as high for identity tails, got {bound}")
    if chosen.map == "square" and (left, right) != (bottom, top):
        raise ValueError(f"{name}: bound must be a box with equal sides and places for {preset!r}, got {bound}")
    if not 1 <= bins <= 1024:
        raise ValueError(f"{name}: bins must be in 1 .. 1024, got {bins}")
    min_size = chosen.min_size if min_size is None else min_size
    min_slope = chosen.min_slope if min_slope is None else min_slope
    limit = min(right - left, top - bottom) / bins if chosen.map == "free" else 1 / bins
    if not (0 < min_size < limit or (min_size == 0 and chosen.map == "softclip")):
        raise ValueError(f"{name}: min_size must be in (0, {limit:g}) for {bins} bins, got {min_size}")
    if not (0 < min_slope < 1 or (min_slope == 0 and chosen.map == "softclip")):
        raise ValueError(f"{name}: min_slope must be in (0, 1), got {min_slope}")
    beta = math.log(2) / (1 - min_slope) if chosen.unit_slope else 1.0
    map_code, tails_code = MAPS.index(chosen.map), TAILS.index(tails)
    return bins, map_code, tails_code, left, right, bottom, top, min_size, min_slope, gain, beta


def parameters(bins: int, preset: str = "nflows", tails: str | None = None) -> int:
    """P, the raw parameters that one element takes; see :func:`rational_quadratic_coupling`."""
    return parameter_count(*options(bins, preset, tails, None, None, None, 1.0))


def rational_quadratic_coupling(
    x: Tensor,
    params: Tensor,
    *,
    begin: int,
    bins: int,
    preset: str = "nflows",
    tails: str | None = None,
    bound: float | tuple[float, float, float, float] | None = None,
    min_size: float | None = None,
    min_slope: float | None = None,
    gain: float = 1.0,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Coupling by monotone rational-quadratic splines (Durkan et al., arXiv 1906.04032): one pass over memory.

    Each element of channels [begin, begin + n) goes through a spline of its own, the others pass through, and the
    result is permuted: ``y = x'[:, permutation]``. Every input has a defined result and finite gradients, also at
    knots, at the edges of the box and far outside of it.

    Arguments:
        x: (B, C, *spatial), 0 to 3 spatial dimensions.
        params: (B, n * P, *spatial); channel ``c * P + i`` is raw parameter i of the c-th transformed channel:
            ``bins`` widths, ``bins`` heights, then slopes at knots. :func:`parameters` gives P.
        begin: first transformed channel.
        bins: number of bins, 1 to 1024.
        preset: what raw parameters mean.

            - "nflows" (and normflows): sizes are a softmax with a minimum, slopes ``min_slope + softplus``.
            - "nflows_identity": the same with slopes 1 for raw parameters 0.
            - "zuko": sizes are a softmax of ``u / (1 + |2u / log 1e-3|)``, slopes the exponential of
              ``u / (1 + |u / log 1e-3|)``.
            - "freia": sizes are ``min_size + softplus``, so the box grows; two parameters before the slopes move its
              bottom and its left.
            - "freia_identity": a square box around 0, its size from one parameter before the slopes.
        tails: outside of the box: "identity" (slope 1 at its ends, P = 3 bins - 1), "interval" (bins + 1 slopes, P =
            3 bins + 1; beyond the box straight on with the slope at its edge), "circular" (the same slope at both
            ends, P = 3 bins; ``y(x + width) = y(x) + height``), "affine" (freia: straight on with the slope of the
            box, P = 3 bins + 1). The default is the first that the preset has; freia_identity has P = 3 bins.
        bound: the box: [-bound, bound] in x and y, or (left, right, bottom, top); 3 by default, 5 for zuko.
        min_size: smallest bin, as a share of the box (freia: in units of x and y).
        min_slope: smallest slope at a knot.
        gain: multiplies raw sizes before the softmax; nflows' and normflows' layers have ``1 / sqrt(hidden)``.
        permutation: (C,) int64, follows the coupling.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and log|det dy/dx| (B,) in float32 (float64 for float64).

    Raises:
        ValueError: a shape, dtype, device or option that does not fit.
    """
    chosen = options(bins, preset, tails, bound, min_size, min_slope, gain)
    return _coupling.call(x, params, permutation, begin, chosen, out, False)


def rational_quadratic_coupling_inverse(
    y: Tensor,
    params: Tensor,
    *,
    begin: int,
    bins: int,
    preset: str = "nflows",
    tails: str | None = None,
    bound: float | tuple[float, float, float, float] | None = None,
    min_size: float | None = None,
    min_slope: float | None = None,
    gain: float = 1.0,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`rational_quadratic_coupling`, with the same arguments: x and log|det dx/dy|."""
    chosen = options(bins, preset, tails, bound, min_size, min_slope, gain)
    return _coupling.call(y, params, permutation, begin, chosen, out, True)
