"""The exact inverse of an autoregressive convolution, by substitution."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_device, check_x
from flowkit.ops.convolution import per_dimension
from flowkit.ops.workspace import Workspace


def autoregressive_mask(
    channels: int, kernel: Sequence[int], reverse: bool = False, device: torch.device | None = None
) -> Tensor:
    """Where the weight of an autoregressive convolution counts: (C, C, *kernel) of booleans.

    Those are the taps before the centre, in raster order, and the lower triangle of the centre, diagonal included;
    with ``reverse`` the taps after it, and the upper triangle (emerging convolutions, arXiv 1901.11137).
    """
    channel, tap = torch.arange(channels, device=device), torch.arange(math.prod(kernel), device=device)
    out, into, centre = channel[:, None, None], channel[:, None], len(tap) // 2
    before, triangle = (tap > centre, into >= out) if reverse else (tap < centre, into <= out)
    return (before | ((tap == centre) & triangle)).reshape(channels, channels, *kernel)


def reference(x: Tensor, weight: Tensor, dilation: Sequence[int], reverse: bool) -> tuple[Tensor]:
    """Substitution pixel by pixel, in plain torch."""
    sizes, kernel, turned = x.shape[2:], weight.shape[2:], list(range(1, x.dim())) if reverse else []
    if sizes.numel() == 0:
        return (torch.zeros_like(x),)
    wide = logdet_dtype(x.dtype)
    rest = x.to(wide).flip(turned).reshape(*x.shape[:2], sizes.numel())
    taps = weight.to(wide).flip([0, *turned] if reverse else []).reshape(x.size(1), x.size(1), -1)
    offsets = list(
        itertools.product(*(range(-(k // 2) * d, k // 2 * d + 1, d) for k, d in zip(kernel, dilation, strict=True)))
    )
    centre = len(offsets) // 2
    triangle, others = taps[:, :, centre].tril(), taps[:, :, :centre].permute(2, 1, 0).flatten(0, 1)
    zero, solved = rest.new_zeros(x.shape[:2]), dict[tuple[int, ...], Tensor]()
    for number, pixel in enumerate(itertools.product(*map(range, sizes))):
        value = rest[:, :, number]
        if centre:
            places = (tuple(p + o for p, o in zip(pixel, offset, strict=True)) for offset in offsets[:centre])
            value = value - torch.cat([solved.get(place, zero) for place in places], 1) @ others
        solved[pixel] = torch.linalg.solve_triangular(triangle, value.mT, upper=False).mT
    y = torch.stack(list(solved.values()), -1).reshape(x.shape)
    return (y.flip(turned).to(x.dtype),)


def backward_reference(
    grad_y: Tensor, y: Tensor, weight: Tensor, dilation: Sequence[int], reverse: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight from the solution ``y``; differentiable, so it is also the double backward."""
    adjoint = weight.transpose(0, 1).flip(list(range(2, weight.dim())))
    (grad_x,) = reference(grad_y, adjoint, dilation, not reverse)
    space = (1,) * (y.dim() == 2)  # convolution_backward wants one dimension at least
    sizes, spread = weight.shape[2:] + space, [*dilation, *space]
    padding = [k // 2 * d for k, d in zip(sizes, spread, strict=True)]
    tensors = (t.reshape(t.shape + space) for t in (grad_x, y, weight))
    options = ([1] * len(sizes), padding, spread, False, [0] * len(sizes), 1, [False, True, False])
    grad_weight = torch.ops.aten.convolution_backward(*tensors, None, *options)[1]
    mask = autoregressive_mask(y.size(1), weight.shape[2:], reverse, y.device)
    return grad_x, -torch.where(mask, grad_weight.reshape(weight.shape), 0)


def check(name: str, x: Tensor, weight: Tensor, dilation: Sequence[int], reverse: bool) -> None:
    """Raises ValueError for arguments that do not fit x."""
    check_x(name, x)
    rank, channels = x.dim() - 2, x.size(1)
    if weight.dim() != x.dim() or weight.shape[:2] != (channels, channels):
        wanted = ", ".join(map(str, (channels, channels, *("k",) * rank)))
        raise ValueError(f"{name}: weight must be ({wanted}) for x {tuple(x.shape)}, got {tuple(weight.shape)}")
    if any(k % 2 == 0 for k in weight.shape[2:]):
        raise ValueError(f"{name}: kernel sizes must be odd, got {tuple(weight.shape[2:])}")
    if len(dilation) != rank or any(d < 1 for d in dilation):
        raise ValueError(f"{name}: dilation must be {rank} positive integers, got {tuple(dilation)}")
    check_device(name, x, "weight", weight)


_operator = Operator("masked_conv_solve", reference, backward_reference, check, tensors=2, logdet=False)


def masked_conv_solve(
    y: Tensor,
    weight: Tensor,
    *,
    dilation: int | Sequence[int] = 1,
    reverse: bool = False,
    out: Workspace | None = None,
) -> Tensor:
    """The x with ``convolution(x, mask * weight) = y``, exactly: substitution along wavefronts of independent pixels.

    The inverse of one half of an emerging convolution (arXiv 1901.11137). Gradients of y and weight are
    exact too; the former is the same solve with the adjoint map. Time grows with pixels * C**2 * taps.

    Arguments:
        y: (B, C, *spatial), 0 to 3 spatial dimensions.
        weight: (C, C, *kernel), odd kernel sizes; it is read where :func:`autoregressive_mask` is True, and must have
            no zero on the diagonal of its centre.
        dilation: distance between taps, one or one for each spatial dimension.
        reverse: pixels and channels depend on those after them instead of those before.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Raises:
        ValueError: a shape, dtype, device or dilation that does not fit.
    """
    weight = weight if weight.dtype is y.dtype else weight.to(y.dtype)
    spread = per_dimension(y, dilation)
    return _operator(out, True, y, weight, spread, reverse)[0]
