"""Bijections that trade space for channels: squeeze, checkerboard squeeze and the Haar wavelet transform."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.bijections.compose import Inverse


class Squeeze(Bijection):
    """Each block of ``factor`` pixels a side becomes channels: (B, C, *S) -> (B, C * factor**rank, *S / factor).

    Arguments:
        factor: pixels a side, for 1 to 3 spatial dimensions.
        order: of the new channels. "channel": all pixels of a channel, then the next channel (Real NVP, arXiv
            1605.08803); "space": all channels of a pixel, then the next pixel. Pixels in row-major order.

    Raises:
        ValueError: an unknown order, x without spatial dimensions, or a size that ``factor`` does not divide.
    """

    def __init__(self, factor: int = 2, order: str = "channel") -> None:
        super().__init__()
        self._check_count("factor", factor, 1)
        if order not in ("channel", "space"):
            raise self._wrong("order", "'channel' or 'space'", repr(order))
        self.factor, self.order = factor, order

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C * factor**rank, *S / factor) and a log-det of zeros (B,)."""
        return self._squeeze(x), batch_logdet(x, 0.0)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *S) and a log-det of zeros (B,)."""
        return self._unsqueeze(y), batch_logdet(y, 0.0)

    def _squeeze(self, x: Tensor) -> Tensor:
        shape, rank = self.output_shape(x.shape[1:]), x.ndim - 2
        blocks = x.reshape(*x.shape[:2], *[n for size in shape[1:] for n in (size, self.factor)])
        inner, outer = range(3, 3 + 2 * rank, 2), range(2, 2 + 2 * rank, 2)
        order = (0, 1, *inner, *outer) if self.order == "channel" else (0, *inner, 1, *outer)
        return blocks.permute(order).reshape(x.shape[0], *shape)

    def _unsqueeze(self, y: Tensor) -> Tensor:
        shape, rank = self.input_shape(y.shape[1:]), y.ndim - 2
        sides = [self.factor] * rank
        channels = [shape[0], *sides] if self.order == "channel" else [*sides, shape[0]]
        blocks = y.reshape(y.shape[0], *channels, *y.shape[2:])
        first, c = (2, 1) if self.order == "channel" else (1, 1 + rank)
        pairs = [d for i in range(rank) for d in (2 + rank + i, first + i)]
        return blocks.permute(0, c, *pairs).reshape(y.shape[0], *shape)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        channels, *spatial = input_shape
        if not spatial or any(size % self.factor for size in spatial):
            raise self._wrong("x", f"spatial sizes divisible by {self.factor}", tuple(spatial) or "none")
        return (channels * self.factor ** len(spatial), *(size // self.factor for size in spatial))

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        channels, *spatial = output_shape
        block = self.factor ** len(spatial)
        if not spatial or channels % block:
            wanted = f"a multiple of {block} channels and 1 to 3 spatial dimensions"
            raise self._wrong("y", wanted, f"(C, *spatial) = {tuple(output_shape)}")
        return (channels // block, *(size * self.factor for size in spatial))

    def extra_repr(self) -> str:
        return f"{self.factor}, order={self.order!r}"


class Unsqueeze(Inverse):
    """The inverse of :class:`Squeeze` as a layer: (B, C * factor**rank, *S) -> (B, C, *S * factor)."""

    def __init__(self, factor: int = 2, order: str = "channel") -> None:
        super().__init__(Squeeze(factor, order))


class Haar(Squeeze):
    """Haar wavelet transform (Haar, 1910): (B, C, *S) -> (B, C * 2**rank, *S / 2), orthonormal at ``rebalance=1``.

    The bands of an image are, in this order: average, differences along the width, along the height, along both.

    Arguments:
        order: "channel": all bands of a channel, then the next channel; "space": all channels of a band, then the next.
        rebalance: multiplies every coefficient; the log-det is elements * log(rebalance).

    Raises:
        ValueError: an unknown order, a rebalance that is not positive, or an odd spatial size.
    """

    def __init__(self, order: str = "channel", rebalance: float = 1.0) -> None:
        super().__init__(2, order)
        if not 0 < rebalance < math.inf:
            raise self._wrong("rebalance", "a positive number", rebalance)
        self.rebalance = rebalance

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C * 2**rank, *S / 2) and its log-det (B,)."""
        return self._butterfly(self._squeeze(x), self.rebalance), self._logdet(x)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *S) and its log-det (B,)."""
        return self._unsqueeze(self._butterfly(y, 1 / self.rebalance)), -self._logdet(y)

    def _butterfly(self, y: Tensor, scale: float) -> Tensor:
        """Sums and differences over each bit of the pixel (or band) index: a symmetric orthogonal matrix."""
        self.input_shape(y.shape[1:])
        rank = y.ndim - 2
        channels, first = y.shape[1] >> rank, 2 if self.order == "channel" else 1
        sizes = [channels, *[2] * rank] if self.order == "channel" else [*[2] * rank, channels]
        bits = y.reshape(y.shape[0], *sizes, *y.shape[2:])
        for d in range(first, first + rank):
            even, odd = bits.unbind(d)
            bits = torch.stack([even + odd, even - odd], d)
        return bits.reshape(y.shape) * (scale * 2 ** (-rank / 2))

    def _logdet(self, x: Tensor) -> Tensor:
        return batch_logdet(x, x.shape[1:].numel() * math.log(self.rebalance))

    def extra_repr(self) -> str:
        return f"order={self.order!r}" + (f", rebalance={self.rebalance}" if self.rebalance != 1 else "")


class CheckerboardSqueeze(Bijection):
    """The two colours of a checkerboard as channels: (B, C, *S, W) -> (B, 2C, *S, W / 2).

    The first C channels of y are the elements of x whose sum of indices, that of the channel included, is odd, and the
    others those where it is even, in the order of x. A coupling of the two halves is then one with a checkerboard split
    (Real NVP, arXiv 1605.08803, section 3.4, as in normflows); a coupling with ``mask="checkerboard"`` is the other
    way, whose network sees the whole image.

    Arguments:
        even_first: whether the elements of even sum come first.

    Raises:
        ValueError: x without spatial dimensions or of an odd width.
    """

    def __init__(self, even_first: bool = False) -> None:
        super().__init__()
        self.even_first = even_first

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, 2C, *S, W / 2) and a log-det of zeros (B,)."""
        self.output_shape(x.shape[1:])
        left, right = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.cat(self._colours(left, right), 1), batch_logdet(x, 0.0)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *S, W) and a log-det of zeros (B,)."""
        self.input_shape(y.shape[1:])
        first, second = y.chunk(2, 1)
        return torch.stack(self._colours(first, second), -1).flatten(-2), batch_logdet(y, 0.0)

    def _colours(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(first, second) colour of the (left, right) elements of each pair, and the other way round."""
        shape = a.shape[1:-1]
        index = [torch.arange(n, device=a.device).reshape(-1, *[1] * (len(shape) - i)) for i, n in enumerate(shape)]
        odd_left = sum(index[1:], index[0]) % 2 == 1
        first_left = odd_left ^ self.even_first
        return torch.where(first_left, a, b), torch.where(first_left, b, a)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        channels, *spatial = input_shape
        if not spatial or spatial[-1] % 2:
            raise self._wrong("x", "spatial dimensions, the last one even", tuple(spatial) or "none")
        return (2 * channels, *spatial[:-1], spatial[-1] // 2)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        channels, *spatial = output_shape
        if not spatial or channels % 2:
            raise self._wrong("y", "an even number of channels and spatial dimensions", tuple(output_shape))
        return (channels // 2, *spatial[:-1], 2 * spatial[-1])

    def extra_repr(self) -> str:
        return "even_first=True" if self.even_first else ""


class CheckerboardUnsqueeze(Inverse):
    """The inverse of :class:`CheckerboardSqueeze` as a layer: (B, 2C, *S, W) -> (B, C, *S, 2W)."""

    def __init__(self, even_first: bool = False) -> None:
        super().__init__(CheckerboardSqueeze(even_first))
