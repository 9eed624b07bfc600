"""Buffers for running a whole flow without autograd: two for the data, one for the log-determinant."""

import torch
from torch import Tensor

from flowkit.ops._layout import dense_strides, empty_output, is_channels_last, logdet_dtype


def use_workspace(x: Tensor) -> bool:
    """Whether a flow may run in a :class:`Workspace`: eager, on a plain tensor, and nothing records gradients."""
    return (
        not torch.is_grad_enabled()
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
        self._buffers: list[Tensor] = []

    def add(self, logdet: Tensor) -> None:
        """Adds the log-det (B,) of a layer that does not write into the workspace itself."""
        self.logdet += logdet

    def target(self, x: Tensor, in_place: bool) -> Tensor:
        """The tensor that an operator reading ``x`` writes to: ``x`` itself where allowed, else a buffer apart."""
        if in_place and any(_same_storage(x, buffer) for buffer in self._buffers):
            return x
        for buffer in self._buffers:
            if not _same_storage(x, buffer) and buffer.numel() == x.numel():
                return buffer.as_strided(x.shape, dense_strides(x.shape, is_channels_last(x)))
        fresh = empty_output(x)
        self._buffers = [*(b for b in self._buffers if _same_storage(x, b)), fresh]
        return fresh


def _same_storage(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
