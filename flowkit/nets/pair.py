"""Two networks of one shape on the same input, run as one of double width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.nets.mlp import MLP, PerPixel
from flowkit.nets.parts import is_plain


class PairedMLP(PerPixel):
    """A scale and a shift network, two :class:`MLP` of one shape on the same input, as one: (u, t) one after the other.

    The first layer is one matrix product for both, the others are stacked products over the two
    (:func:`flowkit.ops.stacked_mlp`: few samples on a CPU take a kernel that reads each weight once). ``weights.i``
    (2, out, in) and ``biases.i`` (2, out) hold layer i of both networks; ``Graph.optimize`` converts the state dict of
    a coupling with a pair of networks (``scale_net.*`` and ``shift_net.*``) to this layout and back.

    Arguments:
        out_channels: of both together.
        hidden, depth, activation, zero_last: as in :class:`MLP`, of each.
        scale_tanh, shift_tanh: whether a tanh ends the first and the second network.

    Raises:
        ValueError: an odd ``out_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int | Sequence[int] = 256,
        depth: int = 2,
        activation: str = "leaky_relu",
        zero_last: bool = False,
        scale_tanh: bool = False,
        shift_tanh: bool = False,
    ) -> None:
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"PairedMLP: out_channels: expected an even number, got {out_channels}")
        both = [MLP(in_channels, out_channels // 2, hidden, depth, activation, zero_last=zero_last) for _ in range(2)]
        layers = [[m for m in net.main if isinstance(m, nn.Linear)] for net in both]
        pairs: list[tuple[Any, ...]] = list(zip(*layers, strict=True))
        self.weights = nn.ParameterList(torch.stack([m.weight.detach() for m in pair]) for pair in pairs)
        self.biases = nn.ParameterList(torch.stack([m.bias.detach() for m in pair]) for pair in pairs)
        self.activation = activation
        self.tanh = scale_tanh, shift_tanh

    def narrow(self, dtype: torch.dtype) -> None:
        """Keeps the weights, biases apart, in ``dtype``; x and all sums stay what they are."""
        self.weights = nn.ParameterList(weight.detach().to(dtype) for weight in self.weights)

    def stacked_layers(self) -> ops.Layers | None:
        """What a call runs, read anew each time; None if that may be more."""
        if not is_plain(self, PairedMLP):
            return None
        return ops.Layers(_values(self.weights), _values(self.biases), self.activation, self.tanh)

    def main(self, x: Tensor) -> Tensor:
        """(N, in_channels) -> (N, out_channels)."""
        weights, biases = _values(self.weights), _values(self.biases)
        return ops.stacked_mlp(x, weights, biases, self.activation, self.tanh)


def _values(parameters: nn.ParameterList) -> list[Tensor]:
    """Those of the list, a few times sooner than by index or by ``parameters()``."""
    return [value for value in parameters._parameters.values() if value is not None]
