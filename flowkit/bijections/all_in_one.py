"""AllInOneBlock: coupling, global affine map and mixing of the channels as one layer."""

import math

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.bijections.coupling import AffineCoupling, Factory
from flowkit.bijections.linear import InvertibleLinear, random_rotation
from flowkit.ops._layout import pixels
from flowkit.ops.affine import clamp_options, log_scale

_RAW_GAIN = 0.1  # of what the network gives, in FrEIA
_SCALES = {
    "softplus": clamp_options("softplus", 0.0, 0.5, 0.0, 0.2),  # FrEIA: 0.1 * softplus(g) with beta 1/2
    "sigmoid": clamp_options("sigmoid", 0.0, 1.0, -2.0, 10.0),
    "exp": clamp_options("none", None, 1.0, None, 1.0),
}


class AllInOneBlock(Bijection):
    """FrEIA's AllInOneBlock, the step of FastFlow (arXiv 2111.07677) and CFlow (arXiv 2107.12571).

    An affine coupling transforms the last C // 2 channels: ``x * exp(l) + t`` with ``l = bound * tanh(gain * u)`` and
    t a tenth of what the network gives. Then all channels become ``W (s * x + shift)``, with one scale s and one shift
    a channel, and W a permutation, a rotation, or either behind learned reflections. With a permutation, all of it is
    one pass over memory; with a rotation, W and s are one matrix product after the coupling.

    Arguments:
        channels: C of x (B, C, *spatial), at least 2.
        net: ``net(in_channels, out_channels) -> nn.Module``, giving u and t in halves.
        condition: channels K of the condition, (B, K) or (B, K, *spatial).
        bound, gain: of the clamp. FrEIA 0.2 and anomalib: gain 0.1; FrEIA's git version: 0.1 / bound.
        scale: s of the parameter g: "softplus" ``0.2 * softplus(g / 2)``, "sigmoid" ``10 * sigmoid(g - 2)``, "exp".
        initial_scale: s at the beginning.
        mix: W: "permutation" or "rotation", drawn at construction; or itself, as integers (C,), ``y = x[:, mix]``, or
            as an orthogonal matrix (C, C). In the state dict.
        reflections: number of learned Householder reflections: W becomes ``W (I - 2 v1 v1') (I - 2 v2 v2') ...`` for
            vectors v of length 1.
        reverse_permutation: whether the transpose of W, its inverse but for rounding, comes before the coupling
            (i-RIM, arXiv 1911.10914).
        volume_preserving: GIN (arXiv 2001.04872): l loses its mean over each sample and there is no s; the log-det is
            that of W alone.

    Raises:
        ValueError: an option out of its range; a mix that is no permutation and not orthogonal; what
            :class:`AffineCoupling` raises.
    """

    in_place = True

    def __init__(
        self,
        channels: int,
        net: Factory,
        *,
        condition: int = 0,
        bound: float = 2.0,
        gain: float = 0.1,
        scale: str = "softplus",
        initial_scale: float = 1.0,
        mix: str | Tensor = "permutation",
        reflections: int = 0,
        reverse_permutation: bool = False,
        volume_preserving: bool = False,
    ) -> None:
        super().__init__()
        self._check_count("channels", channels, 2)
        self._check_count("reflections", reflections, 0)
        if isinstance(net, tuple):
            raise self._wrong("net", "one factory", f"{len(net)} factories")
        if scale not in _SCALES:
            raise self._wrong("scale", f"one of {', '.join(_SCALES)}", repr(scale))
        limit = 10.0 if scale == "sigmoid" else math.inf
        if not 0 < initial_scale < limit:
            raise self._wrong("initial_scale", f"a number between 0 and {limit}", initial_scale)
        self.channels, self.condition_channels = channels, condition
        self.scale_map, self.reverse_permutation, self.volume_preserving = scale, reverse_permutation, volume_preserving
        permutation, rotation = self._as_mix(mix, bool(reflections))
        self.coupling = AffineCoupling(
            channels,
            net,
            condition=condition,
            split=channels - channels // 2,
            bound=bound,
            gain=gain,
            shift_gain=_RAW_GAIN,
            permutation=permutation,
            volume_preserving="all" if volume_preserving else None,
        )
        self.mix: InvertibleLinear | None = None
        if rotation is not None:
            self.mix = InvertibleLinear(channels, parameterization="soft_permutation", weight=rotation)
        self.reflections = nn.Parameter(0.2 * torch.randn(reflections, channels)) if reflections else None
        raw = torch.full((channels,), _raw_scale(scale, initial_scale))
        self.scale = None if volume_preserving else nn.Parameter(raw)
        self.shift = nn.Parameter(torch.zeros(channels))

    def _as_mix(self, mix: str | Tensor, reflected: bool) -> tuple[Tensor | None, Tensor | None]:
        """(permutation, None) or, where a matrix product is needed, (None, matrix)."""
        channels = self.channels or 0
        if isinstance(mix, Tensor):
            hard = mix.ndim == 1
        elif mix in ("permutation", "rotation"):
            hard = mix == "permutation"
            drawn = torch.randperm(channels) if hard else random_rotation(channels).to(torch.get_default_dtype())
            mix = drawn
        else:
            raise self._wrong("mix", "'permutation', 'rotation' or a tensor", repr(mix))
        if hard and reflected:
            return None, torch.eye(channels)[mix.long()]
        return (mix, None) if hard else (None, mix)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        unmixed = None
        if self.reverse_permutation:
            x, unmixed = self._unmix(x, False, out)
        if self._is_one_pass():
            y, logdet = self._step(x, self.coupling._conditioner(x, condition, inverse=False), False, out)
            return y, _total(out, logdet, unmixed)
        y, logdet = self.coupling(x, condition, out=out)
        y, rest = self._global(y, False, out)
        return y, _total(out, logdet, rest, unmixed)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        rest = mixed = None
        if self._is_one_pass():
            x, logdet = self._step(y, self.coupling._conditioned(self._passive_before(y), condition), True, out)
        else:
            y, rest = self._global(y, True, out)
            x, logdet = self.coupling.inverse(y, condition, out=out)
        if self.reverse_permutation:
            x, mixed = self._unmix(x, True, out)
        return x, _total(out, logdet, rest, mixed)

    def _is_one_pass(self) -> bool:
        """Whether coupling, permutation and global map are one operator."""
        return self.mix is None and self.scale is not None

    def _step(
        self, x: Tensor, params: tuple[Tensor, ...], inverse: bool, out: ops.Workspace | None
    ) -> tuple[Tensor, Tensor]:
        order = self.coupling.permutation
        call = ops.affine_step_inverse if inverse else ops.affine_step
        logs, shift = self._log_scales()[order], self.shift[order]
        return call(x, *params, norm_scale=logs, norm_shift=shift, **self.coupling._options(), out=out)

    def _passive_before(self, y: Tensor) -> Tensor:
        """The channels of y that the coupling left alone, as they were before the global map."""
        part, count = self.coupling._passive_part(y, inverse=True), self.coupling.split
        logs, shift = self._log_scales()[:count], self.shift[:count]
        return ops.actnorm_inverse(part, logs, shift, log_scale=True)[0]

    def _log_scales(self) -> Tensor:
        return torch.zeros_like(self.shift) if self.scale is None else log_scale(self.scale, _SCALES[self.scale_map])

    def _global(self, x: Tensor, inverse: bool, out: ops.Workspace | None) -> tuple[Tensor, Tensor]:
        """W (s x + shift), the permutation apart, which the coupling has done; or its inverse."""
        logs, order = self._log_scales(), self.coupling.permutation
        if order is not None:
            call = ops.actnorm_inverse if inverse else ops.actnorm
            return call(x, logs[order], self.shift[order], log_scale=True, out=out)
        assert self.mix is not None
        wide, shift = logs.double(), self.shift.double()
        if inverse:
            weight = torch.exp(-wide)[:, None] * self._inverse_matrix()
            shift = -(torch.exp(-wide) * shift)
        else:
            matrix = self._matrix()
            weight, shift = matrix * wide.exp(), matrix @ shift
        y = ops.channel_linear(x, weight, out=out)
        shift = shift.to(y.dtype).reshape(-1, *[1] * (y.ndim - 2))
        y = y + shift if out is None else y.add_(shift)
        sign = -1 if inverse else 1
        return y, _add(x, (sign * pixels(x)) * (wide.sum() + self.mix.matrix.logdet()), out)

    def _unmix(self, x: Tensor, inverse: bool, out: ops.Workspace | None) -> tuple[Tensor, Tensor | None]:
        """W' x, or its inverse."""
        order = self.coupling.permutation
        if order is not None:
            return ops.permute_channels(x, order, inverse=not inverse, out=out), None
        assert self.mix is not None
        weight = self._inverse_matrix() if inverse else self._matrix()
        y = ops.channel_linear(x, weight.mT, out=out)
        return y, _add(x, ((-1 if inverse else 1) * pixels(x)) * self.mix.matrix.logdet(), out)

    def _matrix(self) -> Tensor:
        """W, in float64."""
        assert self.mix is not None
        weight: Tensor = self.mix.matrix().double()
        for v in () if self.reflections is None else self.reflections.double():
            weight = weight - torch.outer(weight @ v, 2 / v.square().sum() * v)
        return weight

    def _inverse_matrix(self) -> Tensor:
        assert self.mix is not None
        weight: Tensor = self.mix.matrix.inverse().double()
        for v in () if self.reflections is None else self.reflections.double():
            weight = weight - torch.outer(2 / v.square().sum() * v, v @ weight)
        return weight

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "reflections" and not bool(value.square().sum(1).all()):
            raise self._wrong(name, "vectors other than 0", "one that is 0")

    def extra_repr(self) -> str:
        shown = [f"{self.channels}", f"scale={self.scale_map!r}"]
        if self.reflections is not None:
            shown.append(f"reflections={len(self.reflections)}")
        shown += ["reverse_permutation=True"] * self.reverse_permutation
        return ", ".join(shown + ["volume_preserving=True"] * self.volume_preserving)


def _raw_scale(kind: str, scale: float) -> float:
    """The parameter g at which the global scale is ``scale``."""
    if kind == "softplus":
        return 2 * (5 * scale + math.log(-math.expm1(-5 * scale)))  # 2 log(exp(5 scale) - 1)
    return 2 - math.log(10 / scale - 1) if kind == "sigmoid" else math.log(scale)


def _add(x: Tensor, logdet: Tensor, out: ops.Workspace | None) -> Tensor:
    """A log-det that is the same for every sample, as a tensor (B,), or in the workspace."""
    if out is None:
        return batch_logdet(x, logdet)
    out.add(logdet)
    return out.logdet


def _total(out: ops.Workspace | None, *logdets: Tensor | None) -> Tensor:
    if out is not None:
        return out.logdet
    first, *others = [logdet for logdet in logdets if logdet is not None]
    return sum(others, first)
