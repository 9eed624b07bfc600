"""Couplings and elementwise layers whose map is a monotone spline or a mixture of logistics."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection
from flowkit.bijections.coupling import Factory, _Coupling
from flowkit.bijections.elementwise import Elementwise, make_transform

Box = tuple[float, float, float, float]


class _ElementwiseCoupling(_Coupling):
    """A coupling by an elementwise map with P parameters an element."""

    def __init__(self, kind: str, options: dict[str, Any], channels: int, net: Factory, **where: Any) -> None:
        self.transform = _transform_of(self, kind, options)
        self._outputs = self.transform.outputs
        super().__init__(channels, net, **where)

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        where: dict[str, Any] = {"begin": self._begin, "permutation": self._fused}
        return self.transform(x, *params, inverse=inverse, out=out, **where)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.transform!r}"


def _transform_of(owner: Bijection, kind: str, options: dict[str, Any]) -> Elementwise:
    try:
        transform: Elementwise = make_transform(kind, options)
    except ValueError as error:
        raise ValueError(f"{type(owner).__name__}: {error}") from error
    return transform


class RationalQuadraticCoupling(_ElementwiseCoupling):
    """Coupling by rational-quadratic splines (neural spline flow, arXiv 1906.04032, eq. 4-8).

    Every input has a defined result and finite gradients: at knots, at the edges of the box and outside.

    Arguments:
        channels, net, condition, split, transform_first, permutation, mask (of channels): as in
            :class:`flowkit.bijections.AffineCoupling`; the net gives P outputs for the first transformed channel, then
            P for the next, ...
        bins: number of bins.
        preset: what raw parameters mean, "nflows" (and normflows), "nflows_identity", "zuko", "freia" or
            "freia_identity": see :func:`flowkit.ops.rational_quadratic_coupling`, with P for each of the tails. Raw
            zeros, as of a net with zero_last, are the identity for all but "nflows".
        tails: "identity", "interval", "circular" or "affine": what holds outside of the box; default: the first of the
            preset. Or one for each transformed channel, as for angles ("circular") beside numbers ("identity").
        bound: the box is [-bound, bound] in x and y; default 3, zuko 5. Or one for each transformed channel.
        box: (left, right, bottom, top) instead.
        min_size, min_slope: smallest share of a bin in the box, and smallest slope at a knot; default: the preset's.
        gain: factor of raw widths and heights; nflows' and normflows' couplings have 1 / sqrt(hidden units).

    Raises:
        ValueError: as :class:`flowkit.bijections.AffineCoupling`.
    """

    def __init__(
        self,
        channels: int,
        net: Factory,
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        bins: int = 8,
        preset: str = "nflows",
        tails: str | Sequence[str] | None = None,
        bound: float | Sequence[float] | None = None,
        box: Box | None = None,
        min_size: float | None = None,
        min_slope: float | None = None,
        gain: float = 1.0,
        permutation: str | Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        options = {"bins": bins, "preset": preset, "tails": tails, "bound": bound, "box": box}
        options |= {"min_size": min_size, "min_slope": min_slope, "gain": gain}
        where: dict[str, Any] = {"condition": condition, "split": split, "transform_first": transform_first}
        super().__init__("rational_quadratic", options, channels, net, permutation=permutation, mask=mask, **where)


class MixtureLogisticCoupling(_ElementwiseCoupling):
    """Coupling of Flow++ (arXiv 1902.00275, eq. 5): ``logit(F(x)) exp(a) + b``, F a mixture's distribution function.

    Arguments:
        channels, net, condition, split, transform_first, permutation, mask (of channels): as in
            :class:`flowkit.bijections.AffineCoupling`; the net gives 3K + 2 outputs for the first transformed channel
            (a, b, then K logits, means and log-scales), then as many for the next, ...
        components: K.
        bound: the log-scale a is ``bound * tanh(a)``; 0 leaves it as it is.
        min_log_scale: smallest log-scale of a component.

    A net with zero_last starts as the identity.

    Raises:
        ValueError: as :class:`flowkit.bijections.AffineCoupling`.
    """

    def __init__(
        self,
        channels: int,
        net: Factory,
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        components: int = 8,
        bound: float = 0.0,
        min_log_scale: float = -7.0,
        permutation: str | Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        options = {"components": components, "bound": bound, "min_log_scale": min_log_scale}
        where: dict[str, Any] = {"condition": condition, "split": split, "transform_first": transform_first}
        super().__init__("mixture_logistic", options, channels, net, permutation=permutation, mask=mask, **where)


class RationalQuadraticSpline(Bijection):
    """Rational-quadratic splines with learned parameters for each channel, the same for all samples and pixels.

    Starts as the identity. nflows' ``apply_unconditional_transform`` (and normflows, always) has it on the passive
    channels behind a coupling: ``Compose(coupling, RationalQuadraticSpline(C, begin=..., count=...))``.

    Arguments:
        channels: C of x (B, C, *spatial).
        begin, count: the channels [begin, begin + count) are transformed; by default all.
        bins, preset, tails, bound, box, min_size, min_slope: as in :class:`RationalQuadraticCoupling`.

    The parameter ``raw`` is (count, P).

    Raises:
        ValueError: an option that does not exist or is out of its range.
    """

    in_place = True

    def __init__(
        self,
        channels: int,
        *,
        begin: int = 0,
        count: int | None = None,
        bins: int = 8,
        preset: str = "nflows",
        tails: str | Sequence[str] | None = None,
        bound: float | Sequence[float] | None = None,
        box: Box | None = None,
        min_size: float | None = None,
        min_slope: float | None = None,
    ) -> None:
        super().__init__()
        self._check_count("channels", channels, 1)
        self._check_count("begin", begin, 0, channels - 1)
        self.channels, self.begin, self.count = channels, begin, channels - begin if count is None else count
        self._check_count("count", self.count, 1, channels - begin)
        options = {"bins": bins, "preset": preset, "tails": tails, "bound": bound, "box": box}
        options |= {"min_size": min_size, "min_slope": min_slope}
        self.transform = _transform_of(self, "rational_quadratic", options)
        raw = torch.zeros(self.count, self.transform.outputs)
        if preset == "nflows":  # slopes min_slope + softplus(raw) = 1
            least = 1e-3 if min_slope is None else min_slope
            raw[:, 2 * bins :] = math.log(math.expm1(1 - least))
        self.raw = nn.Parameter(raw)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        return self.transform(x, self._params(x), begin=self.begin, inverse=False, out=out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        return self.transform(y, self._params(y), begin=self.begin, inverse=True, out=out)

    def _params(self, x: Tensor) -> Tensor:
        spread = self.raw.reshape(1, -1, *[1] * (x.ndim - 2))
        return spread.expand(x.shape[0], -1, *x.shape[2:])

    def extra_repr(self) -> str:
        part = f", begin={self.begin}, count={self.count}" * (self.count != self.channels)
        return f"{self.channels}{part}, {self.transform!r}"
