"""normflows 1.7: its ``forward`` goes from latent to data, so it is the inverse of the module returned here."""

from collections.abc import Callable
from typing import Any

import torch

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


_MODULES: dict[str, Callable[[Config, State], Imported]] = {
    "ActNorm": _actnorm,
    "GlowBlock": _glow_block,
    "Invertible1x1Conv": _linear,
    "InvertibleAffine": _vector_linear,
    "LULinearPermute": _lu_permute,
    "MaskedAffineFlow": _masked_affine,
    "MultiscaleFlow": _glow,
    "Permute": _permute,
    "Squeeze": _squeeze,
}
