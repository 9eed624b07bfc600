"""normflows 1.7: its ``forward`` goes from latent to data, so it is the inverse of the module returned here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import graph as g
from flowkit.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    CheckerboardSqueeze,
    CheckerboardUnsqueeze,
    Compose,
    Inverse,
    MaskedAutoregressive,
    RationalQuadraticSpline,
    Squeeze,
    Swap,
)
from tests.parity.importers import nflows
from tests.parity.importers.common import (
    Imported,
    State,
    actnorm,
    below,
    dense,
    lu,
    permutation,
    sequence,
    under,
)
from tests.parity.importers.masked import nflows_made, nflows_made_state

Config = dict[str, Any]


def load(config: Config, state: State) -> Imported:
    """The module of one normflows layer, or of its multi-scale Glow."""
    return _MODULES[config["cls"]](config.get("args", config), state)


def _actnorm(args: Config, state: State) -> Imported:
    scale = -state["s"].flatten()
    return Imported(ActNorm(len(scale)), actnorm(scale, -state["t"].flatten() * scale.exp()))


def _linear(args: Config, state: State) -> Imported:
    if "W" in state:
        return Imported(*dense(state["W"]))
    diagonal = state["sign_S"] * state["log_S"].exp()
    return Imported(*lu(state["L"], state["U"], diagonal, state["P"].argmax(1)))


def _vector_linear(args: Config, state: State) -> Imported:
    """The same matrix W = P L U, applied from the right: x W = U' L' (P' x), with L and U in each other's place."""
    diagonal = state["sign_S"] * state["log_S"].exp()
    first, first_state = permutation(state["P"].argmax(1).argsort())
    layer, found = lu(state["U"].mT / diagonal, diagonal[:, None] * state["L"].mT, diagonal)
    return Imported(Compose(permute=first, linear=layer), under("permute", first_state) | under("linear", found))


def _lu_permute(args: Config, state: State) -> Imported:
    return nflows.permuted_lu(below(state, "linear"), state["permutation._permutation"])


def _permute(args: Config, state: State) -> Imported:
    if args["mode"] == "swap":
        return Imported(Swap(args["num_channels"], (args["num_channels"] + 1) // 2), {})
    return Imported(*permutation(state["inv_perm"]))


def _squeeze(args: Config, state: State) -> Imported:
    return Imported(Squeeze(), {})


def _glow_block(args: Config, state: State) -> Imported:
    """Actnorm, 1x1 convolution, coupling, from data to latent."""
    norm = _actnorm(args, below(state, "flows.2"))
    mix = _linear(args, below(state, "flows.1"))
    coupling = _coupling(args, below(state, "flows.0.flows.1.param_map.net"))
    found = under("norm", norm.state) | under("mix", mix.state) | under("coupling", coupling.state)
    return Imported(Compose(norm=norm.module, mix=mix.module, coupling=coupling.module), found)


def _coupling(args: Config, net: State) -> Imported:
    """The coupling of a Glow block: (shift, scale) interleaved; "sigmoid" divides."""
    channels, map_ = args["channels"], args.get("scale_map", "sigmoid")
    large, inverted = (channels + 1) // 2, args.get("split_mode", "channel") == "channel_inv"
    where: dict[str, Any] = {"split": channels - large if inverted else large, "transform_first": inverted}
    make = sequence(args["hidden_channels"], (3, 1, 3), args.get("leaky", 0.0))
    form, clamp = {"exp": ("s*x+t", "none"), "sigmoid": ("x/s+t", "sigmoid"), "sigmoid_inv": ("s*x+t", "sigmoid")}[map_]
    checkerboard = "checkerboard" in args.get("split_mode", "")
    if checkerboard:
        channels, where = 2 * channels, {}
    layer: Bijection
    if args.get("scale", True):
        layer = AffineCoupling(channels, make, clamp=clamp, form=form, layout="shift_scale_interleaved", **where)
    else:
        layer = AdditiveCoupling(channels, make, **where)
    if not checkerboard:
        return Imported(Inverse(layer), under("bijection.net", net))
    even = args["split_mode"] == "checkerboard_inv"
    whole = Compose(split=CheckerboardSqueeze(even), coupling=layer, merge=CheckerboardUnsqueeze(even))
    return Imported(Inverse(whole), under("bijection.coupling.net", net))


def _masked_affine(args: Config, state: State) -> Imported:
    """RealNVP with a mask: networks that see and give all channels are cut down to those that matter."""
    mask = state["b"].flatten()
    passive, active = mask.nonzero().flatten(), (mask == 0).nonzero().flatten()
    hidden = state["s.net.0.weight"].shape[0]
    net = sequence(hidden, (0, 0))
    bound = float(state["s.net.4.scale"].detach())
    coupling = AffineCoupling(len(mask), (net, net), mask=mask, bound=bound)
    found = {"mask": mask}
    for theirs, ours in (("s.net", "scale_net"), ("t.net", "shift_net")):
        part = below(state, theirs)
        found |= {f"{ours}.0.weight": part["0.weight"][:, passive], f"{ours}.0.bias": part["0.bias"]}
        found |= {f"{ours}.2.weight": part["2.weight"][active], f"{ours}.2.bias": part["2.bias"][active]}
    return Imported(Inverse(coupling), under("bijection", found))


def _glow(config: Config, state: State) -> Imported:
    """Multi-scale Glow as a graph with an output for each scale, the coarsest first."""
    levels, steps = config["L"], config["K"]
    value = g.input("x", config["input_shape"])
    outputs: dict[str, Any] = {}
    found: State = {}
    for level in reversed(range(levels)):
        value = g.squeeze(value, name=f"squeeze{level}")
        for step in reversed(range(steps)):
            value, own = _glow_step(
                value, config["hidden"], f"level{level}_step{step}", below(state, f"flows.{level}.{step}")
            )
            found |= own
        if level:
            value, outputs[f"z{level}"] = g.split(value, name=f"split{level}")
    outputs["z0"] = value
    return Imported(g.graph(**dict(sorted(outputs.items()))).build(), found)


def _glow_step(value: Any, hidden: int, name: str, state: State) -> tuple[Any, State]:
    """:func:`_glow_block` with its default options as nodes of a graph."""
    net = g.nets.convnet(hidden=hidden, activation="relu")
    value = g.actnorm(value, name=f"{name}_norm")
    value = g.invertible_conv1x1(value, parameterization="lu", name=f"{name}_mix")
    options = {"clamp": "sigmoid", "form": "s*(x+t)", "layout": "shift_scale_interleaved"}
    value = g.affine_coupling(value, net=net, name=f"{name}_coupling", **options)
    coupling = below(state, "flows.0.flows.1.param_map.net")
    sign = torch.tensor([-1.0, 1.0]).repeat(len(coupling["4.bias"]) // 2)  # there, the shift is subtracted
    coupling |= {"4.weight": coupling["4.weight"] * sign[:, None, None, None], "4.bias": coupling["4.bias"] * sign}
    found = under(f"{name}_norm", _actnorm({}, below(state, "flows.2")).state)
    found |= under(f"{name}_mix", _linear({}, below(state, "flows.1")).state)
    return value, found | under(f"{name}_coupling.net.main", coupling)


def _spline_args(args: Config) -> Config:
    """As nflows calls them."""
    names = {"num_hidden_channels": "hidden_features", "num_context_channels": "context_features"}
    return {names.get(k, k): v for k, v in args.items()} | {"features": args["num_input_channels"]}


def _spline_coupling(args: Config, state: State) -> Imported:
    return nflows.spline_coupling(_spline_args(args), below(state, "prqct"))


class Periodic(nflows.Residual):
    """A residual network that sees angles by their sine and cosine."""

    def __init__(self, in_channels: int, out_channels: int, angles: int, **options: Any) -> None:
        super().__init__(in_channels, out_channels, **options)
        self.weights = nn.Parameter(torch.ones(angles, 2))
        self.register_buffer("scale", torch.ones(angles))
        self.register_buffer("ind", torch.zeros(angles, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels) -> (B, out_channels)."""
        angle = self.scale * x[:, self.ind]
        seen = self.weights[:, 0] * torch.sin(angle) + self.weights[:, 1] * torch.cos(angle)
        return super().forward(x.index_copy(1, self.ind, seen))


def _circular_coupling(args: Config, state: State) -> Imported:
    """Circular and other channels; there are parameters of bins + 1 slopes for each, not all of them read."""
    state, bins = below(state, "prqct"), args["num_bins"]
    tails = ["circular" if i in args["ind_circ"] else "identity" for i in range(args["num_input_channels"])]
    moved, alone = (state[f"{which}_features"].tolist() for which in ("transform", "identity"))
    final, unconditional = "transform_net.final_layer", "unconditional_transform"
    raw = torch.cat([state[f"{unconditional}.{name}"] for name in nflows.RAW], 1)
    bounds = state[f"{unconditional}.tail_bound"].tolist()
    state = {k: v for k, v in state.items() if not k.startswith(unconditional)} | {
        f"{final}.{w}": _read(state[f"{final}.{w}"], [tails[c] for c in moved], bins) for w in ("weight", "bias")
    }
    names = ("weights", "scale", "ind")
    angles = {f"transform_net.{name}": state[f"transform_net.preprocessing.{name}"] for name in names}
    state = {k: v for k, v in state.items() if "preprocessing" not in k} | angles

    def net(in_channels: int, out_channels: int) -> nn.Module:
        options = {"hidden": args["num_hidden_channels"], "blocks": args["num_blocks"]}
        return Periodic(in_channels, out_channels, len(angles["transform_net.ind"]), **options)

    def of(values: list[Any], channels: list[int]) -> tuple[Any, ...]:
        return tuple(values[c] for c in channels)

    layers, found = nflows.spline_layers(
        _spline_args(args), state, net, tails=of(tails, moved), bound=tuple(state["tail_bound"].tolist())
    )
    spline = {"bins": bins, "tails": of(tails, alone), "bound": tuple(bounds)}
    layers["alone"] = RationalQuadraticSpline(len(tails), count=len(alone), **spline)
    found["alone.raw"] = _read(raw.flatten(), list(of(tails, alone)), bins).unflatten(0, (len(alone), -1))
    return nflows.sorted_and_back(layers, found, state)


def _read(rows: Tensor, tails: list[str], bins: int) -> Tensor:
    """Of 3 bins + 1 rows for each channel: 3 bins, those that are read first."""
    width, places = 3 * bins + 1, list(range(3 * bins))
    order = {"circular": places, "identity": [p for p in places if p != 2 * bins] + [2 * bins]}
    return rows[torch.tensor([c * width + i for c, tail in enumerate(tails) for i in order[tail]])]


def _autoregressive_spline(args: Config, state: State) -> Imported:
    state = below(state, "mprqat.autoregressive_net")
    return nflows.autoregressive_spline(_spline_args(args), state, "normflows")


def _maf(args: Config, state: State) -> Imported:
    """One pass from latent to data: an inverse autoregressive flow."""
    net, context = nflows_made(args, "normflows"), args.get("context_features", 0)
    layer = MaskedAutoregressive(args["features"], net, condition=context, clamp="sigmoid", bound=1e-3)
    found = under("bijection.net", nflows_made_state(below(state, "autoregressive_net")))
    return Imported(Inverse(layer), found)


_MODULES: dict[str, Callable[[Config, State], Imported]] = {
    "ActNorm": _actnorm,
    "GlowBlock": _glow_block,
    "Invertible1x1Conv": _linear,
    "InvertibleAffine": _vector_linear,
    "AutoregressiveRationalQuadraticSpline": _autoregressive_spline,
    "CircularCoupledRationalQuadraticSpline": _circular_coupling,
    "CoupledRationalQuadraticSpline": _spline_coupling,
    "MaskedAffineAutoregressive": _maf,
    "LULinearPermute": _lu_permute,
    "MaskedAffineFlow": _masked_affine,
    "MultiscaleFlow": _glow,
    "Permute": _permute,
    "Squeeze": _squeeze,
}
