"""Linear map over channels: a 1x1 convolution of any rank."""

import torch
from torch import Tensor

from flowkit.ops._layout import own_precision
from flowkit.ops._operator import Operator, check_channels, check_x
from flowkit.ops.workspace import Workspace


def reference(x: Tensor, weight: Tensor) -> tuple[Tensor]:
    """The map in plain torch."""
    with own_precision(x):
        if x.dim() == 2:
            return (torch.nn.functional.linear(x, weight),)
        return ((weight @ x.flatten(2)).reshape(x.shape),)


def backward_reference(grad_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight; differentiable, so it is also the double backward."""
    (grad_x,) = reference(grad_y, weight.mT)
    with own_precision(x):
        if x.dim() == 2:
            return grad_x, grad_y.mT @ x
        return grad_x, torch.einsum("bis,bjs->ij", grad_y.flatten(2), x.flatten(2))


def check(name: str, x: Tensor, weight: Tensor) -> None:
    """Raises ValueError for arguments that do not fit x."""
    check_x(name, x)
    check_channels(name, x, "weight", weight, rank=2)


_operator = Operator("channel_linear", reference, backward_reference, check, tensors=2, logdet=False, keep="input")


def channel_linear(x: Tensor, weight: Tensor, *, out: Workspace | None = None) -> Tensor:
    """``y[:, i] = sum_j weight[i, j] x[:, j]`` at every pixel (Glow, arXiv 1807.03039, section 3.2).

    Its inverse is the same map with the inverse matrix; its log-det is pixels * log|det weight|, left to the layer.

    Arguments:
        x: (B, C, *spatial).
        weight: (C, C).
        out: write into this workspace instead of a fresh tensor (no autograd).

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    return _operator(out, False, x, weight if weight.dtype is x.dtype else weight.to(x.dtype))[0]
