"""Channel permutation."""

import torch
from torch import Tensor

from flowkit.ops._operator import Operator, check_permutation, check_x
from flowkit.ops.workspace import Workspace


def gather_channels(x: Tensor, permutation: Tensor | None) -> Tensor:
    """x[:, permutation], in plain torch."""
    return x if permutation is None else x.index_select(1, permutation)


def scatter_channels(y: Tensor, permutation: Tensor | None) -> Tensor:
    """x with x[:, permutation] = y, in plain torch."""
    return y if permutation is None else y.index_select(1, torch.argsort(permutation))


def reference(x: Tensor, permutation: Tensor, inverse: bool) -> tuple[Tensor]:
    """The permutation in plain torch."""
    return (scatter_channels(x, permutation) if inverse else gather_channels(x, permutation),)


def backward_reference(grad_y: Tensor, y: Tensor, permutation: Tensor, inverse: bool) -> tuple[Tensor]:
    """The gradient moves back by the same permutation."""
    return reference(grad_y, permutation, not inverse)


def check(name: str, x: Tensor, permutation: Tensor, inverse: bool) -> None:
    """Raises ValueError for arguments that do not fit x."""
    check_x(name, x)
    check_permutation(name, x, permutation)


_operator = Operator("permute_channels", reference, backward_reference, check, tensors=2, logdet=False)


def permute_channels(x: Tensor, permutation: Tensor, *, inverse: bool = False, out: Workspace | None = None) -> Tensor:
    """``y = x[:, permutation]``, or with ``inverse`` the tensor y with ``y[:, permutation] = x``; the log-det is 0.

    Arguments:
        x: (B, C, *spatial).
        permutation: (C,) int64.
        out: write into this workspace instead of a fresh tensor (no autograd).

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    return _operator(out, False, x, permutation, inverse)[0]
