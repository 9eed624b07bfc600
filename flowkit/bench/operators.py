"""The operators that are timed: their operands, our call, the plain-torch formulation, and the bytes they must move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowkit import ops
from flowkit.ops import additive, affine, linear, mixture_logistic, permute, rational_quadratic
from flowkit.ops._layout import logdet_dtype
from flowkit.ops.actnorm import reference as actnorm_reference
from flowkit.ops.leaky_relu import reference as leaky_relu_reference

SLOPE = 0.9
BINS = 8
COMPONENTS = 8


@dataclass(frozen=True)
class Operator:
    """One operator as a benchmark case.

    ``operands(x)`` makes the other tensors. ``forward`` and ``inverse`` are our calls ``(x, *operands, out=)``, without
    an inverse where that is the same call; ``reference`` is the plain-torch form ``(x, *operands, inverse=)``.
    ``in_place_share``: the share of x that a call in place must move. ``backward_reads``: how many times the size of x
    a backward must read, the incoming gradient included. ``light``: whether operands are of the size of x at most.
    """

    name: str
    operands: Callable[[Tensor], tuple[Tensor, ...]]
    forward: Callable[..., Any]
    inverse: Callable[..., Any] | None
    reference: Callable[..., Any]
    in_place_share: float = 1.0
    backward_reads: float = 2.0
    light: bool = True

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that are timed."""
        return ("forward", "inverse", "backward") if self.inverse is not None else ("forward", "backward")

    def bytes(self, direction: str, x: Tensor, operands: tuple[Tensor, ...], in_place: bool) -> int:
        """Bytes that the operator must read and write, log-det apart."""
        size, extra = nbytes(x), sum(map(nbytes, operands))
        if direction != "backward":
            return int(2 * size * (self.in_place_share if in_place else 1)) + extra
        gradients = sum(nbytes(t) for t in operands if t.is_floating_point())
        return int((self.backward_reads + 1) * size) + (extra if self.backward_reads > 1 else 0) + gradients


def nbytes(t: Tensor) -> int:
    """Size of the elements of ``t``."""
    return t.numel() * t.element_size()


def channels_last(x: Tensor) -> Tensor:
    """x (B, C, *spatial) with its channels fastest in memory, for any number of spatial dimensions."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def random(x: Tensor, channels: int) -> Tensor:
    """Values of moderate size, shaped as x with another number of channels and in the same memory layout."""
    t = torch.randn(x.size(0), channels, *x.shape[2:], device=x.device).mul_(0.5).to(x.dtype)
    return t if x.is_contiguous() else channels_last(t)


def per_channel(x: Tensor) -> tuple[Tensor, Tensor]:
    """A log-scale and a shift a channel, in the type that the operator computes in."""
    log_scale, shift = torch.randn(2, x.size(1), dtype=logdet_dtype(x.dtype), device=x.device).mul_(0.1)
    return log_scale, shift


def order(x: Tensor) -> Tensor:
    """A random order of the channels of x."""
    return torch.randperm(x.size(1)).to(x.device)


def rotation(x: Tensor) -> Tensor:
    """A random rotation (C, C) of the channels of x."""
    q: Tensor = torch.linalg.qr(torch.randn(x.size(1), x.size(1)))[0]
    return q.to(x)


def affine_coupling(name: str, clamp: str = "tanh", permuted: bool = False) -> Operator:
    """Affine coupling on the second half of the channels, with or without a permutation in the same pass."""
    options = affine.clamp_options(clamp, None, 1.0, None, 1.0)

    def call(
        function: Callable[..., Any],
        x: Tensor,
        params: Tensor,
        permutation: Tensor | None = None,
        out: ops.Workspace | None = None,
    ) -> Any:
        return function(x, params, begin=x.size(1) // 2, clamp=clamp, permutation=permutation, out=out)

    def reference(x: Tensor, params: Tensor, permutation: Tensor | None = None, *, inverse: bool) -> Any:
        return affine.reference(x, params, None, permutation, x.size(1) // 2, 0, *options, 0, 1.0, inverse)

    return Operator(
        name,
        operands=lambda x: (random(x, x.size(1)), order(x)) if permuted else (random(x, x.size(1)),),
        forward=partial(call, ops.affine_coupling),
        inverse=partial(call, ops.affine_coupling_inverse),
        reference=reference,
        in_place_share=1.0 if permuted else 0.5,
        backward_reads=1.5,
    )


def rational_quadratic_coupling() -> Operator:
    """Spline coupling on the second half of the channels, with the parameters of nflows."""

    def call(function: Callable[..., Any], x: Tensor, params: Tensor, out: ops.Workspace | None = None) -> Any:
        return function(x, params, begin=x.size(1) // 2, bins=BINS, out=out)

    def reference(x: Tensor, params: Tensor, *, inverse: bool) -> Any:
        options = rational_quadratic.options(BINS, "nflows", None, None, None, None, 1.0)
        return rational_quadratic.reference(x, params, None, x.size(1) // 2, *options, inverse)

    return Operator(
        "rational_quadratic_coupling",
        operands=lambda x: (random(x, (x.size(1) - x.size(1) // 2) * rational_quadratic.parameters(BINS)),),
        forward=partial(call, ops.rational_quadratic_coupling),
        inverse=partial(call, ops.rational_quadratic_coupling_inverse),
        reference=reference,
        in_place_share=0.5,
        backward_reads=1.5,
        light=False,
    )


def mixture_logistic_coupling() -> Operator:
    """Flow++'s coupling on the second half of the channels."""

    def call(function: Callable[..., Any], x: Tensor, params: Tensor, out: ops.Workspace | None = None) -> Any:
        return function(x, params, begin=x.size(1) // 2, components=COMPONENTS, out=out)

    def reference(x: Tensor, params: Tensor, *, inverse: bool) -> Any:
        return mixture_logistic.reference(x, params, None, x.size(1) // 2, COMPONENTS, 0.0, -7.0, inverse)

    return Operator(
        "mixture_logistic_coupling",
        operands=lambda x: (random(x, (x.size(1) - x.size(1) // 2) * (3 * COMPONENTS + 2)),),
        forward=partial(call, ops.mixture_logistic_coupling),
        inverse=partial(call, ops.mixture_logistic_coupling_inverse),
        reference=reference,
        in_place_share=0.5,
        backward_reads=1.5,
        light=False,
    )


def affine_step() -> Operator:
    """Affine coupling on the second half of the channels and the actnorm that follows, in one pass."""
    options = affine.clamp_options("tanh", None, 1.0, None, 1.0)

    def call(
        function: Callable[..., Any], x: Tensor, params: Tensor, scale: Tensor, shift: Tensor, out: Any = None
    ) -> Any:
        return function(x, params, norm_scale=scale, norm_shift=shift, begin=x.size(1) // 2, out=out)

    def reference(x: Tensor, params: Tensor, scale: Tensor, shift: Tensor, *, inverse: bool) -> Any:
        first: Tensor | int = 0
        last: Tensor | int = 0
        if inverse:
            x, first = actnorm_reference(x, scale, shift, True, True)
        x, logdet = affine.reference(x, params, None, None, x.size(1) // 2, 0, *options, 0, 1.0, inverse)
        if not inverse:
            x, last = actnorm_reference(x, scale, shift, True, False)
        return x, first + logdet + last

    return Operator(
        "affine_step",
        operands=lambda x: (random(x, x.size(1)), *per_channel(x)),
        forward=partial(call, ops.affine_step),
        inverse=partial(call, ops.affine_step_inverse),
        reference=reference,
    )


RATIONAL_QUADRATIC = rational_quadratic_coupling()
OPERATORS = (
    affine_coupling("affine_coupling"),
    affine_coupling("affine_coupling_permuted", permuted=True),
    affine_coupling("affine_coupling_none", clamp="none"),
    affine_coupling("affine_coupling_atan", clamp="atan"),
    affine_coupling("affine_coupling_sigmoid", clamp="sigmoid"),
    Operator(
        "additive_coupling",
        operands=lambda x: (random(x, x.size(1) // 2),),
        forward=lambda x, shift, out=None: ops.additive_coupling(x, shift, begin=x.size(1) // 2, out=out),
        inverse=lambda x, shift, out=None: ops.additive_coupling_inverse(x, shift, begin=x.size(1) // 2, out=out),
        reference=lambda x, shift, inverse: additive.reference(x, shift, None, x.size(1) // 2, inverse),
        in_place_share=0.5,
        backward_reads=1,
    ),
    Operator(
        "actnorm",
        operands=per_channel,
        forward=lambda x, scale, shift, out=None: ops.actnorm(x, scale, shift, log_scale=True, out=out),
        inverse=lambda x, scale, shift, out=None: ops.actnorm_inverse(x, scale, shift, log_scale=True, out=out),
        reference=lambda x, scale, shift, inverse: actnorm_reference(x, scale, shift, True, inverse),
    ),
    Operator(
        "channel_linear",
        operands=lambda x: (rotation(x),),
        forward=ops.channel_linear,
        inverse=None,
        reference=lambda x, weight, inverse: linear.reference(x, weight),
    ),
    Operator(
        "permute_channels",
        operands=lambda x: (order(x),),
        forward=ops.permute_channels,
        inverse=partial(ops.permute_channels, inverse=True),
        reference=permute.reference,
        backward_reads=1,
    ),
    Operator(
        "leaky_relu",
        operands=lambda x: (),
        forward=lambda x, out=None: ops.leaky_relu(x, SLOPE, out=out),
        inverse=lambda x, out=None: ops.leaky_relu_inverse(x, SLOPE, out=out),
        reference=lambda x, inverse: leaky_relu_reference(x, SLOPE, inverse),
    ),
    RATIONAL_QUADRATIC,
    mixture_logistic_coupling(),
    affine_step(),
)
