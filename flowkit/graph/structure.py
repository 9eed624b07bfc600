"""Invertible kinds that only move values: split, chunk, concat, reshape, flatten. Their log-det is zero."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.graph.plain import Shape, show_shape
from flowkit.graph.registry import register


class Structural(nn.Module):
    """Base of the bijections of several values: ``forward(*values) -> (*values, None)``, None for a log-det of zero."""

    structural = True


@register("split")
class SplitChannels(Structural):
    """Consecutive groups of channels as separate values; the inverse of ``concat``.

    In a graph this is the split to use: it takes any number of groups, each a value of its own. Outside of graphs,
    :class:`flowkit.bijections.Split` and ``Merge`` do the same for two groups, with a pair in place of two values.

    Arguments:
        sizes: channels of each group; None makes two halves.

    Raises:
        ValueError: sizes that do not add up to the channels; an odd number of channels without sizes.
    """

    def __init__(self, channels: int, sizes: Sequence[int] | None = None) -> None:
        super().__init__()
        if sizes is None and channels % 2:
            raise ValueError(f"channels: expected an even number to halve, got {channels}; state sizes.")
        self.sizes = [channels // 2] * 2 if sizes is None else list(sizes)
        if len(self.sizes) < 2 or min(self.sizes) < 1 or sum(self.sizes) != channels:
            raise ValueError(f"sizes: expected two or more positive sizes that add up to {channels}, got {self.sizes}.")

    def forward(self, x: Tensor) -> Any:
        """x (B, C, *spatial) as views of its groups, and None."""
        return (*x.split(self.sizes, 1), None)

    def inverse(self, *parts: Tensor) -> Any:
        """The groups joined, and None."""
        return torch.cat(parts, 1), None

    def output_shape(self, shape: Shape) -> list[Shape]:
        return [(size, *shape[1:]) for size in self.sizes]


@register("chunk")
class Chunk(SplitChannels):
    """``parts`` groups of as many channels each.

    Raises:
        ValueError: channels that ``parts`` does not divide.
    """

    def __init__(self, channels: int, parts: int = 2) -> None:
        if parts < 2 or channels % parts:
            raise ValueError(f"parts: expected two or more, a divisor of {channels} channels, got {parts}.")
        super().__init__(channels, [channels // parts] * parts)


@register("concat")
class Concat(Structural):
    """Values joined along the channels; the inverse of ``split``. Spatial sizes must be equal."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        if not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
            raise ValueError(f"expected equal spatial sizes, got {' and '.join(map(show_shape, shapes))}.")
        self.sizes = [int(shape[0] or 0) for shape in shapes]

    def forward(self, *parts: Tensor) -> Any:
        """The values (B, C_i, *spatial) joined, and None."""
        return torch.cat(parts, 1), None

    def inverse(self, x: Tensor) -> Any:
        """The values, and None."""
        return (*x.split(self.sizes, 1), None)

    def output_shape(self, *shapes: Shape) -> Shape:
        return (sum(self.sizes), *shapes[0][1:])


@register("reshape")
class Reshape(Structural):
    """The same numbers in another shape (C, *spatial), row-major.

    Arguments:
        to: the shape, without batch.

    Raises:
        ValueError: a shape of another number of entries, or an incoming shape with an unknown size.
    """

    def __init__(self, shape: Shape, to: Sequence[int]) -> None:
        super().__init__()
        known = [size for size in shape if size is not None]
        if len(known) != len(shape):
            raise ValueError(f"reshape: expected a known size, got {show_shape(shape)}.")
        if math.prod(known) != math.prod(to) or min(to, default=1) < 1:
            raise ValueError(f"to: expected {math.prod(known)} numbers in all, got {show_shape(tuple(to))}.")
        self.source, self.target = known, list(to)

    def forward(self, x: Tensor) -> Any:
        """x in the new shape, and None."""
        return x.reshape(x.shape[0], *self.target), None

    def inverse(self, y: Tensor) -> Any:
        """y in the old shape, and None."""
        return y.reshape(y.shape[0], *self.source), None

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(self.target)


@register("flatten")
class Flatten(Reshape):
    """(C, *spatial) as a vector of C · spatial channels."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape, [math.prod(size or 0 for size in shape)])
