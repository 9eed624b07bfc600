"""An affine coupling and the networks that drive it as one native call, for few samples on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowkit import _native
from flowkit.ops._layout import empty_output, logdet_dtype
from flowkit.ops._operator import _run
from flowkit.ops.affine import affine_options
from flowkit.ops.made import ACTIVATIONS
from flowkit.ops.stacked_mlp import has_kernel, tanh_code
from flowkit.ops.workspace import Workspace


class Networks(NamedTuple):
    """G fully connected networks on the same input, as :func:`flowkit.ops.stacked_mlp` takes them."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    activation: str
    tanh: Sequence[bool]


class Norm(NamedTuple):
    """The actnorm that follows a coupling in a step, (C,) in the order of the permuted channels."""

    scale: Tensor
    shift: Tensor
    log_scale: bool


def has_mlp_coupling(x: Tensor, condition: Tensor | None, networks: Networks, norm: Norm | None) -> bool:
    """Whether :func:`mlp_coupling` runs for these: x (B, C) and all beside it of one type, without gradients."""
    return (
        not torch.is_grad_enabled()
        and x.ndim == 2
        and (condition is None or condition.dtype is x.dtype)
        and (norm is None or norm.scale.dtype is x.dtype)
        and has_kernel(x, *networks[:3])
    )


def mlp_coupling(
    x: Tensor,
    condition: Tensor | None,
    networks: Networks,
    *,
    first: int,
    passive: Tensor | None,
    norm: Norm | None,
    begin: int,
    permutation: Tensor | None,
    shift_gain: float,
    inverse: bool,
    out: Workspace | None,
    **coupling: Any,
) -> tuple[Tensor, Tensor]:
    """The networks on (passive channels, condition), and what they drive: an affine coupling or a step, or its inverse.

    The same as :func:`flowkit.ops.stacked_mlp` and :func:`flowkit.ops.affine_coupling` (or ``affine_step``) one after
    the other, without what lies between: few samples are bound by that. Only where :func:`has_mlp_coupling` says so.

    Arguments:
        x: (B, C); y for the inverse.
        condition: (B, K).
        networks: with inputs for P passive channels and the condition, and n outputs each, or 2n of one.
        first, passive: where the passive channels lie in x: from ``first`` on, or (P,) int64.
        norm: of a step.
        begin, permutation, shift_gain, coupling: as in :func:`flowkit.ops.affine_coupling`.
        out: write into this workspace instead of fresh tensors.

    Returns:
        y (B, C) and its log-det (B,).

    Raises:
        ValueError: shapes that do not fit.
    """
    codes = ACTIVATIONS.index(networks.activation), tanh_code(networks.tanh)
    options = affine_options(**coupling)
    scale, shift, log_scale = (None, None, False) if norm is None else norm
    args = (x, condition, networks.weights, networks.biases, *codes, first, passive, scale, shift, log_scale,
            permutation, begin, *options, shift_gain, inverse)  # fmt: skip
    namespace = torch.ops.flowkit
    try:
        if out is None:
            y, logdet = _run(_direct, namespace.mlp_coupling.default, *args)
            return y, logdet
        y = out.target(x, permutation is None)
        _run(_direct_out, namespace.mlp_coupling_out.default, *args, y, out.logdet)
        return y, out.logdet
    except RuntimeError as error:
        _, found, refused = str(error).partition("flowkit: ")
        if found:
            raise ValueError(f"mlp_coupling: {refused}") from None
        raise


def _fake(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return empty_output(x), x.new_empty(x.size(0), dtype=logdet_dtype(x.dtype))


if _native.available:
    torch.library.register_fake("flowkit::mlp_coupling", _fake)
    torch.library.register_fake("flowkit::mlp_coupling_out", lambda *args: None)
    _direct = getattr(_native.direct, "mlp_coupling", None)
    _direct_out = getattr(_native.direct, "mlp_coupling_out", None)
