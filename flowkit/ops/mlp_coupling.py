"""Affine couplings and steps in one call with the network that drives them, where no gradients are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowkit import _native
from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import _run
from flowkit.ops.actnorm import actnorm_inverse
from flowkit.ops.affine import affine_coupling, affine_coupling_inverse, affine_options
from flowkit.ops.made import ACTIVATIONS
from flowkit.ops.permute import permute_channels
from flowkit.ops.stacked_mlp import _has_kernel, stacked_mlp
from flowkit.ops.step import affine_step, affine_step_inverse
from flowkit.ops.workspace import Workspace


class Layers(NamedTuple):
    """The layers of G networks on one input, as :func:`stacked_mlp` takes them.

    Attributes:
        weights: (G, out, in) of each layer; (out, in) will do for one network.
        biases: (G, out), or (out,).
        activation: one of ``flowkit.nets.ACTIVATIONS``.
        tanh: whether a tanh ends each of the networks.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    activation: str
    tanh: Sequence[bool]


def reference(
    x: Tensor,
    condition: Tensor | None,
    net: Layers,
    norm: tuple[Tensor, Tensor] | None,
    *,
    log_scale: bool,
    begin: int,
    permutation: Tensor | None,
    inverse: bool,
    out: Workspace | None,
    **coupling: Any,
) -> tuple[Tensor, Tensor]:
    """The network, then the coupling; differentiable."""
    given = x
    if inverse and norm is not None:
        given, _ = actnorm_inverse(given, *norm, log_scale=log_scale)
    if inverse and permutation is not None:
        given = permute_channels(given, permutation, inverse=True)
    end = begin + net.biases[-1].numel() // 2
    given = torch.cat([given[:, :begin], given[:, end:]], 1)
    if condition is not None:
        given = torch.cat([given, condition.to(given.dtype)], 1)
    params = stacked_mlp(given, *net)
    options = {**coupling, "begin": begin, "permutation": permutation, "out": out}
    if norm is None:
        return (affine_coupling_inverse if inverse else affine_coupling)(x, params, **options)
    options |= {"norm_scale": norm[0], "norm_shift": norm[1], "log_scale": log_scale}
    return (affine_step_inverse if inverse else affine_step)(x, params, **options)


def mlp_coupling(
    x: Tensor,
    condition: Tensor | None,
    net: Layers,
    norm: tuple[Tensor, Tensor] | None = None,
    *,
    log_scale: bool = True,
    begin: int,
    shift_gain: float = 1.0,
    permutation: Tensor | None = None,
    inverse: bool = False,
    out: Workspace | None = None,
    **coupling: Any,
) -> tuple[Tensor, Tensor]:
    """:func:`affine_coupling`, or :func:`affine_step`, whose parameters ``net`` gives for the channels left alone.

    On a CPU, without gradients and for up to ``MOST_SAMPLES`` samples, all of it is one call: few samples and narrow
    networks are bound by the calls. Everything else goes part by part.

    Arguments:
        x: (N, C); with ``inverse`` the result of the other direction, of which x is to be found.
        condition: (N, K), which the network reads behind the passive channels, or None.
        net: networks of C - n + K inputs and, all together, 2n outputs: u and t of n channels from ``begin`` on.
        norm: scale and shift (C,) of the actnorm that makes it a step, or None.
        log_scale, begin, shift_gain, permutation, out: as in :func:`affine_step`.
        coupling: clamp, bound, gain, offset, factor, form, layout, as in :func:`affine_coupling`.

    Returns:
        y like x, and the log-det (N,) of the direction called.

    Raises:
        ValueError: a shape, type or option that does not fit.
    """
    parts: dict[str, Any] = {"log_scale": log_scale, "begin": begin, "permutation": permutation, "inverse": inverse}
    if not _has_one_call(x, condition, net, norm):
        return reference(x, condition, net, norm, **parts, shift_gain=shift_gain, out=out, **coupling)
    wide = logdet_dtype(x.dtype)
    scale, shift = (None, None) if norm is None else (p if p.dtype is wide else p.to(wide) for p in norm)
    if condition is not None and condition.dtype is not x.dtype:
        condition = condition.to(x.dtype)
    codes = ACTIVATIONS.index(net.activation), sum(ends << g for g, ends in enumerate(net.tanh))
    options = (*codes, scale, shift, log_scale, permutation, begin, *affine_options(**coupling), shift_gain, inverse)
    given = (x, condition, net.weights, net.biases, *options)
    try:
        if out is None:
            result: tuple[Tensor, Tensor] = _run(_direct, torch.ops.flowkit.mlp_coupling.default, *given)
            return result
        y = out.target(x, permutation is None)
        _run(_direct_out, torch.ops.flowkit.mlp_coupling_out.default, *given, y, out.logdet)
        return y, out.logdet
    except RuntimeError:  # the parts say what does not fit
        reference(x, condition, net, norm, **parts, shift_gain=shift_gain, out=None, **coupling)
        raise


def _has_one_call(x: Tensor, condition: Tensor | None, net: Layers, norm: tuple[Tensor, Tensor] | None) -> bool:
    if x.ndim != 2 or not _has_kernel(x, net.weights, net.biases, net.activation):
        return False
    if condition is not None and (condition.ndim != 2 or not condition.is_cpu):
        return False
    given = (*([] if condition is None else [condition]), *(norm or ()))
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in given))


def _fake(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.size(0), dtype=logdet_dtype(x.dtype))


if _native.available:
    torch.library.register_fake("flowkit::mlp_coupling", _fake)
    torch.library.register_fake("flowkit::mlp_coupling_out", lambda *args: None)
    _direct = getattr(_native.direct, "mlp_coupling", None)
    _direct_out = getattr(_native.direct, "mlp_coupling_out", None)
