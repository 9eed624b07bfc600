"""Flow++'s coupling: every element through the distribution function of a mixture of logistics of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.ops._parametric import ParametricCoupling
from flowkit.ops.workspace import Workspace

FARTHEST = 1e18  # larger |x| are taken as this
SMALLEST_WEIGHT = -50.0  # log of the smallest weight of a component, relative to the largest
LARGEST_LOG_SCALE = 20.0
LARGEST_LOG_FACTOR = 80.0
STEPS = 64  # of the reference's bisection, which needs no care


def parameter_count(components: int, *options: float) -> int:
    """Raw parameters of one element."""
    return 3 * components + 2


def _unpack(
    p: Tensor, components: int, bound: float, min_log_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A, b, and of the components the log-weights, means and log-scales."""
    a, b = p[:, :, 0], p[:, :, 1]
    logits, means, log_scales = p[:, :, 2:].split(components, 2)
    a = bound * torch.tanh(a) if bound > 0 else a.clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR)
    logits = logits.clamp(-FARTHEST, FARTHEST)
    logits = (logits - logits.amax(2, keepdim=True).detach()).clamp(min=SMALLEST_WEIGHT)
    means = means.clamp(-FARTHEST, FARTHEST)
    return a, b, torch.log_softmax(logits, 2), means, log_scales.clamp(min_log_scale, LARGEST_LOG_SCALE)


def _logit_and_log_slope(x: Tensor, weights: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """logit(F(x)) and the logarithm of its derivative."""
    z = (x.unsqueeze(2) - means) * torch.exp(-log_scales)
    log_below, log_above = F.logsigmoid(z), F.logsigmoid(-z)
    below, above = torch.logsumexp(weights + log_below, 2), torch.logsumexp(weights + log_above, 2)
    density = torch.logsumexp(weights + log_below + log_above - log_scales, 2)
    return below - above, density - below - above


def _forward(x: Tensor, p: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    a, b, *mixture = _unpack(p, *options)
    t, log_slope = _logit_and_log_slope(x.clamp(-FARTHEST, FARTHEST), *mixture)
    return t * torch.exp(a) + b, log_slope + a


def _inverse(y: Tensor, p: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    a, b, *mixture = _unpack(p, *options)
    target = ((y - b) * torch.exp(-a)).clamp(-FARTHEST, FARTHEST)
    fixed = [t.detach() for t in mixture]
    quantiles = (fixed[1] + target.detach().unsqueeze(2) * torch.exp(fixed[2])).clamp(-FARTHEST, FARTHEST)
    low, high = quantiles.amin(2), quantiles.amax(2)
    for _ in range(STEPS):
        middle = low + 0.5 * (high - low)
        too_high = _logit_and_log_slope(middle, *fixed)[0] > target
        low, high = torch.where(too_high, low, middle), torch.where(too_high, middle, high)
    x = low + 0.5 * (high - low)
    for _ in range(2):  # Newton's steps, through which gradients flow
        t, log_slope = _logit_and_log_slope(x, *mixture)
        x = x - (t - target) * torch.exp(-log_slope)
    return x, -_logit_and_log_slope(x, *mixture)[1] - a


_coupling = ParametricCoupling("mixture_logistic_coupling", parameter_count, _forward, _inverse)
reference, backward_reference = _coupling.reference, _coupling.backward_reference


def options(components: int, bound: float, min_log_scale: float) -> tuple[int, float, float]:
    """The options in the order of the native schema; ValueError for one out of its range."""
    name = "mixture_logistic_coupling"
    if not 1 <= components <= 1024:
        raise ValueError(f"{name}: components must be in 1 .. 1024, got {components}")
    if not 0 <= bound <= LARGEST_LOG_FACTOR:
        raise ValueError(f"{name}: bound must be in [0, {LARGEST_LOG_FACTOR:g}], got {bound}")
    if not -LARGEST_LOG_SCALE <= min_log_scale < LARGEST_LOG_SCALE:
        raise ValueError(f"{name}: min_log_scale must be in [-20, 20), got {min_log_scale}")
    return components, float(bound), float(min_log_scale)


def mixture_logistic_coupling(
    x: Tensor,
    params: Tensor,
    *,
    begin: int,
    components: int,
    bound: float = 0.0,
    min_log_scale: float = -7.0,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Coupling of Flow++ (Ho et al., arXiv 1902.00275, eq. 5): one pass over memory.

    Each element of channels [begin, begin + n) becomes ``logit(F(x)) exp(A) + b``, where F is the distribution function
    of a mixture of logistics of its own; the others pass through, and the result is permuted:
    ``y = x'[:, permutation]``. The inverse is found to a few units in the last place. Both are stable in the tails.

    Arguments:
        x: (B, C, *spatial), 0 to 3 spatial dimensions. Values beyond 1e18 are taken as 1e18.
        params: (B, n * (3K + 2), *spatial); channel ``c * (3K + 2) + i`` is parameter i of the c-th transformed
            channel: a, b, then of the K components the logits, the means and the log-scales.
        begin: first transformed channel.
        components: K, 1 to 1024.
        bound: A is ``bound * tanh(a)``, or with 0 just a (between -80 and 80).
        min_log_scale: smaller log-scales are taken as this, those above 20 as 20.
        permutation: (C,) int64, follows the coupling.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Returns:
        y like x, and log|det dy/dx| (B,) in float32 (float64 for float64).

    Raises:
        ValueError: a shape, dtype, device or option that does not fit.
    """
    return _coupling.call(x, params, permutation, begin, options(components, bound, min_log_scale), out, False)


def mixture_logistic_coupling_inverse(
    y: Tensor,
    params: Tensor,
    *,
    begin: int,
    components: int,
    bound: float = 0.0,
    min_log_scale: float = -7.0,
    permutation: Tensor | None = None,
    out: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`mixture_logistic_coupling`, with the same arguments: x and log|det dx/dy|."""
    return _coupling.call(y, params, permutation, begin, options(components, bound, min_log_scale), out, True)
