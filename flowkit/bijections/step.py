"""Flow steps: a coupling, its permutation and the actnorm that follows as one layer, one pass over memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from flowkit import ops
from flowkit.bijections.actnorm import ActNorm
from flowkit.bijections.base import Bijection
from flowkit.bijections.coupling import AdditiveCoupling, AffineCoupling, Factory, _Coupling
from flowkit.ops.affine import Bound


class _Step(_Coupling):
    """What steps add to their coupling: the actnorm ``norm`` of the permuted channels."""

    norm: ActNorm

    def _transform(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        if inverse:
            self.norm.check_ready()
        elif self.norm.is_pending():  # its first batch has to be seen: this once in two passes
            y, first = super()._transform(x, params, inverse=False, out=out)
            z, second = self.norm(y, out=out)
            return z, second if out is not None else first + second
        norm = {"norm_scale": self.norm.scale, "norm_shift": self.norm.shift, "log_scale": self.norm.log_scale}
        return self._fused_step(x, params, inverse=inverse, out=out, **norm)

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        if inverse:  # what the conditioner read had gone through the actnorm
            return Bijection.step_back(self, y, condition, inverse, walk)
        return super().step_back(y, condition, inverse, walk)

    def _fused_step(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, **options: Any
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} defines no _fused_step")

    def _passive_part(self, x: Tensor, inverse: bool) -> Tensor:
        part = super()._passive_part(x, inverse)
        if not inverse:
            return part
        scale, shift = (self._take_passive(p, 0, True) for p in (self.norm.scale, self.norm.shift))
        return ops.actnorm_inverse(part, scale, shift, log_scale=self.norm.log_scale)[0]


class AffineStep(_Step, AffineCoupling):
    """:class:`AffineCoupling`, then :class:`ActNorm`, in one pass over memory (a step of Glow, arXiv 1807.03039).

    In a flow of steps ActNorm - coupling - permutation, this holds a coupling with the permutation and the ActNorm
    *after* it: the networks have read the input by then, so that all three are one pass. ``Graph.optimize`` makes them.
    The first ``forward`` in training mode initialises ``norm`` from the coupling's output, as ActNorm does.

    Arguments:
        channels, net, condition, split, transform_first, clamp, bound, gain, offset, factor, shift_gain, form, layout,
            permutation: as in :class:`AffineCoupling`.
        log_scale, eps: as in :class:`ActNorm`.

    Raises:
        ValueError, RuntimeError: as in those two.
    """

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
        log_scale: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(
            channels,
            net,
            condition=condition,
            split=split,
            transform_first=transform_first,
            clamp=clamp,
            bound=bound,
            gain=gain,
            offset=offset,
            factor=factor,
            shift_gain=shift_gain,
            form=form,
            layout=layout,
            permutation=permutation,
        )
        self.norm = ActNorm(channels, log_scale, eps)

    def _takes_parts(self) -> bool:
        return self.norm.is_pending() or super()._takes_parts()

    def _norm_options(self) -> dict[str, Any]:
        norm = self.norm
        return {"norm": (norm.scale, norm.shift), "log_scale": norm.log_scale}

    def _fused_step(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, **options: Any
    ) -> tuple[Tensor, Tensor]:
        call = ops.affine_step_inverse if inverse else ops.affine_step
        return call(x, *params, **self._options() | options)


class AdditiveStep(_Step, AdditiveCoupling):
    """:class:`AdditiveCoupling`, then :class:`ActNorm`, in one pass over memory; see :class:`AffineStep`.

    Arguments:
        channels, net, condition, split, transform_first, permutation: as in :class:`AdditiveCoupling`.
        log_scale, eps: as in :class:`ActNorm`.
    """

    def __init__(
        self,
        channels: int,
        net: Factory,
        *,
        condition: int = 0,
        split: int | None = None,
        transform_first: bool = False,
        permutation: str | Tensor | None = None,
        log_scale: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(
            channels,
            net,
            condition=condition,
            split=split,
            transform_first=transform_first,
            permutation=permutation,
        )
        self.norm = ActNorm(channels, log_scale, eps)

    def _fused_step(
        self, x: Tensor, params: tuple[Tensor, ...], *, inverse: bool, **options: Any
    ) -> tuple[Tensor, Tensor]:
        call = ops.additive_step_inverse if inverse else ops.additive_step
        return call(x, *params, begin=self._begin, permutation=self._fused, **options)
