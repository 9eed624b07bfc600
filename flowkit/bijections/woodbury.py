"""Woodbury transformations: low-rank mixing of channels and of pixels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.ops._layout import own_precision


class WoodburyTransform(Bijection):
    """Mixes all channels at each pixel and all pixels of each channel, by identities plus low-rank matrices.

    With x as a matrix (C, pixels): ``y = (I + U_c V_c)' x (I + U_s V_s)`` (Woodbury transformations, arXiv 2002.12229).
    The log-det is pixels * log|det(I + V_c U_c)| + C * log|det(I + V_s U_s)| by Sylvester's identity, the
    inverse follows from Woodbury's: both need only determinants and solves of the size of the ranks, done in float64.

    Arguments:
        shape: (C, *spatial) of x, 1 to 3 spatial dimensions.
        channel_rank: d_c, columns of U_c.
        space_rank: d_s, columns of U_s.
        separate: one matrix for each spatial dimension instead of one for all pixels: the memory-efficient variant of
            the paper, with parameters for height + width instead of height * width.

    Raises:
        ValueError: a shape without space, with a size that is no positive integer; a rank below 1; x of another shape.
    """

    def __init__(
        self, shape: Sequence[int], channel_rank: int = 8, space_rank: int = 8, *, separate: bool = False
    ) -> None:
        super().__init__()
        if not 2 <= len(shape) <= 4:
            raise self._wrong("shape", "(C, *spatial) with 1 to 3 spatial dimensions", tuple(shape))
        for size in shape:
            self._check_count("shape", size, 1)
        self._check_count("channel_rank", channel_rank, 1)
        self._check_count("space_rank", space_rank, 1)
        self.shape, self.channels, self.separate = tuple(shape), shape[0], separate
        self.channel = LowRank(shape[0], channel_rank)
        sizes = shape[1:] if separate else [math.prod(shape[1:])]
        self.space = nn.ModuleList(LowRank(size, space_rank) for size in sizes)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        return self._apply_factors(x, inverse=False), batch_logdet(x, self._logdet())

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        return self._apply_factors(y, inverse=True), batch_logdet(y, -self._logdet())

    def _apply_factors(self, x: Tensor, inverse: bool) -> Tensor:
        """Along every dimension its own factor, in any order: what acts on rows and on columns commutes."""
        given = x.shape
        x = x if self.separate else x.flatten(2)
        with own_precision(x):
            for dim, factor in enumerate((self.channel, *self.space), 1):
                x = factor(x.movedim(dim, -1), inverse).movedim(-1, dim)
        return x.reshape(given)

    def _logdet(self) -> Tensor:
        elements = math.prod(self.shape)
        logdets = [elements // factor.size * factor.logdet() for factor in (self.channel, *self.space)]
        return torch.stack(logdets).sum()

    def check(self, x: Tensor, condition: Tensor | None, argument: str) -> None:
        super().check(x, condition, argument)
        self._check_shape(x.shape[1:], argument)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        return self._check_shape(input_shape, "x")

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        return self._check_shape(output_shape, "y")

    def _check_shape(self, shape: Sequence[int], argument: str) -> tuple[int, ...]:
        if tuple(shape) != self.shape:
            raise self._wrong(argument, f"(C, *spatial) = {self.shape}", tuple(shape), "the sizes are fixed")
        return self.shape

    def extra_repr(self) -> str:
        return f"{self.shape}" + (", separate=True" if self.separate else "")


class LowRank(nn.Module):
    """Rows (..., size) times I + U V, with ``u`` (size, rank) and ``v`` (rank, size)."""

    u: Tensor
    v: Tensor

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.size = size
        self.u = nn.Parameter(torch.randn(size, rank) / math.sqrt(size))
        self.v = nn.Parameter(torch.randn(rank, size) * (0.1 / math.sqrt(size)))

    def forward(self, x: Tensor, inverse: bool) -> Tensor:
        """x (I + U V), or x (I + U V)^-1 = x - x U (I + V U)^-1 V."""
        v = self.inverse_v() if inverse else self.v
        return x + (x @ self.u.to(x.dtype)) @ v.to(x.dtype)

    def inverse_v(self) -> Tensor:
        """What takes the place of V in the inverse, in float64."""
        return torch.linalg.solve_ex(self._small(), -self.v.double()).result

    def logdet(self) -> Tensor:
        """log|det(I + U V)| = log|det(I + V U)|, in float64."""
        return torch.linalg.slogdet(self._small()).logabsdet

    def _small(self) -> Tensor:
        product = self.v.double() @ self.u.double()
        return product + torch.eye(len(product), dtype=product.dtype, device=product.device)

    def as_constant(self) -> "LowRank":
        """The same with what depends on the parameters alone computed now, for :func:`flowkit.export_mode`."""
        return ConstantLowRank(self)

    def extra_repr(self) -> str:
        return f"{self.size}, rank={self.u.shape[1]}"


class ConstantLowRank(LowRank):
    """The matrices and the log-det that another one has at the moment, as buffers."""

    _inverse_v: Tensor
    _log: Tensor

    @torch.no_grad()
    def __init__(self, factor: LowRank) -> None:
        nn.Module.__init__(self)
        self.size = factor.size
        self.register_buffer("u", factor.u.detach())
        self.register_buffer("v", factor.v.detach())
        self.register_buffer("_inverse_v", factor.inverse_v())
        self.register_buffer("_log", factor.logdet())

    def inverse_v(self) -> Tensor:
        return self._inverse_v

    def logdet(self) -> Tensor:
        return self._log
