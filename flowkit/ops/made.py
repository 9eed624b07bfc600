"""Inverse of a masked autoregressive transform in one walk over the ranks: each weight of the network is used once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowkit import _native
from flowkit.ops._layout import empty_output, logdet_dtype
from flowkit.ops._operator import is_transformed
from flowkit.ops.affine import Bound, affine_options

ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "tanh", "softplus")
MOST_GPU_LAYERS = 24  # most_made_layers of csrc/launch.h
RESIDUALS = (None, "activated", "linear")


class MaskedNetwork(NamedTuple):
    """The weights of a :class:`flowkit.nets.MADE` for one batch.

    Attributes:
        weights: (out, in) of each layer; the first reads the channels, then a condition.
        biases: (out,) of each layer, or (B, out), with what the condition contributes.
        units: for the channels, then each hidden layer: its units sorted by rank or degree (int64, one after another).
        counts: (layers, levels), how many of them have a rank or degree up to each level.
        activation: one of ``flowkit.nets.ACTIVATIONS``.
        residual: as in :class:`flowkit.nets.MADE`.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    units: Tensor
    counts: Tensor
    activation: str
    residual: str | None


def check_order(owner: str, order: Sequence[int]) -> None:
    """Raises ValueError unless ``order`` holds ranks 0, 1, ... without a gap."""
    if not order or sorted(set(order)) != list(range(len(set(order)))):
        raise ValueError(f"{owner}: order: expected ranks 0, 1, ... without a gap, got {list(order)}")


def has_made_inverse(y: Tensor, activation: str, layers: int) -> bool:
    """Whether there is a kernel for y and a network of so many layers; there is none within vmap or forward-mode AD."""
    fits = y.is_cpu or layers <= MOST_GPU_LAYERS
    return _native.supports(y) and fits and activation in ACTIVATIONS and not is_transformed()


def made_affine_inverse(
    y: Tensor,
    network: MaskedNetwork,
    *,
    clamp: str = "tanh",
    bound: Bound = None,
    gain: float = 1.0,
    offset: float | None = None,
    factor: float = 1.0,
    form: str = "s*x+t",
    layout: str = "scale_shift_interleaved",
) -> tuple[Tensor, Tensor]:
    """Inverse of y = affine_coupling(x, network(x), begin=0), without autograd; half types compute in float32.

    Its cost is about that of one pass of the network, where a loop takes one for each rank. What it equals is
    that loop: :meth:`flowkit.bijections.MaskedAutoregressive.inverse` where gradients are recorded.

    Arguments:
        y: (B, C), where :func:`has_made_inverse`.
        network: with 2C outputs.
        clamp, bound, gain, offset, factor, form, layout: as in :func:`flowkit.ops.affine_coupling`; interleaved.

    Returns:
        x like y, and log|det dx/dy| (B,).

    Raises:
        ValueError: weights, units or options that do not fit.
    """
    layout_code, *clamp_options, form_code = affine_options(clamp, bound, gain, offset, factor, form, layout)
    return _run("made_affine_inverse", y, network, layout_code, *clamp_options, form_code)


def _run(name: str, y: Tensor, network: MaskedNetwork, *options: Any) -> tuple[Tensor, Tensor]:
    wide = logdet_dtype(y.dtype)

    def dense(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [t.detach().to(wide).contiguous() for t in tensors]

    codes = ACTIVATIONS.index(network.activation), RESIDUALS.index(network.residual)
    weights = dense(network.weights), dense(network.biases)
    try:
        operator = getattr(torch.ops.flowkit, name)
        x, logdet = operator(*dense([y]), *weights, network.units, network.counts, *codes, *options)
    except RuntimeError as error:
        _, found, refused = str(error).partition("flowkit: ")
        if found:
            raise ValueError(f"{name}: {refused}") from None
        raise
    return x.to(y.dtype), logdet


def _fake(y: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return empty_output(y), y.new_empty(y.size(0), dtype=logdet_dtype(y.dtype))


if _native.available:
    torch.library.register_fake("flowkit::made_affine_inverse", _fake)
