"""FrEIA: the versions of 2020, 0.2 and git."""

import re
from collections.abc import Callable
from typing import Any

import torch

from flowkit import graph as g
from flowkit.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Compose,
    Haar,
    Inverse,
    RationalQuadraticCoupling,
    RationalQuadraticSpline,
    Squeeze,
)
from flowkit.interop import freia
from tests.parity.importers.common import (
    Imported,
    State,
    actnorm,
    below,
    householder,
    orthogonal,
    permutation,
    renamed,
    sequence,
    under,
)

Config = dict[str, Any]


def load(config: Config, state: State) -> Imported:
    """The module of one FrEIA module or graph."""
    if "graph" in config:
        return _graph(config, state)
    return _MODULES[config["cls"]](config, state)


def _clamp(config: Config) -> dict[str, Any]:
    """FrEIA's clamp as flowkit's: c f(u), where the GLOW block of 2020 divides u by c."""
    c = config["args"].get("clamp", 5.0 if _is_2020(config) else 2.0)
    if _is_2020(config):
        return {"clamp": "atan", "bound": c, "gain": 1 / c if config["cls"] in _DIVIDING else 1.0}
    kind = config["args"].get("clamp_activation", "ATAN")
    gains = {"ATAN": ("atan", 1.0), "TANH": ("tanh", 1.0), "SIGMOID": ("tanh", 0.5)}  # c 2 (sigmoid(u) - 1/2)
    return {"clamp": gains[kind][0], "bound": c, "gain": gains[kind][1]}


_DIVIDING = ("GLOWCouplingBlock", "GINCouplingBlock")


def _is_2020(config: Config) -> bool:
    return "pre-0.2" in config["library"]


def _sizes(config: Config) -> tuple[int, int, int]:
    """Channels of x, of its first part, and of the condition."""
    channels = config["dims_in"][0][0]
    condition = config["dims_c"][0][0] if config.get("dims_c") else 0
    if _is_2020(config):
        return channels, channels // 2, condition
    return channels, round(channels * config["args"].get("split_len", 0.5)), condition  # half to even, as FrEIA does


def _net(config: Config) -> Callable[[int, int], torch.nn.Module]:
    return sequence(config["hidden"], (config["kernel"] or 0,) * 2)


def _glow(config: Config, state: State) -> Imported:
    channels, first, condition = _sizes(config)
    options = {"condition": condition, **_clamp(config)}
    if config["cls"] == "GINCouplingBlock":
        options["volume_preserving"] = "channels"
    a = AffineCoupling(channels, _net(config), split=channels - first, transform_first=True, **options)
    b = AffineCoupling(channels, _net(config), split=first, **options)
    theirs = ("s2", "s1") if _is_2020(config) else ("subnet2", "subnet1")
    return Imported(Compose(a=a, b=b), renamed(state, **dict(zip(theirs, ("a.net.", "b.net."), strict=True))))


def _rnvp(config: Config, state: State) -> Imported:
    channels, first, condition = _sizes(config)
    pair = (_net(config), _net(config))
    options = {"condition": condition, "split": channels - first, "transform_first": True, **_clamp(config)}
    a = AffineCoupling(channels, pair, **options)
    b = AffineCoupling(channels, pair, condition=condition, split=first, **_clamp(config))
    stem = "" if _is_2020(config) else "subnet_"
    theirs = {f"{stem}{what}{i}": f"{'ba'[i - 1]}.{name}_net." for what, name in _PAIR.items() for i in (1, 2)}
    return Imported(Compose(a=a, b=b), renamed(state, **theirs))


_PAIR = {"s": "scale", "t": "shift"}


def _nice(config: Config, state: State) -> Imported:
    channels, first, condition = _sizes(config)
    net = _net(config)
    a = AdditiveCoupling(channels, net, condition=condition, split=channels - first, transform_first=True)
    b = AdditiveCoupling(channels, net, condition=condition, split=first)
    return Imported(Compose(a=a, b=b), renamed(state, F="a.net.", G="b.net."))


def _splines(config: Config, state: State) -> Imported:
    """Both sides, each by the network of its own number."""
    channels, first, condition = _sizes(config)
    args = config["args"]
    options = _spline_options(args, below(state, "spline_base"))
    net = _net(config)
    a = RationalQuadraticCoupling(
        channels, net, condition=condition, split=channels - first, transform_first=True, **options
    )
    b = RationalQuadraticCoupling(channels, net, condition=condition, split=first, **options)
    return Imported(Compose(a=a, b=b), renamed(state, subnet1="a.net.", subnet2="b.net."))


def _spline_options(args: Config, base: State) -> Config:
    """FrEIA keeps its smallest bins in float32, and has no smallest slopes."""
    if args.get("identity_tails"):
        return {"bins": args["bins"], "preset": "freia_identity", "min_size": 1e-15, "min_slope": 1e-15}
    least = float(base["min_bin_sizes"][0])
    return {"bins": args["bins"], "preset": "freia", "min_size": least, "min_slope": 1e-15}


def _elementwise_splines(config: Config, state: State) -> Imported:
    layer = RationalQuadraticSpline(config["dims_in"][0][0], **_spline_options(config["args"], state))
    return Imported(layer, {"raw": state["spline_parameters"].reshape(layer.raw.shape)})


def _one_sided(config: Config, state: State) -> Imported:
    channels, first, condition = _sizes(config)
    split = 0 if config["cls"] == "ConditionalAffineTransform" else first
    net: Any = (_net(config), _net(config)) if _is_2020(config) else _net(config)
    layer = AffineCoupling(channels, net, condition=condition, split=split, **_clamp(config))
    return Imported(layer, renamed(state, subnet="net.", s="scale_net.", t="shift_net."))


def _all_in_one(config: Config, state: State) -> Imported:
    args = config["args"]
    soft, gin = args.get("permute_soft", False), args.get("gin_block", False)
    block = freia.all_in_one_block(
        state,
        _net(config),
        clamp=args.get("affine_clamping", 2.0),
        release="0.2" if "PyPI" in config["library"] else "git",
        permute_soft=soft,
        global_affine=args.get("global_affine_type", "SOFTPLUS"),
        gin=gin,
        reverse_permutation=args.get("reverse_permutation", False),
    )
    return Imported(block, freia.all_in_one_state(state, permute_soft=soft, gin=gin))


def _actnorm(config: Config, state: State) -> Imported:
    layer = ActNorm(config["dims_in"][0][0])
    if "bias" in state:
        return Imported(layer, actnorm(state["scale"], state["bias"]))
    scale = -state["log_scale"]
    return Imported(layer, actnorm(scale, -state["loc"] * scale.exp()))


def _haar(config: Config, state: State) -> Imported:
    order = "space" if config["args"]["order_by_wavelet"] else "channel"
    return Imported(Haar(order, rebalance=config["args"]["rebalance"]), {})


def _haar_up(config: Config, state: State) -> Imported:
    return Imported(Inverse(_haar(config, state).module), {})


def _irevnet(config: Config, state: State) -> Imported:
    return Imported(Squeeze(order="space" if config["args"]["legacy_backend"] else "channel"), {})


def _householder(config: Config, state: State) -> Imported:
    return Imported(*orthogonal(householder(state["Vs"]).mT))


def _orthogonal(config: Config, state: State) -> Imported:
    rotation, found = orthogonal(state["weights"].mT, state["bias"])
    scale = config["args"]["clamp"] * 0.636 * torch.atan(state["scaling"] / config["args"]["clamp"])
    layers = Compose(rotation=rotation, scale=ActNorm(rotation.channels or 0))
    return Imported(layers, under("rotation", found) | under("scale", actnorm(scale, torch.zeros_like(scale))))


def _chain_of_2020(config: Config, state: State) -> Imported:
    """A chain of nodes; ``module_list.0`` is the input."""
    shape: tuple[int, ...] = tuple(config["dims_in"][0])
    layers: dict[str, Any] = {}
    found: State = {}
    for i, (kind, args) in enumerate(config["nodes"], 1):
        name, part = f"node{i}", {**config, "cls": kind, "args": args, "dims_in": [shape], "kernel": args.get("kernel")}
        if kind == "PermuteRandom":
            layers[name], own = permutation(state[f"{i}.perm"])
        elif kind == "Flatten":
            layers[name], own = g.graph(y=g.flatten(g.input("x", shape))).build(), {}
        else:
            layers[name], own = _MODULES[kind](part, below(state, f"module_list.{i}"))
        shape = layers[name].output_shape(shape)
        found |= under(name, own)
    return Imported(Compose(**layers), found)


def _graph(config: Config, state: State) -> Imported:
    """The graph of the git version: two conditions, and two outputs after a split; ``graph`` says what it is."""
    written = config["graph"][0]

    def numbers(pattern: str) -> list[float]:
        found = re.search(pattern, written)
        if found is None:
            raise ValueError(f"graph: expected {pattern} in {written!r}")
        return [float(number) for number in re.findall(r"[\d.]+", found[1])]

    def sizes(pattern: str) -> tuple[int, ...]:
        return tuple(int(number) for number in numbers(pattern))

    (hidden,), (kernel,), (wide,) = sizes(r"conv h=(\d+)"), sizes(r"k=(\d+)"), sizes(r"fc h=(\d+)")
    net = g.nets.convnet(hidden=hidden, kernel_size=kernel, depth=0, activation="relu")
    x, image = g.input("x", sizes(r"^in\(([\d,]+)\)")), g.input("cond0", sizes(r"c0\(([\d,]+)\)"))
    vector = g.input("cond1", sizes(r"c1\(([\d,]+)\)"))
    clamp = {"clamp": "atan", "bound": numbers(r"clamp ([\d.]+)")[0]}
    a = g.affine_coupling(x, condition=image, net=net, transform_first=True, name="a", **clamp)
    b = g.affine_coupling(a, condition=image, net=net, name="b", **clamp)
    haar = g.haar(b, order="space", rebalance=numbers(r"rebalance ([\d.]+)")[0])
    parts = list(sizes(r"Split\(\[([\d, ]+)\]"))
    y0, rest = g.split(g.permutation(haar, permutation=state["module_list.2.perm"].tolist()), sizes=parts)
    fc = g.nets.mlp(hidden=wide, depth=0, activation="relu")
    two = below(state, "module_list.5")
    order = two["w_perm"].tolist()
    y1 = g.all_in_one_block(g.flatten(rest), condition=vector, net=fc, bound=2.0, gain=0.05, mix=order, name="block")
    built = g.graph(y0=y0, y1=y1).build()
    one = below(state, "module_list.0")
    found = renamed(one, subnet2="a.net.main.", subnet1="b.net.main.")
    block = {key.replace(".net.", ".net.main."): value for key, value in freia.all_in_one_state(two).items()}
    return Imported(built, found | under("block", block) | {"permutation.permutation": state["module_list.2.perm"]})


_MODULES: dict[str, Callable[[Config, State], Imported]] = {
    "ActNorm": _actnorm,
    "AffineCouplingOneSided": _one_sided,
    "AllInOneBlock": _all_in_one,
    "ConditionalAffineTransform": _one_sided,
    "GINCouplingBlock": _glow,
    "GLOWCouplingBlock": _glow,
    "HaarDownsampling": _haar,
    "HaarUpsampling": _haar_up,
    "HouseholderPerm": _householder,
    "IRevNetDownsampling": _irevnet,
    "NICECouplingBlock": _nice,
    "OrthogonalTransform": _orthogonal,
    "ElementwiseRationalQuadraticSpline": _elementwise_splines,
    "RationalQuadraticSpline": _splines,
    "RNVPCouplingBlock": _rnvp,
    "ReversibleGraphNet": _chain_of_2020,
}
