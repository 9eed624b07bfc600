"""Random arguments for every operator, in the order of its native schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import flowkit.ops  # noqa: F401, fills OPERATORS
from flowkit.ops import rational_quadratic
from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import OPERATORS, Operator
from flowkit.ops.affine import CLAMPS

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 3e-2, torch.float16: 4e-3}
SHAPES = ((3, 7), (0, 4), (1, 2), (2, 6, 5), (2, 6, 3, 5), (1, 4, 2, 3, 2), (0, 4, 3, 3), (2, 5, 1, 1), (1, 8, 33, 31))

# bins, preset, tails, bound, min_size, min_slope, gain
SPLINES = (
    (8, "nflows", "identity", 3.0, None, None, 0.5),
    (5, "nflows", "interval", (-1.0, 2.0, -3.0, 4.0), 0.02, 0.1, 1.0),
    (6, "nflows_identity", "circular", (-1.0, 2.0, -2.0, 3.0), None, None, 1.0),
    (4, "zuko", "identity", None, None, None, 1.0),
    (7, "freia", "affine", 3.0, None, None, 1.0),
    (3, "freia_identity", "identity", 2.0, 1e-3, None, 1.0),
    (1, "zuko", "circular", 1.0, None, None, 1.0),
)


@dataclass
class Case:
    """One call of one operator."""

    operator: Operator
    args: tuple[Any, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(t for t in self.args if isinstance(t, Tensor))

    def requires_grad(self) -> Case:
        """The same call with every floating-point tensor a leaf that requires gradients."""
        return Case(self.operator, tuple(leaf(a) if is_float(a) else a for a in self.args))

    def channels_last(self) -> Case:
        """The same call with its images channels-last in memory."""
        rank = self.args[0].dim()
        return Case(
            self.operator,
            tuple(in_layout(a, True) if isinstance(a, Tensor) and a.dim() == rank else a for a in self.args),
        )

    def to(self, dtype: torch.dtype) -> Case:
        return Case(self.operator, tuple(a.to(dtype) if is_float(a) else a for a in self.args))


def is_float(a: Any) -> bool:
    return isinstance(a, Tensor) and a.is_floating_point()


def leaf(t: Tensor) -> Tensor:
    return t.detach().clone(memory_format=torch.preserve_format).requires_grad_()


def in_layout(t: Tensor, channels_last: bool) -> Tensor:
    """The same values with channels last in memory, where there is space."""
    if not channels_last or t.dim() < 3:
        return t.contiguous()
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


def make_case(
    name: str,
    shape: tuple[int, ...] = (2, 6, 3, 5),
    dtype: torch.dtype = torch.float64,
    *,
    channels_last: bool = False,
    inverse: bool = False,
    permuted: bool = True,
    clamp: int = 1,
    layout: int = 0,
    separate: bool = False,
    first: bool = False,
    log_scale: bool = True,
    form: int = 0,
    seed: int = 0,
) -> Case:
    """Random arguments for operator ``name``."""
    g = torch.Generator().manual_seed(seed)
    batch, channels, *space = shape
    moved = max(1, channels // 2)
    begin = 0 if first else channels - moved
    wide = logdet_dtype(dtype)

    def randn(*size: int) -> Tensor:
        return in_layout(torch.randn(size, generator=g, dtype=torch.float64).to(dtype), channels_last)

    x = randn(*shape)
    permutation = torch.randperm(channels, generator=g)
    maybe = permutation if permuted else None
    options: dict[str, tuple[Any, ...]] = {
        "additive_coupling": (randn(batch, moved, *space), maybe, begin, inverse),
        "leaky_relu": (0.7, inverse),
        "permute_channels": (permutation, inverse),
    }
    if name in options:
        return Case(OPERATORS[name], (x, *options[name]))
    norm = (
        0.3 * torch.randn(channels, generator=g, dtype=wide) + (0 if log_scale else 1.5),
        torch.randn(channels, generator=g, dtype=wide),
    )
    if name == "actnorm":
        return Case(OPERATORS[name], (x, *norm, log_scale, inverse))
    if name == "additive_step":
        shift = randn(batch, moved, *space)
        return Case(OPERATORS[name], (x, shift, *norm, maybe, begin, log_scale, inverse))
    if name == "channel_linear":
        weight = torch.linalg.qr(torch.randn(channels, channels, generator=g, dtype=torch.float64))[0]
        return Case(OPERATORS[name], (x, weight.to(dtype)))
    if name == "mixture_logistic_coupling":
        components = 1 + 2 * layout
        params = 0.5 * randn(batch, moved * (3 * components + 2), *space)
        return Case(OPERATORS[name], (x, params, maybe, begin, components, 1.5 * (clamp % 2), -7.0, inverse))
    if name == "rational_quadratic_coupling":
        chosen = rational_quadratic.options(*SPLINES[(clamp + 4 * layout) % len(SPLINES)])
        params = 0.5 * randn(batch, moved * rational_quadratic.parameter_count(*chosen), *space)
        return Case(OPERATORS[name], (2 * x, params, maybe, begin, *chosen, inverse))
    if name == "masked_conv_solve":
        kernel, dilation = ((5, 3, 3) if first else (3, 5, 1))[: len(space)], (1, 2, 1)[: len(space)]
        weight = 0.3 * torch.randn(channels, channels, *kernel, generator=g, dtype=torch.float64)
        centre = weight[(..., *(k // 2 for k in kernel))]
        weight /= weight[0].numel() ** 0.5
        centre.diagonal().copy_(torch.rand(channels, generator=g, dtype=torch.float64) + 0.7)
        return Case(OPERATORS[name], (x, weight.to(dtype), dilation, inverse))
    params = randn(batch, moved if separate else 2 * moved, *space)
    shift = randn(batch, moved, *space) if separate else None
    codes = (begin, layout, *clamp_options(clamp), form, 0.7)
    if name == "affine_step":
        return Case(OPERATORS[name], (x, params, shift, *norm, maybe, *codes, log_scale, inverse))
    return Case(OPERATORS[name], (x, params, shift, maybe, *codes, inverse))


def clamp_options(clamp: int) -> tuple[int, float, float, float, float]:
    """Options of the clamp of this number, away from their defaults."""
    bound = {"sigmoid": 1e-3, "softplus": 1e-3, "hard": 0.5}.get(CLAMPS[clamp], 1.3)
    return clamp, bound, 0.9, -0.6 if CLAMPS[clamp] == "hard" else 0.4, 1.7


def relative_error(got: Tensor, expected: Tensor) -> float:
    """max|got - expected| / max(1, max|expected|)."""
    if expected.numel() == 0:
        return 0.0
    expected = expected.double()
    return float((got.double() - expected).abs().max() / expected.abs().max().clamp(min=1))
