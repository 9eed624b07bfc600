"""Masked networks: output c sees only the inputs that come before channel c in an order, so a flow can be inverted."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.nets.mlp import PerPixel
from flowkit.nets.parts import activation as make_activation
from flowkit.ops.made import RESIDUALS, MaskedNetwork, check_order


class MaskedLinear(nn.Linear):
    """A linear layer whose weights are multiplied by a fixed 0/1 ``mask`` (out, in), which no state dict holds."""

    mask: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("mask", torch.ones(out_features, in_features, dtype=torch.bool), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(PerPixel):
    """Masked autoencoder (MADE, arXiv 1502.03509): a network for :class:`flowkit.bijections.MaskedAutoregressive`.

    Every channel has a rank, its place in the order; every hidden unit has a degree m and sees the channels of ranks
    below m, and the outputs for a channel of rank r see the units of degrees up to r. The first ``len(order)`` inputs
    are the channels; all that follow are a condition, which every unit sees. Outputs are channel-major: those of
    channel c are c * n ... c * n + n - 1. On images it acts on each pixel.

    Arguments:
        hidden: width of every hidden layer, or the widths one by one (then ``depth`` has no say).
        depth: number of hidden-to-hidden layers, as in :class:`flowkit.nets.MLP`; with ``residual``, of blocks.
        activation: one of ``flowkit.nets.ACTIVATIONS``.
        residual: None; "activated", blocks h + W2 a(W1 a(h)) as in nflows and normflows; "linear", h + W2 a(W1 h) as in
            zuko. Blocks need one ``hidden`` width.
        zero_last: whether the last layer starts at zero.
        order: rank of each channel, 0, 1, ...; channels of equal rank do not see each other. By default, all inputs in
            sequence. MaskedAutoregressive states it.

    The degrees of the hidden units run through those possible in turn, as in nflows and zuko. The buffer ``degrees``
    holds them, layer by layer (the layers that blocks add to share the first ones), so that a state dict may bring
    others: whatever they are, no output sees what it must not.

    Raises:
        ValueError: ranks with gaps, an order longer than the inputs, a number of outputs that is no multiple of the
            channels, an option that does not exist.
    """

    layers: Sequence[MaskedLinear]
    degrees: Tensor
    units: Tensor
    counts: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int | Sequence[int] = 256,
        depth: int = 2,
        activation: str = "relu",
        residual: str | None = None,
        zero_last: bool = False,
        order: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.order = tuple(range(in_channels)) if order is None else tuple(order)
        check_order("MADE", self.order)
        channels, self.levels = len(self.order), len(set(self.order))
        if channels > in_channels or out_channels % channels:
            raise ValueError(
                f"MADE: order: expected at most {in_channels} channels, a divisor of {out_channels}, got {channels}"
            )
        if residual not in RESIDUALS or (residual and not isinstance(hidden, int)):
            raise ValueError(f"MADE: residual: expected None, 'activated' or 'linear' (one width), got {residual!r}")
        self.residual, self.activation_name = residual, activation
        steps = (2 * depth if residual else depth) + 1
        widths = [hidden] * steps if isinstance(hidden, int) else list(hidden)
        sizes = pairwise([in_channels, *widths, out_channels])
        self.layers = nn.ModuleList([MaskedLinear(a, b) for a, b in sizes])  # type: ignore[assignment]
        self.activation = make_activation(activation)
        if zero_last:
            nn.init.zeros_(self.layers[-1].weight)
            nn.init.zeros_(self.layers[-1].bias)
        self._widths = widths[: depth + 1] if residual else widths  # one vector of degrees for the residual stream
        first = 0 if in_channels > channels else min(1, self.levels - 1)  # degree 0 sees nothing but a condition
        units = torch.cat([torch.arange(0), *map(torch.arange, self._widths)])
        self.register_buffer("degrees", first + units % (self.levels - first))
        self._mask()

    def layer_degrees(self) -> list[Tensor]:
        """The degrees of every layer's outputs but the last one's."""
        parts = list(self.degrees.clamp(min=0).split(self._widths))
        if not self.residual:
            return parts
        stream = parts[0]
        return [stream, *(part for inner in parts[1:] for part in (inner, stream))]

    def _mask(self) -> None:
        """Masks, and for the fused inverse the units of each layer sorted by degree, from the degrees."""
        degrees = self.layer_degrees()
        rank = torch.tensor(self.order, device=self.degrees.device)
        condition = rank.new_full((self.layers[0].in_features - len(rank),), -1)
        below = [torch.cat([rank, condition]), *(m - 1 for m in degrees)]
        above = [*degrees, rank.repeat_interleave(self.layers[-1].out_features // len(rank))]
        for layer, given, wanted in zip(self.layers, below, above, strict=True):
            layer.mask = given < wanted[:, None]
        level = torch.arange(self.levels, device=rank.device)
        keys = [rank, *degrees]
        units = torch.cat([key.argsort(stable=True) for key in keys])
        counts = torch.stack([(key[:, None] <= level).sum(0) for key in keys])
        for name, value in (("units", units), ("counts", counts)):
            self.register_buffer(name, value, persistent=False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, *rest)
        self._mask()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        return super().forward(x)

    def main(self, x: Tensor) -> Tensor:
        """(N, in_channels) to (N, out_channels)."""
        act, first, rest = self.activation, self.layers[0], list(self.layers[1:])
        h = first(x)
        if not self.residual:
            for layer in rest:
                h = layer(act(h))
            return h
        for inner, outer in zip(rest[:-1:2], rest[1::2], strict=True):
            h = h + outer(act(inner(act(h) if self.residual == "activated" else h)))
        return rest[-1](h)

    def is_plain(self) -> bool:
        """Whether calling it computes what :meth:`network` describes: no method is overridden and no hook is set."""
        own = all(getattr(type(self), name) is getattr(MADE, name) for name in ("forward", "main", "network"))
        return own and not (self._forward_hooks or self._forward_pre_hooks)

    def network(self, condition: Tensor | None) -> MaskedNetwork:
        """The weights as the fused inverse takes them, the condition (B, K) within the first layer's biases."""
        weights: list[Tensor] = [layer.weight for layer in self.layers]
        biases: list[Tensor] = [layer.bias for layer in self.layers]
        if condition is not None:
            channels = len(self.order)
            weights_of_condition = weights[0][:, channels:] * self.layers[0].mask[:, channels:]
            biases[0] = torch.addmm(biases[0], condition, weights_of_condition.mT)
        return MaskedNetwork(weights, biases, self.units, self.counts, self.activation_name, self.residual)

    def extra_repr(self) -> str:
        return f"order={list(self.order)}" + f", residual={self.residual!r}" * (self.residual is not None)
