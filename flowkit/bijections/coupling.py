"""Affine and additive couplings: one part of the channels drives an elementwise map of the other."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from flowkit import ops
from flowkit.bijections.base import batch_logdet, kind_of
from flowkit.bijections.parts import Parts
from flowkit.ops.affine import (
    CLAMP_OPTIONS,
    CLAMPS,
    LAYOUTS,
    Bound,
    ClampOptions,
    clamp_options,
    log_scale,
    unpack,
    wrong_option,
)
from flowkit.ops.stacked_linear import MOST_SAMPLES

Factory = Callable[[int, int], nn.Module]


class _Coupling(Parts):
    """What couplings share: the two parts, the conditioner networks and the permutation that follows."""

    in_place = True
    _outputs = 1  # numbers that the conditioner gives for each transformed channel
    _pairs = False  # whether two networks may give them

    def __init__(
        self,
        channels: int,
        net: Factory | tuple[Factory, ...],
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        permutation: str | Tensor | None = None,
        mask: str | Tensor | None = None,
    ) -> None:
        super().__init__()
        self._check_count("condition", condition, 0)
        moved = self._divide(channels, condition, split, transform_first, mask)
        inputs = self.split + condition
        if not isinstance(net, tuple):
            self._width = self._outputs * moved
            self.net = self._built(net, inputs)
        elif len(net) == 2 and self._pairs:
            self._width = moved
            self.scale_net, self.shift_net = (self._built(one, inputs) for one in net)
        else:
            raise self._wrong("net", "a factory" + " or a pair of them" * self._pairs, f"{len(net)} factories")
        self._permute_by(permutation)

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

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        if (whole := self._whole(x, condition, inverse=False, out=out)) is not None:
            return whole
        params = self._conditioner(x, condition, inverse=False)
        if self._order is not None:
            x = ops.permute_channels(x, self._order, out=out)
        return self._transform(x, params, inverse=False, out=out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        if (whole := self._whole(y, condition, inverse=True, out=out)) is not None:
            return whole
        x, logdet = self._transform(y, self._conditioner(y, condition, inverse=True), inverse=True, out=out)
        if self._order is not None:
            x = ops.permute_channels(x, self._order, inverse=True, out=out)
        return x, logdet

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        """The passive part of y is that of x: the conditioner runs once, and the operators walk back."""
        given = self._passive_part(y, not inverse).detach().requires_grad_()
        if inverse and self._order is not None:
            y = ops.permute_channels(y, self._order, inverse=True, out=walk)
        with torch.enable_grad():
            x, _ = self._transform(y, self._conditioned(given, condition), inverse=inverse, out=walk)
        (grad,) = walk.collect(self, condition, wanted=(given,))
        if self._masks_space:
            grad = grad * self._passive_places(x)
        if inverse and self._after is not None:
            walk.grad.index_add_(1, self._after, grad)
        else:
            walk.grad.narrow(1, *self._passive).add_(grad)
        if not inverse and self._order is not None:
            x = ops.permute_channels(x, self._order, out=walk)
        return x

    def _whole(
        self, x: Tensor, condition: Tensor | None, *, inverse: bool, out: ops.Workspace | None
    ) -> tuple[Tensor, Tensor] | None:
        """What forward or inverse returns, where one operator runs the network too; None where its parts have to."""
        return None

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """The elementwise map with what the conditioner gave: the fused operator, permutation ``_fused`` included."""
        raise NotImplementedError(f"{type(self).__name__} defines no _transform")

    def _conditioner(self, x: Tensor, condition: Tensor | None, inverse: bool) -> tuple[Tensor, ...]:
        """The networks' outputs for x (before the permutation) or, with ``inverse``, for y (after it)."""
        return self._conditioned(self._passive_part(x, inverse), condition)

    def _conditioned(self, given: Tensor, condition: Tensor | None) -> tuple[Tensor, ...]:
        """The networks' outputs for the passive part."""
        if condition is not None and self.condition_channels:
            if condition.ndim < given.ndim:
                spread = condition.reshape(*condition.shape, *[1] * (given.ndim - 2))
                condition = spread.expand(-1, -1, *given.shape[2:])
            given = torch.cat([given, condition.to(given.dtype)], 1)
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
        shown += self._shown_parts()
        shown += ["transform_first=True"] * self.transform_first
        return ", ".join(shown)


class AffineCoupling(_Coupling):
    """Affine coupling (Real NVP, arXiv 1605.08803, eq. 4-9) with any conditioner, clamp and split.

    The transformed channels become ``x * exp(l(u)) + t`` with (u, t) = net(passive channels, condition); then, in the
    same pass over memory, all channels are permuted.

    Arguments:
        channels: C of x (B, C, *spatial).
        net: ``net(in_channels, out_channels) -> nn.Module``, as :mod:`flowkit.nets` makes them, giving u and t; or a
            pair (scale net, shift net) of networks on the same input, as in Net2Net (arXiv 2005.13580). A network must
            not write into its input, as ``nn.ReLU(inplace=True)`` does as a first layer: it may be a view of x.
        condition: channels K of the condition, (B, K) (spread over all pixels) or (B, K, *spatial).
        split: number of passive channels, default C // 2; 0 leaves all to the condition.
        transform_first: whether the first part is transformed and the second one passive; with a mask, whether the
            mask tells what is transformed.
        clamp, bound, gain, offset, factor, shift_gain, form, layout: see :func:`flowkit.ops.affine_coupling`.
        permutation: what follows: "swap" (the two parts change places), "flip" (reverse order), "shuffle" (drawn at
            construction) or a tensor (C,), both of which the state dict keeps.
        mask: instead of ``split``, what is passive, as a tensor of 0 and 1, which the state dict keeps: channels (C,);
            or places (1 or C, *spatial), or "checkerboard", the places of even index sum for any size. The network sees
            the passive channels alone, in one more pass over x; behind a mask of places it sees all C channels, zero
            where they are transformed, and gives u and t for all of them (Real NVP, eq. 9).
        volume_preserving: GIN (arXiv 2001.04872): the log-scales lose their mean over the transformed "channels", for
            each pixel, or over "all" that is transformed in a sample, and the log-det is 0. l(u) is then computed by
            plain torch operators before the fused one. Not with a mask of places.

    What other libraries call by these options:

    ======================= =========================================================================================
    FrEIA                   clamp "atan", "tanh", or for its "SIGMOID" "tanh" with gain 0.5; bound 2; FrEIA before 0.2
                            bound 5, and in its GLOW block gain 1 / 5
    normflows               layout "shift_scale_interleaved" in the inverse of this layer; its "exp" is clamp "none",
                            "sigmoid" is form "x/s+t" with clamp "sigmoid", "sigmoid_inv" the same with form "s*x+t"
    nflows                  layout "shift_scale", clamp "sigmoid" or "softplus", bound 1e-3, a mask and
                            transform_first=True
    zuko                    clamp "softclip", layout "shift_scale_interleaved", a mask
    flowjax                 clamp "softplus", layout "shift_scale"
    Pyro                    clamp "hard", layout "shift_scale"
    glow-pytorch            clamp "sigmoid", form "s*(x+t)"
    jet                     clamp "sigmoid" with offset 0 and factor 2, form "s*(x+t)"
    tarflow, affine part    the inverse of this layer with clamp "none"
    ======================= =========================================================================================

    Raises:
        ValueError: an option that does not exist or is out of its range, a split or mask that leaves nothing to one
            side, a net that is no factory; when called, a net that gives another number of channels than it was asked
            for, or that is of another type than x.
    """

    _outputs = 2
    _pairs = True
    _spatial_masks = True

    def __init__(
        self,
        channels: int,
        net: Factory | tuple[Factory, ...],
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        clamp: str = "tanh",
        bound: Bound = None,
        gain: float = 1.0,
        offset: float | None = None,
        factor: float = 1.0,
        shift_gain: float = 1.0,
        form: str = "s*x+t",
        layout: str = "scale_shift",
        permutation: str | Tensor | None = None,
        mask: str | Tensor | None = None,
        volume_preserving: str | None = None,
    ) -> None:
        self.clamp, self.bound, self.gain, self.layout = clamp, bound, gain, layout
        self.offset, self.factor, self.shift_gain, self.form = offset, factor, shift_gain, form
        self._check_options()
        if volume_preserving not in (None, "channels", "all"):
            raise self._wrong("volume_preserving", "None, 'channels' or 'all'", repr(volume_preserving))
        super().__init__(
            channels,
            net,
            condition=condition,
            split=split,
            transform_first=transform_first,
            permutation=permutation,
            mask=mask,
        )
        if volume_preserving and self._masks_space:
            raise self._wrong("volume_preserving", "None beside a mask of places", repr(volume_preserving))
        self.volume_preserving = volume_preserving

    def _check_options(self) -> None:
        found = wrong_option(shift_gain=self.shift_gain, **{name: getattr(self, name) for name in CLAMP_OPTIONS})
        if found is not None:
            raise self._wrong(*found)

    def _whole(
        self, x: Tensor, condition: Tensor | None, *, inverse: bool, out: ops.Workspace | None
    ) -> tuple[Tensor, Tensor] | None:
        if not ops.use_workspace(x) or x.ndim != 2 or x.size(0) > MOST_SAMPLES or self._takes_parts():
            return None
        net: Any = self._modules.get("net")
        layers = net.stacked_layers() if hasattr(type(net), "stacked_layers") else None
        if layers is None or layers.biases[0].dtype is not x.dtype or layers.biases[-1].numel() != self._width:
            return None
        condition = condition if self.condition_channels else None
        options = self._options() | self._norm_options()
        return ops.mlp_coupling(x, condition, layers, **options, inverse=inverse, out=out)

    def _takes_parts(self) -> bool:
        """Whether more happens than the network and the operator, or calls are watched."""
        masked = self._masks_space or self._buffers["mask"] is not None
        return masked or self.volume_preserving is not None or _has_any_global_hook()

    def _norm_options(self) -> dict[str, Any]:
        """Of the actnorm that follows in the same pass, if one does."""
        return {}

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        call = ops.affine_coupling_inverse if inverse else ops.affine_coupling
        options = self._options()
        if not (self.volume_preserving or self._masks_space):
            return call(x, *params, **options, out=out)
        prepared, clamp = self._prepared(x, *params)
        before = out.logdet.clone() if out is not None and self.volume_preserving else None
        y, logdet = call(x, *prepared, **options | clamp, out=out)
        if not self.volume_preserving:
            return y, logdet
        if before is None:
            return y, batch_logdet(x, 0.0)
        return y, logdet.copy_(before)  # 0 but for rounding

    def _prepared(self, x: Tensor, *params: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
        """What the operator gets for a GIN or a mask of places: u (or l(u), and the clamp that leaves it), and t."""
        wide = [p.to(x.dtype) for p in params]  # what a network gives under autocast
        u, t = unpack(wide[0], wide[1] if len(wide) == 2 else None, LAYOUTS.index(self.layout))
        options: dict[str, Any] = {}
        clamp = clamp_options(self.clamp, self.bound, self.gain, self.offset, self.factor)
        if self.volume_preserving or not _is_identity_at_zero(clamp):
            u = log_scale(u, clamp)
            options = {"clamp": "none", "bound": None, "gain": 1.0, "offset": None, "factor": 1.0}
        if self.volume_preserving:
            u = u - u.mean(1 if self.volume_preserving == "channels" else tuple(range(1, u.ndim)), keepdim=True)
        if self._masks_space:
            moved = ~self._passive_places(x)
            u, t = u * moved, t * moved
        return (u, t), options

    def _options(self) -> dict[str, Any]:
        return {
            "begin": self._begin,
            "clamp": self.clamp,
            "bound": self.bound,
            "gain": self.gain,
            "offset": self.offset,
            "factor": self.factor,
            "shift_gain": self.shift_gain,
            "form": self.form,
            "layout": self.layout,
            "permutation": self._fused,
        }

    def extra_repr(self) -> str:
        shown = f"{super().extra_repr()}, clamp={self.clamp!r}"
        shown += f", form={self.form!r}" * (self.form != "s*x+t")
        return shown + f", volume_preserving={self.volume_preserving!r}" * (self.volume_preserving is not None)


def _is_identity_at_zero(clamp: ClampOptions) -> bool:
    """Whether l(0) = 0."""
    code, bound, _, offset, _ = clamp
    if CLAMPS[code] == "hard":
        return offset <= 0 <= bound
    return CLAMPS[code] not in ("sigmoid", "softplus") and offset == 0


class AdditiveCoupling(_Coupling):
    """Additive coupling (NICE, arXiv 1410.8516): the transformed channels become ``x + net(passive, condition)``.

    Arguments: as :class:`AffineCoupling`, without what concerns the scale; ``net`` is one factory. The log-det is zero.
    """

    _spatial_masks = True

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        call = ops.additive_coupling_inverse if inverse else ops.additive_coupling
        (shift,) = params
        if self._masks_space:
            shift = shift * ~self._passive_places(x)
        return call(x, shift, begin=self._begin, permutation=self._fused, out=out)
