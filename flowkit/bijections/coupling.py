"""Affine and additive couplings: one part of the channels drives an elementwise map of the other."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection, kind_of
from flowkit.bijections.permutation import check_permutation, swap
from flowkit.ops.affine import CLAMPS, LAYOUTS

Factory = Callable[[int, int], nn.Module]


class _Coupling(Bijection):
    """What couplings share: the two parts, the conditioner networks and the permutation that follows."""

    in_place = True
    permutation: Tensor | None
    _permuted: Tensor | None
    _outputs = 1  # numbers that the conditioner gives for each transformed channel

    def __init__(
        self,
        channels: int,
        net: Factory | tuple[Factory, ...],
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        permutation: str | Tensor | None = None,
    ) -> None:
        super().__init__()
        self._check_count("condition", condition, 0)
        alone = "" if condition else "one channel can only be driven by a condition"
        self._check_count("channels", channels, 1 if condition else 2, advice=alone)
        self.channels, self.condition_channels, self.transform_first = channels, condition, transform_first
        self.split = channels // 2 if split is None else split
        self._check_count("split", self.split, int(condition == 0), channels - 1)
        moved = channels - self.split
        self._begin, start = (0, moved) if transform_first else (self.split, 0)
        self._passive = (start, self.split)
        inputs = self.split + condition
        if not isinstance(net, tuple):
            self._width = self._outputs * moved
            self.net = self._built(net, inputs)
        elif len(net) == 2 == self._outputs:
            self._width = moved
            self.scale_net, self.shift_net = (self._built(one, inputs) for one in net)
        else:
            raise self._wrong("net", "a factory" + " or a pair of them" * (self._outputs == 2), f"{len(net)} factories")
        drawn = isinstance(permutation, Tensor)
        self.register_buffer("permutation", self._as_permutation(permutation), persistent=drawn)
        self._locate_passive()

    def _built(self, net: Any, inputs: int) -> nn.Module:
        """The network that the factory ``net`` makes."""
        expected = "a factory net(in_channels, out_channels) -> nn.Module, like flowkit.nets.mlp()"
        if isinstance(net, nn.Module):
            raise self._wrong("net", expected, f"the built module {type(net).__name__}", "use lambda *channels: module")
        if not callable(net):
            raise self._wrong("net", expected, repr(net))
        module = net(inputs, self._width)
        if not isinstance(module, nn.Module):
            raise self._wrong("net", expected, f"a factory that returns a {type(module).__name__}")
        return module

    def _as_permutation(self, permutation: str | Tensor | None) -> Tensor | None:
        if permutation is None:
            return None
        if isinstance(permutation, Tensor):
            self.check_loaded("permutation", permutation)
            return permutation.long()
        if permutation == "swap":
            return swap(self.channels or 0, self._passive[0] or self.split)
        if permutation == "flip":
            return torch.arange(self.channels or 0).flip(0)
        raise self._wrong("permutation", "None, 'swap', 'flip' or a tensor", repr(permutation))

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "permutation":
            check_permutation(type(self).__name__, value)
            self._check_channels(len(value), name)

    def _locate_passive(self) -> None:
        """Keeps where the passive channels lie after the permutation."""
        found = None
        if self.permutation is not None:
            found = self.permutation.argsort().narrow(0, *self._passive)
        self.register_buffer("_permuted", found, persistent=False)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._locate_passive()

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        return self._transform(x, self._conditioner(x, condition, inverse=False), inverse=False, out=out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        return self._transform(y, self._conditioner(y, condition, inverse=True), inverse=True, out=out)

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """The elementwise map with what the conditioner gave: the fused operator, permutation included."""
        raise NotImplementedError(f"{type(self).__name__} defines no _transform")

    def _conditioner(self, x: Tensor, condition: Tensor | None, inverse: bool) -> tuple[Tensor, ...]:
        """The networks' outputs for x (before the permutation) or, with ``inverse``, for y (after it)."""
        if inverse and self._permuted is not None:
            given = x.index_select(1, self._permuted)
        else:
            given = x.narrow(1, *self._passive)
        if condition is not None and self.condition_channels:
            if condition.ndim < x.ndim:
                spread = condition.reshape(*condition.shape, *[1] * (x.ndim - 2))
                condition = spread.expand(-1, -1, *x.shape[2:])
            given = torch.cat([given, condition.to(x.dtype)], 1)
        if "net" in self._modules:
            return (self._run(self.net, given),)
        return self._run(self.scale_net, given), self._run(self.shift_net, given)

    def _run(self, net: nn.Module, given: Tensor) -> Tensor:
        """What ``net`` gives for the tensor ``given``, of the width that was asked for."""
        try:
            output = net(given)
        except RuntimeError as error:
            own = next((p.dtype for p in net.parameters()), given.dtype)
            if own == given.dtype or torch.is_autocast_enabled(given.device.type):
                raise
            cure = "layer.double()" if given.dtype == torch.float64 else f"layer.to({given.dtype})"
            raise self._wrong("net", f"an input of its own type {own}", given.dtype, f"use {cure}") from error
        if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[1] != self._width:
            expected = f"an output of {self._width} channels, (B, {self._width}, *spatial)"
            raise self._wrong("net", expected, kind_of(output))
        return output

    def extra_repr(self) -> str:
        shown = [f"{self.channels}"]
        shown += [f"condition={self.condition_channels}"] * (self.condition_channels > 0)
        shown += [f"split={self.split}"] * (self.split != (self.channels or 0) // 2)
        shown += ["transform_first=True"] * self.transform_first
        return ", ".join(shown)


class AffineCoupling(_Coupling):
    """Affine coupling (Real NVP, arXiv 1605.08803, eq. 4-5) with any conditioner, clamp and split.

    The transformed channels become ``x * exp(l(u)) + t`` with (u, t) = net(passive channels, condition); then, in the
    same pass over memory, all channels are permuted.

    Arguments:
        channels: C of x (B, C, *spatial).
        net: ``net(in_channels, out_channels) -> nn.Module``, as :mod:`flowkit.nets` makes them, giving u and t; or a
            pair (scale net, shift net) of networks on the same input, as in Net2Net (arXiv 2005.13580). A network must
            not write into its input, as ``nn.ReLU(inplace=True)`` does as a first layer: it may be a view of x.
        condition: channels K of the condition, (B, K) (spread over all pixels) or (B, K, *spatial).
        split: number of passive channels, default C // 2; 0 leaves all to the condition.
        transform_first: whether the first channels are transformed and the last ones passive.
        clamp, bound, gain, layout: see :func:`flowkit.ops.affine_coupling`.
        permutation: what follows: "swap" (the two parts change places), "flip" (reverse order), or a tensor (C,), which
            the state dict keeps.

    Raises:
        ValueError: an option that does not exist or is out of its range, a split that leaves nothing to one side, a net
            that is no factory; when called, a net that gives another number of channels than it was asked for, or that
            is of another type than x.
    """

    _outputs = 2

    def __init__(
        self,
        channels: int,
        net: Factory | tuple[Factory, ...],
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        clamp: str = "tanh",
        bound: float | None = None,
        gain: float = 1.0,
        layout: str = "scale_shift",
        permutation: str | Tensor | None = None,
    ) -> None:
        if clamp not in CLAMPS:
            raise self._wrong("clamp", f"one of {', '.join(CLAMPS)}", repr(clamp))
        if layout not in LAYOUTS:
            raise self._wrong("layout", f"one of {', '.join(LAYOUTS)}", repr(layout))
        if not math.isfinite(gain):
            raise self._wrong("gain", "a finite number", gain)
        least = 0.0 if clamp == "sigmoid" else -math.inf
        if bound is not None and not (math.isfinite(bound) and bound >= least):
            raise self._wrong("bound", "a finite number" + " >= 0" * (least == 0), bound)
        super().__init__(
            channels, net, condition=condition, split=split, transform_first=transform_first, permutation=permutation
        )
        self.clamp, self.bound, self.gain, self.layout = clamp, bound, gain, layout

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        call = ops.affine_coupling_inverse if inverse else ops.affine_coupling
        return call(x, *params, **self._options(), out=out)

    def _options(self) -> dict[str, Any]:
        return {
            "begin": self._begin,
            "clamp": self.clamp,
            "bound": self.bound,
            "gain": self.gain,
            "layout": self.layout,
            "permutation": self.permutation,
        }

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, clamp={self.clamp!r}"


class AdditiveCoupling(_Coupling):
    """Additive coupling (NICE, arXiv 1410.8516): the transformed channels become ``x + net(passive, condition)``.

    Arguments: as :class:`AffineCoupling`, without clamp and layout; ``net`` is one factory. The log-det is zero.
    """

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        call = ops.additive_coupling_inverse if inverse else ops.additive_coupling
        return call(x, *params, begin=self._begin, permutation=self.permutation, out=out)
