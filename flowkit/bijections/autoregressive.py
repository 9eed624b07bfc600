"""Masked autoregressive transforms: every channel is transformed with parameters that depend on those before it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection, kind_of
from flowkit.bijections.elementwise import make_transform
from flowkit.ops.made import check_order


class MaskedAutoregressive(Bijection):
    """Masked autoregressive flow (MAF, arXiv 1705.07057, eq. 3-4), affine or with splines, of vectors or each pixel.

    Channel c of y is a map of channel c of x whose parameters depend on the channels of lower rank alone. The forward
    direction is one pass of the network; the inverse, without gradients, one walk of the same cost for a
    :class:`flowkit.nets.MADE` (arXiv 1705.07057 needs a pass for each rank). Otherwise, and always where gradients are
    recorded or under autocast, the inverse is one pass for each rank: exact, to any order, at that cost. An inverse
    autoregressive flow (IAF, arXiv 1606.04934), which samples fast, is ``Inverse(MaskedAutoregressive(...))``.

    Arguments:
        channels: C of x (B, C, *spatial).
        net: ``net(in_channels, out_channels, order=ranks) -> nn.Module``, as :func:`flowkit.nets.made` makes them:
            from C channels, then the condition, to P outputs for channel 0, P for channel 1, ..., those of a channel
            depending only on channels of lower rank.
        transform: "affine" or "rational_quadratic".
        condition: channels K of the condition, (B, K) (spread over all pixels) or (B, K, *spatial).
        order: None (channel 0 first), "reverse", or a rank for each channel, 0, 1, ...; channels of equal rank do not
            see each other, so that ranks 0 and 1 alone make a coupling.
        clamp, bound, gain, offset, factor, form, layout: of "affine", see :func:`flowkit.ops.affine_coupling`;
            interleaved layouts only, by default "scale_shift_interleaved".
        bins, preset, tails, bound, box, min_size, min_slope, gain: of "rational_quadratic", see
            :class:`flowkit.bijections.RationalQuadraticCoupling`.

    Raises:
        ValueError: an option that does not exist or is out of its range, or belongs to another transform; ranks with
            gaps; when called, a net that gives another number of channels than it was asked for.
    """

    rank: Tensor

    def __init__(
        self,
        channels: int,
        net: Callable[..., nn.Module],
        *,
        transform: str = "affine",
        condition: int = 0,
        order: str | Sequence[int] | None = None,
        clamp: str | None = None,
        bound: float | Sequence[float] | None = None,
        gain: float | None = None,
        offset: float | None = None,
        factor: float | None = None,
        form: str | None = None,
        layout: str | None = None,
        bins: int | None = None,
        preset: str | None = None,
        tails: str | Sequence[str] | None = None,
        box: tuple[float, float, float, float] | None = None,
        min_size: float | None = None,
        min_slope: float | None = None,
    ) -> None:
        super().__init__()
        self._check_count("channels", channels, 1)
        self._check_count("condition", condition, 0)
        self.channels, self.condition_channels, self.kind = channels, condition, transform
        options: dict[str, Any] = {
            "clamp": clamp,
            "bound": bound,
            "gain": gain,
            "offset": offset,
            "factor": factor,
            "form": form,
        }
        options |= {"layout": layout, "bins": bins, "preset": preset, "tails": tails, "box": box}
        try:
            self.transform = make_transform(transform, options | {"min_size": min_size, "min_slope": min_slope})
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error
        self.order = self._ranks(order)
        self.levels = len(set(self.order))
        self._width = self.transform.outputs * channels
        self.net = self._built(net)
        self.register_buffer("rank", torch.tensor(self.order), persistent=False)

    def _ranks(self, order: str | Sequence[int] | None) -> tuple[int, ...]:
        channels = self.channels or 0
        if order is None or order == "reverse":
            return tuple(range(channels) if order is None else reversed(range(channels)))
        if isinstance(order, str) or len(order) != channels:
            raise self._wrong("order", f"None, 'reverse' or {channels} ranks", repr(order))
        check_order(type(self).__name__, order)
        return tuple(order)

    def _built(self, net: Any) -> nn.Module:
        expected = "a factory net(in_channels, out_channels, order=ranks) -> nn.Module, like flowkit.nets.made()"
        if isinstance(net, nn.Module) or not callable(net):
            raise self._wrong("net", expected, repr(net))
        try:
            module = net((self.channels or 0) + self.condition_channels, self._width, order=self.order)
        except TypeError as error:
            if "order" not in str(error):
                raise
            raise self._wrong("net", expected, f"{net!r}, which takes no order") from error
        if not isinstance(module, nn.Module):
            raise self._wrong("net", expected, f"a factory that returns a {type(module).__name__}")
        return module

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        return self.transform(x, self._params(x, condition), inverse=False)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        condition = condition if self.condition_channels else None
        if self._can_fuse(y, condition):
            return self._fused(y, condition)
        rank = self.rank.reshape(-1, *[1] * (y.ndim - 2))
        x = torch.zeros_like(y)
        for level in range(self.levels - 1):
            found, _ = self.transform(y, self._params(x, condition), inverse=True)
            x = torch.where(rank == level, found, x)
        return self.transform(y, self._params(x, condition), inverse=True)  # by now, every parameter is right

    def _params(self, x: Tensor, condition: Tensor | None) -> Tensor:
        given = x
        if condition is not None and self.condition_channels:
            if condition.ndim < x.ndim:
                spread = condition.reshape(*condition.shape, *[1] * (x.ndim - 2))
                condition = spread.expand(-1, -1, *x.shape[2:])
            given = torch.cat([x, condition.to(x.dtype)], 1)
        params = self.net(given)
        if not isinstance(params, Tensor) or params.ndim < 2 or params.shape[1] != self._width:
            expected = f"an output of {self._width} channels, (B, {self._width}, *spatial)"
            raise self._wrong("net", expected, kind_of(params))
        return params

    def _can_fuse(self, y: Tensor, condition: Tensor | None) -> bool:
        net: Any = self.net
        if not callable(getattr(net, "is_plain", None)) or not net.is_plain() or not self.transform.inverts_networks:
            return False
        if any(p.dtype != y.dtype for p in net.parameters()) or y.dtype not in (torch.float32, torch.float64):
            return False
        if not ops.has_made_inverse(y, net.activation_name, len(net.layers)):
            return False
        if torch.is_autocast_enabled(y.device.type):  # the network's own rounding is part of the map
            return False
        sources = (y, condition, *self.net.parameters())
        recording = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in sources)
        return not recording

    def _fused(self, y: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Every pixel is a sample."""
        pixels = y.movedim(1, -1).flatten(0, -2) if y.ndim > 2 else y
        if condition is not None:
            if condition.ndim == y.ndim:
                condition = condition.movedim(1, -1).flatten(0, -2)
            else:
                condition = condition.repeat_interleave(len(pixels) // max(1, len(y)), 0)
            condition = condition.to(y.dtype)
        x, logdet = self.transform.made_inverse(pixels, self.net.network(condition))  # type: ignore[operator]
        if y.ndim > 2:
            x = x.unflatten(0, (len(y), *y.shape[2:])).movedim(-1, 1)
            logdet = logdet.unflatten(0, (len(y), y.shape[2:].numel())).sum(1)
        return x, logdet

    def extra_repr(self) -> str:
        shown = [f"{self.channels}", f"transform={self.kind!r}"]
        shown += [f"condition={self.condition_channels}"] * (self.condition_channels > 0)
        shown += [f"order={list(self.order)}"] * (self.order != tuple(range(self.channels or 0)))
        return ", ".join(shown)
