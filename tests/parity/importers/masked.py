"""Masked networks of other libraries, and their degrees."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.nets import MADE
from tests.parity.importers.common import State


class GatedMADE(MADE):
    """The MADE of nflows and normflows with a condition, which enters beside the masked layers.

    Arguments:
        context: how many of the incoming channels, the last ones, are the condition.
        library: "nflows" adds relu(V c) to the first layer and V c within blocks; "normflows" adds V c to the first
            layer and multiplies blocks by sigmoid(V c).
    """

    network = None  # the condition does not come in by biases alone: no fused inverse

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int, depth: int, context: int, library: str, order: Any
    ) -> None:
        super().__init__(in_channels - context, out_channels, hidden, depth, residual="activated", order=order)
        self.own, self.library = in_channels - context, library
        self.gates = nn.ModuleList([nn.Linear(context, hidden) for _ in range(depth + 1)])

    def main(self, x: Tensor) -> Tensor:
        """(N, in_channels) to (N, out_channels)."""
        act, (first, *blocks, last) = torch.relu, self.layers
        start, *gates = (gate(x[:, self.own :]) for gate in self.gates)
        adds = self.library == "nflows"
        h = first(x[:, : self.own]) + (act(start) if adds else start)
        for inner, outer, gate in zip(blocks[::2], blocks[1::2], gates, strict=True):
            step = inner(act(h))
            h = h + (outer(act(step + gate)) if adds else outer(act(step)) * torch.sigmoid(gate))
        return last(h)


def nflows_made(args: dict[str, Any], library: str) -> Any:
    """A factory of the residual MADE of nflows or normflows; ``args`` are those of its transform."""
    hidden, depth, context = args["hidden_features"], args["num_blocks"], args.get("context_features", 0)

    def make(in_channels: int, out_channels: int, order: Sequence[int]) -> nn.Module:
        if context:
            return GatedMADE(in_channels, out_channels, hidden, depth, context, library, order)
        return MADE(in_channels, out_channels, hidden, depth, residual="activated", order=order)

    return make


def nflows_made_state(state: State) -> State:
    """The weights of nflows' MADE, and the degrees of its units, layer by layer."""
    inner = sorted(key for key in state if key.endswith("linear_layers.0.degrees"))
    found = {"degrees": torch.cat([state["initial_layer.degrees"], *(state[key] for key in inner)])}
    for key, value in state.items():
        *where, what = key.split(".")
        if what in ("weight", "bias"):
            found[f"{_layer(where, 2 * len(inner) + 1)}.{what}"] = value
    return found


def _layer(where: list[str], last: int) -> str:
    """``blocks.1.linear_layers.0`` as ``layers.3``, and so on."""
    if where[0] != "blocks":
        return {"initial_layer": "layers.0", "context_layer": "gates.0", "final_layer": f"layers.{last}"}[where[0]]
    block = int(where[1])
    return f"gates.{block + 1}" if where[2] == "context_layer" else f"layers.{1 + 2 * block + int(where[3])}"


def zuko_made(args: dict[str, Any], kind: type[MADE] = MADE) -> Any:
    """A factory of zuko's masked MLP, whose degrees are ours."""
    widths, residual = args["hidden_features"], "linear" if args.get("residual") else None
    options: dict[str, Any] = {"activation": args.get("activation", "ReLU").lower(), "residual": residual}
    options |= {"hidden": widths[0], "depth": len(widths)} if residual else {"hidden": widths}

    def make(in_channels: int, out_channels: int, order: Sequence[int]) -> nn.Module:
        return kind(in_channels, out_channels, order=order, **options)

    return make


def zuko_made_state(state: State) -> tuple[State, list[Tensor]]:
    """The weights of zuko's masked MLP, whose layers are numbered with gaps and nested in blocks; and its masks."""
    names = sorted(key.removesuffix(".weight") for key in state if key.endswith(".weight"))
    found = {f"layers.{i}.{w}": state[f"{name}.{w}"] for i, name in enumerate(names) for w in ("weight", "bias")}
    return found, [state[f"{name}.mask"] for name in names]
