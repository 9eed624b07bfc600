"""Linear maps over channels with an actnorm inside: composed at every call for training, stored for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit import ops
from flowkit.bijections.actnorm import ActNorm
from flowkit.bijections.linear import ChannelMap, InvertibleLinear


class NormalizedLinear(InvertibleLinear):
    """:class:`ActNorm` and :class:`InvertibleLinear` as one linear map: ``W (a x + b)``, or ``a (W x) + b``.

    The product of W with the scales is made at every call, so that both train as they do apart; what is saved is the
    actnorm's pass over the data. The first ``forward`` in training mode initialises ``norm`` from the data.

    Arguments:
        channels, parameterization, bias, weight: as in :class:`InvertibleLinear`.
        norm_first: whether the actnorm comes before the linear map.
        log_scale, eps: as in :class:`ActNorm`.

    Raises:
        ValueError, RuntimeError: as in those two.
    """

    def __init__(
        self,
        channels: int,
        *,
        parameterization: str = "dense",
        bias: bool = False,
        weight: Tensor | None = None,
        norm_first: bool = True,
        log_scale: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(channels, parameterization=parameterization, bias=bias, weight=weight)
        self.norm_first = norm_first
        self.norm = ActNorm(channels, log_scale, eps)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        if self.norm.is_pending():
            with torch.no_grad():
                weight, shift = super()._affine()
                self.norm(x if self.norm_first else self._add(ops.channel_linear(x, weight), shift, None))
        return super().forward(x, condition, out=out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        self.norm.check_ready()
        return super().inverse(y, condition, out=out)

    def _norm(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The actnorm as (a, b): a x + b."""
        scale, shift = self.norm.scale.to(dtype), self.norm.shift.to(dtype)
        return (scale.exp(), shift) if self.norm.log_scale else (scale, scale * shift)

    def _affine(self) -> tuple[Tensor, Tensor]:
        weight, bias = super()._affine()
        a, b = self._norm(weight.dtype)
        if self.norm_first:
            return weight * a, (weight * b).sum(1) if bias is None else (weight * b).sum(
                1
            ) + bias  # no product that autocast narrows
        return weight * a[:, None], b if bias is None else a * bias + b

    def _affine_inverse(self) -> tuple[Tensor, Tensor]:
        inverse, _ = super()._affine_inverse()
        a, _ = self._norm(inverse.dtype)
        inverse = inverse / a[:, None] if self.norm_first else inverse / a
        return inverse, -(inverse @ self._affine()[1].to(inverse.dtype))

    def _log_abs_det(self) -> Tensor:
        scale = self.norm.scale
        logs = scale if self.norm.log_scale else scale.double().abs().log()
        return super()._log_abs_det() + logs.sum(dtype=torch.float64)


class FixedLinear(ChannelMap):
    """``W x + shift`` and its inverse, both stored, with the log-det: for inference, nothing is computed per call.

    ``Graph.optimize(inference=True)`` makes it of linear maps with the actnorms and permutations beside them. A new one
    is the identity; all it holds are buffers.

    Arguments:
        channels: C of x (B, C, *spatial).
    """

    weight: Tensor
    shift: Tensor
    inverse_weight: Tensor
    inverse_shift: Tensor
    log_abs_det: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._check_count("channels", channels, 1)
        self.channels = channels
        for name in ("weight", "inverse_weight"):
            self.register_buffer(name, torch.eye(channels))
        for name in ("shift", "inverse_shift"):
            self.register_buffer(name, torch.zeros(channels))
        self.register_buffer("log_abs_det", torch.zeros(()))

    def _affine(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.shift

    def _affine_inverse(self) -> tuple[Tensor, Tensor]:
        return self.inverse_weight, self.inverse_shift

    def _log_abs_det(self) -> Tensor:
        return self.log_abs_det

    def extra_repr(self) -> str:
        return f"{self.channels}"
