"""Runs one operator on the emulated kernels and compares it with its plain-torch reference in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import flowkit.ops  # noqa: F401, fills OPERATORS
from flowkit.ops._operator import OPERATORS

Namespace = Any
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
CLAMPS = {
    "none": (0.0,),
    "tanh": (1.0, 2.5),
    "atan": (2.0, 1.0),
    "sigmoid": (0.0, 1e-3),
    "softplus": (0.0, 1e-3),
    "softclip": (6.9, 1.0),
    "hard": (0.5, 3.0),
}
MEMORY = ("contiguous", "channels_last", "slice", "misaligned")


@dataclass(frozen=True)
class Case:
    """Shape, type and memory of an operator's tensors.

    ``begin`` and ``count``: the channels that a coupling moves. ``slope``: how much the operator amplifies rounding in
    the type that it computes in.
    """

    dtype: torch.dtype
    batch: int
    channels: int
    spatial: tuple[int, ...]
    begin: int
    count: int
    memory: str = "contiguous"
    permuted: bool = False
    inverse: bool = False
    seed: int = 0
    slope: float = 0.0

    def tensor(self, channels: int | None = None) -> Tensor:
        """Normal numbers (B, channels, *spatial), laid out as ``memory`` says."""
        shape = (self.batch, self.channels if channels is None else channels, *self.spatial)
        values = torch.randn(shape, dtype=torch.float64).to(self.dtype)
        if self.memory == "channels_last":
            return values.movedim(1, -1).contiguous().movedim(-1, 1)
        if self.memory == "slice":
            wide = values.new_empty(shape[0], shape[1] + 3, *shape[2:])
            return wide[:, 2 : 2 + shape[1]].copy_(values)
        if self.memory == "misaligned":
            return values.new_empty(values.numel() + 1)[1:].view(shape).copy_(values)
        return values

    def permutation(self) -> Tensor | None:
        """A permutation of the channels, or None."""
        return torch.randperm(self.channels) if self.permuted else None

    def accumulator(self) -> torch.dtype:
        """The type of log-determinants."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def tolerance(self, dtype: torch.dtype) -> float:
        """That of a result of this type."""
        return TOLERANCE[dtype] + self.slope * TOLERANCE[self.accumulator()]


def affine(
    ops: Namespace,
    case: Case,
    clamp: str,
    bound: float,
    gain: float,
    layout: int | None,
    form: int = 0,
    log_scale: bool | None = None,
) -> None:
    """``layout`` None: scale and shift in tensors of their own. ``log_scale`` None: without an actnorm."""
    torch.manual_seed(case.seed)
    x, permutation = case.tensor(), case.permutation()
    params = case.tensor(case.count * (1 if layout is None else 2))
    shift = case.tensor(case.count) if layout is None else None
    code, (offset, factor) = list(CLAMPS).index(clamp), (-0.4, 1.0) if clamp == "hard" else (0.3, 1.5)
    options = (case.begin, layout or 0, code, bound, gain, offset, factor, form, 0.7)
    _coupling(ops, "affine", case, x, (params, shift), permutation, options, log_scale)


def additive(ops: Namespace, case: Case, log_scale: bool | None = None) -> None:
    """The additive coupling, with an actnorm unless ``log_scale`` is None."""
    torch.manual_seed(case.seed)
    x, permutation = case.tensor(), case.permutation()
    _coupling(ops, "additive", case, x, (case.tensor(case.count),), permutation, (case.begin,), log_scale)


def _coupling(
    ops: Namespace,
    name: str,
    case: Case,
    x: Tensor,
    params: Sequence[Tensor | None],
    permutation: Tensor | None,
    options: Sequence[Any],
    log_scale: bool | None,
) -> None:
    if log_scale is None:
        name, tensors, options = f"{name}_coupling", (*params, permutation), (*options, case.inverse)
    else:
        tensors = (*params, *_actnorm_parameters(case, log_scale), permutation)
        name, options = f"{name}_step", (*options, log_scale, case.inverse)
    forward(ops, name, case, x, tensors, options, permutation is None)
    backward(ops, name, case, x, tensors, options)


def actnorm(ops: Namespace, case: Case, log_scale: bool) -> None:
    """Actnorm with either parametrisation."""
    torch.manual_seed(case.seed)
    x, tensors, options = case.tensor(), _actnorm_parameters(case, log_scale), (log_scale, case.inverse)
    forward(ops, "actnorm", case, x, tensors, options, True)
    backward(ops, "actnorm", case, x, tensors, options)


def _actnorm_parameters(case: Case, log_scale: bool) -> tuple[Tensor, Tensor]:
    """The scale has both signs where it is not a logarithm."""
    scale, shift = torch.randn(2, case.channels, dtype=case.accumulator())
    scale /= 2
    return (scale if log_scale else torch.where(scale < 0, scale - 0.5, scale + 0.5)), shift


def leaky_relu(ops: Namespace, case: Case, slope: float) -> None:
    """Leaky ReLU."""
    torch.manual_seed(case.seed)
    x, options = case.tensor(), (slope, case.inverse)
    forward(ops, "leaky_relu", case, x, (), options, True)
    backward(ops, "leaky_relu", case, x, (), options)


def permute(ops: Namespace, case: Case) -> None:
    """Channel permutation: bits move, so the comparison is exact."""
    torch.manual_seed(case.seed)
    x, permutation = case.tensor(), torch.randperm(case.channels)
    index = torch.argsort(permutation) if case.inverse else permutation
    torch.testing.assert_close(ops.permute_channels(x, permutation, case.inverse), x[:, index], rtol=0, atol=0)
    back = ops.permute_channels_backward(x, x, permutation, case.inverse)
    torch.testing.assert_close(back, x[:, torch.argsort(index)], rtol=0, atol=0)
    out = torch.empty_like(x)
    ops.permute_channels_out(x, permutation, case.inverse, out)
    torch.testing.assert_close(out, x[:, index], rtol=0, atol=0)


def linear(ops: Namespace, case: Case) -> None:
    """Linear map over channels, with its two gradients."""
    torch.manual_seed(case.seed)
    x, grad = case.tensor(), case.tensor()
    weight = (torch.randn(case.channels, case.channels) / math.sqrt(max(case.channels, 1))).to(case.dtype)
    operator = OPERATORS["channel_linear"]
    (truth,) = operator.reference(x.double(), weight.double())
    close(case, ops.channel_linear(x, weight), truth)
    out = torch.empty_like(x)
    ops.channel_linear_out(x, weight, out)
    close(case, out, truth)
    truths = operator.backward_reference(grad.double(), x.double(), weight.double())
    all_close(case, ops.channel_linear_backward(grad, x, weight), truths, reduced=(1,))


def forward(
    ops: Namespace,
    operator: str,
    case: Case,
    x: Tensor,
    tensors: Sequence[Tensor | None],
    options: Sequence[Any],
    in_place: bool,
) -> None:
    """The functional form, the form into a buffer, and the form in place, which add to the log-det that is there."""
    run: Callable[..., Any] = getattr(ops, operator)
    run_out: Callable[..., Any] = getattr(ops, operator + "_out")
    y, logdet = OPERATORS[operator].reference(*double([x, *tensors]), *options)
    all_close(case, run(x, *tensors, *options), (y, logdet), reduced=(1,))
    before = torch.randn(case.batch, dtype=case.accumulator())
    for out in (torch.full_like(x, math.nan), x.clone())[: 2 if in_place else 1]:
        total = before.clone()
        run_out(out if in_place and out.isfinite().all() else x, *tensors, *options, out, total)
        all_close(case, (out, total), (y, logdet + before), reduced=(1,))


def backward(
    ops: Namespace,
    operator: str,
    case: Case,
    y: Tensor,
    tensors: Sequence[Tensor | None],
    options: Sequence[Any],
) -> None:
    grad_y, grad_logdet = case.tensor(), torch.randn(case.batch, dtype=case.accumulator())
    inputs = [grad_y, grad_logdet, y, *tensors]
    truths = OPERATORS[operator].backward_reference(*double(inputs), *options)
    results = getattr(ops, operator + "_backward")(*inputs, *options)
    sums = [i for i, t in enumerate(truths) if t.dim() == 1]
    all_close(case, [results] if isinstance(results, Tensor) else results, truths, reduced=sums)


def double(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [t.double() if t is not None and t.is_floating_point() else t for t in tensors]


def all_close(case: Case, actual: Sequence[Tensor], truth: Sequence[Tensor], reduced: Sequence[int]) -> None:
    """``reduced``: the results that are sums, whose rounding grows with the number of terms."""
    assert len(actual) == len(truth)
    for i, (a, t) in enumerate(zip(actual, truth, strict=True)):
        if i in reduced:
            terms = case.batch * case.channels * math.prod(case.spatial)
            accurate = case.tolerance(case.accumulator() if a.dim() == 1 else case.dtype)
            torch.testing.assert_close(a.double(), t, rtol=accurate, atol=accurate * math.sqrt(terms + 1))
        else:
            close(case, a, t)


def close(case: Case, actual: Tensor, truth: Tensor) -> None:
    """Equal up to the rounding of the case's type."""
    tolerance = case.tolerance(case.dtype)
    torch.testing.assert_close(actual.double(), truth, rtol=tolerance, atol=tolerance)
