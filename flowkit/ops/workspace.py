"""Buffers for running a whole flow without autograd: two for the data, one for the log-determinant."""

import torch
from torch import Tensor

from flowkit._native import plain
from flowkit.ops._layout import dense_strides, empty_output, is_channels_last, logdet_dtype


def use_workspace(x: Tensor) -> bool:
    """Whether a flow may run in a :class:`Workspace`: eager, on a plain tensor, and nothing records gradients."""
    return (
        not plain.get()
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(x) is Tensor
        and torch._C._functorch.peek_interpreter_stack() is None
    )


class Workspace:
    """Two buffers and a log-det accumulator for one pass through a flow.

    An invertible layer needs no fresh output: elementwise operators overwrite the buffer that they read, and the others
    alternate between two. The caller's tensor is only ever read.

    Arguments:
        x: the flow's input (B, C, *spatial); gives device, dtype and batch size.

    ``logdet`` (B,) holds the sum of the log-determinants so far.
    """

    def __init__(self, x: Tensor) -> None:
        self.logdet = x.new_zeros(x.size(0), dtype=logdet_dtype(x.dtype))
        self._buffers: dict[int, Tensor] = {}  # by the address of their storage

    def add(self, logdet: Tensor | float) -> None:
        """Adds the log-det, (B,) or one for all, of a layer that does not write into the workspace itself."""
        self.logdet += logdet

    def target(self, x: Tensor, in_place: bool) -> Tensor:
        """The tensor that an operator reading ``x`` writes to: ``x`` itself where allowed, else a buffer apart."""
        storage = _storage(x)
        if in_place and storage in self._buffers:
            return x
        for other, buffer in self._buffers.items():
            if other != storage and buffer.numel() == x.numel():
                if buffer.shape == x.shape and is_channels_last(buffer) == is_channels_last(x):
                    return buffer
                return buffer.as_strided(x.shape, dense_strides(x.shape, is_channels_last(x)))
        fresh = empty_output(x)
        kept = {storage: self._buffers[storage]} if storage in self._buffers else {}
        self._buffers = {**kept, _storage(fresh): fresh}
        return fresh


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
