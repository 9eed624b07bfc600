"""The convolution that keeps the size of its input, in the precision of its input."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from flowkit.ops._layout import own_precision

_CONV = (functional.conv1d, functional.conv2d, functional.conv3d)


def convolution(x: Tensor, weight: Tensor, *, dilation: int | Sequence[int] = 1, circular: bool = False) -> Tensor:
    """``y[:, i, p] = sum_j,o weight[i, j, o] x[:, j, p + dilation * o]`` for offsets o from the kernel's centre.

    It is torch's convolution, out of autocast's reach.

    Arguments:
        x: (B, C, *spatial), 1 to 3 spatial dimensions.
        weight: (D, C, *kernel), odd kernel sizes, one for each spatial dimension.
        dilation: distance between taps, one or one for each dimension.
        circular: x goes on beyond its border as it begins on the other side; otherwise with zeros.
    """
    spread = per_dimension(x, dilation)
    padding = [k // 2 * d for k, d in zip(weight.shape[2:], spread, strict=True)]
    if circular:
        x = functional.pad(x, [width for width in reversed(padding) for _ in range(2)], mode="circular")
        padding = [0] * len(padding)
    with own_precision(x):
        return _CONV[x.dim() - 3](x, weight.to(x.dtype), padding=padding, dilation=spread)


def per_dimension(x: Tensor, value: int | Sequence[int]) -> tuple[int, ...]:
    """One number for all spatial dimensions of ``x``, or one for each, as one for each."""
    return (value,) * (x.dim() - 2) if isinstance(value, int) else tuple(value)
