"""Memory layouts that the native kernels take, the accumulator type of log-determinants, and shelter from autocast."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def logdet_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64 inputs, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def own_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast does not reach operators on ``x``; the meta device knows none and needs none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def pixels(x: Tensor) -> int:
    """Number of spatial positions of ``x`` (B, C, *spatial)."""
    return x.shape[2:].numel()


def is_channels_last(x: Tensor) -> bool:
    """Whether channels are the fastest dimension of ``x`` (B, C, *spatial) and its pixels lie at one pitch."""
    if x.dim() < 3 or x.stride(1) != 1 or x.size(1) <= 1:
        return False
    for d in range(2, x.dim() - 1):
        if x.stride(d) != x.stride(d + 1) * x.size(d + 1):
            return False
    return x.stride(-1) >= x.size(1)


def dense_strides(shape: Sequence[int], channels_last: bool) -> tuple[int, ...]:
    """Strides of a dense tensor of ``shape`` (B, C, *spatial), its channels last in memory or in their place."""
    rank = len(shape)
    order = [0, *range(2, rank), 1] if channels_last else range(rank)
    strides = [0] * rank
    pitch = 1
    for d in reversed(order):
        strides[d] = pitch
        pitch = pitch * shape[d]
    return tuple(strides)


def empty_output(x: Tensor) -> Tensor:
    """An uninitialised dense tensor of the shape of ``x``: channels-last where ``x`` is, contiguous otherwise."""
    return x.new_empty_strided(x.shape, dense_strides(x.shape, True)) if is_channels_last(x) else x.new_empty(x.shape)
