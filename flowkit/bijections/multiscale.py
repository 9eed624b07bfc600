"""Multi-scale flows: channels that leave early, as a second output or beside the output of the layers that go on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowkit import ops
from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.bijections.compose import Inverse


class Split(Bijection):
    """x (B, C, *spatial) -> the pair (kept (B, keep, *spatial), leaving (B, C - keep, *spatial)); the log-det is 0.

    Its ``inverse`` takes the pair. For graphs with several outputs; :class:`MultiScale` keeps one tensor.

    Arguments:
        channels: C.
        keep: number of channels that go on, default half of them.

    Raises:
        ValueError: fewer than 2 channels, an odd number of them without ``keep``, or a part without channels.
    """

    def __init__(self, channels: int, keep: int | None = None) -> None:
        super().__init__()
        self._check_count("channels", channels, 2)
        if keep is None and channels % 2:
            raise self._wrong("channels", "an even number", channels, "or say with keep= how many stay")
        self.channels, self.keep = channels, channels // 2 if keep is None else keep
        self._check_count("keep", self.keep, 1, channels - 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Any:
        """((kept, leaving), zeros (B,))."""
        return (x[:, : self.keep], x[:, self.keep :]), batch_logdet(x, 0.0)

    def inverse(self, y: Any, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x from the pair y, and zeros (B,)."""
        return torch.cat(list(y), 1), batch_logdet(y[0], 0.0)

    def check(self, x: Any, condition: Tensor | None, argument: str) -> None:
        if argument == "x":
            return super().check(x, condition, argument)
        given = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in x]
        like = given[0] if given and isinstance(given[0], tuple) else ()
        expected = [(*like[:1], n, *like[2:]) for n in (self.keep, (self.channels or 0) - self.keep)]
        if given != expected:
            raise self._wrong(argument, f"a pair (kept, leaving) of shapes {expected[0]} and {expected[1]}", given)

    def extra_repr(self) -> str:
        return f"{self.channels}, keep={self.keep}"


class Merge(Inverse):
    """The inverse of :class:`Split` as a layer: the pair (kept, leaving) -> x (B, C, *spatial)."""

    def __init__(self, channels: int, keep: int | None = None) -> None:
        super().__init__(Split(channels, keep))


class MultiScale(Bijection):
    """The first ``keep`` channels go through ``rest``, the others leave as they are: y = cat(rest(kept), leaving).

    One tensor in, one tensor of the same shape out, so that a multi-scale flow (Real NVP, arXiv 1605.08803, section
    3.6) is a chain like any other and its base density sees one latent. A coarser scale squeezes its channels and, at
    its end, unsqueezes them::

        coarse = Compose(Squeeze(), *steps(8), Unsqueeze())                          # on (2, H/2, W/2)
        flow = Compose(Squeeze(), *steps(4), MultiScale(4, coarse), Unsqueeze())     # on (1, H, W)

    The latents that left at a scale are the last channels of its output.

    Arguments:
        channels: C of x (B, C, *spatial).
        rest: any bijection that keeps the shape (B, keep, *spatial).
        keep: number of channels that go on, default half of them.

    Raises:
        ValueError: an odd number of channels without ``keep``; a ``rest`` that changes the shape.
    """

    def __init__(self, channels: int, rest: Bijection, keep: int | None = None) -> None:
        super().__init__()
        self.channels, self.rest, self.keep = channels, rest, Split(channels, keep).keep
        self.condition_channels = rest.condition_channels

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and the log-det (B,) of ``rest``."""
        kept, logdet = self.rest(x[:, : self.keep], condition)
        return self._join(kept, x), logdet

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and the log-det (B,) of the inverse of ``rest``."""
        kept, logdet = self.rest.inverse(y[:, : self.keep], condition)
        return self._join(kept, y), logdet

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        kept, leaving = y[:, : self.keep], walk.grad[:, self.keep :]
        inner = walk.part(kept, walk.grad[:, : self.keep])
        x = self._join(inner.back(self.rest, kept, condition, inverse), y)
        walk.grad = torch.cat([inner.grad, leaving], 1)
        return x

    def _join(self, kept: Tensor, x: Tensor) -> Tensor:
        self._check_rest(kept.shape[1:], x.shape[1:])
        return torch.cat([kept, x[:, self.keep :]], 1)

    def _check_rest(self, kept: Sequence[int], shape: Sequence[int]) -> None:
        if tuple(kept) != (self.keep, *shape[1:]):
            expected = f"a bijection that keeps the shape {(self.keep, *shape[1:])}"
            raise self._wrong("rest", expected, f"one that gives {tuple(kept)}", "end it with Unsqueeze()")

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        shape = super().output_shape(input_shape)
        self._check_rest(self.rest.output_shape((self.keep, *shape[1:])), shape)
        return shape

    def extra_repr(self) -> str:
        return f"{self.channels}, keep={self.keep}"
