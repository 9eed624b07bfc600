"""rosinality/glow-pytorch: actnorm, 1x1 convolution, coupling that adds before it multiplies."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit import graph as g
from flowkit import nets
from tests.parity.importers.common import Imported, State, below, lu, under


class OnesPadded(nn.Module):
    """Convolutions 3, 1, 3 with ReLUs; the last one sees ones around its input instead of zeros."""

    def __init__(self, in_channels: int, out_channels: int, hidden: int = 8) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(in_channels, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        return self.last(F.pad(self.middle(self.first(x).relu()).relu(), (1, 1, 1, 1), value=1.0))


ones_padded = nets.register("glowpytorch_ones_padded", OnesPadded)


def load(config: dict[str, Any], state: State) -> Imported:
    """The module of one flow step, or the graph of Glow without its priors: an output for each scale."""
    x = g.input("x", (config["in_channel"], None, None))
    if config["cls"] == "Flow":
        y, found = _step(x, config["filter_size"], "flow", state)
        return Imported(g.graph(y=y).build(), found)
    outputs: dict[str, Any] = {}
    found = {}
    for i in range(config["n_block"]):
        x = g.squeeze(x, name=f"squeeze{i}")
        for j in range(config["n_flow"]):
            x, own = _step(x, config["filter_size"], f"block{i}_flow{j}", below(state, f"blocks.{i}.flows.{j}"))
            found |= own
        if i + 1 < config["n_block"]:
            x, outputs[f"z{i}"] = g.split(x, name=f"split{i}")
    outputs[f"z{config['n_block'] - 1}"] = x
    return Imported(g.graph(**outputs).build(), found)


def _step(x: g.Value, hidden: int, name: str, state: State) -> tuple[g.Value, State]:
    net = ones_padded(hidden=hidden)
    x = g.actnorm(x, log_scale=False, name=f"{name}_norm")
    x = g.invertible_conv1x1(x, parameterization="lu", name=f"{name}_mix")
    x = g.affine_coupling(x, net=net, clamp="sigmoid", form="s*(x+t)", name=f"{name}_coupling")
    raw = below(state, "coupling.net")
    gain = (3 * raw["4.scale"]).exp().flatten()
    conditioner = {
        "first.weight": raw["0.weight"],
        "first.bias": raw["0.bias"],
        "middle.weight": raw["2.weight"],
        "middle.bias": raw["2.bias"],
        "last.weight": raw["4.conv.weight"] * gain[:, None, None, None],
        "last.bias": raw["4.conv.bias"] * gain,
    }
    norm, mix = below(state, "actnorm"), below(state, "invconv")
    _, matrix = lu(mix["w_l"], mix["w_u"], mix["s_sign"] * mix["w_s"].exp(), mix["w_p"].argmax(1))
    found = {"scale": norm["scale"].flatten(), "shift": norm["loc"].flatten(), "initialized": torch.tensor(True)}
    found = under(f"{name}_norm", found) | under(f"{name}_mix", matrix)
    return x, found | under(f"{name}_coupling.net", conditioner)
