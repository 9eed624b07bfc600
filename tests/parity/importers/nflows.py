"""nflows 0.14; its ``forward`` goes from data to noise."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit import graph as g
from flowkit import nets
from flowkit.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Compose,
    LeakyReLU,
    MaskedAutoregressive,
    RationalQuadraticCoupling,
    RationalQuadraticSpline,
    Squeeze,
)
from flowkit.bijections.elementwise import RationalQuadratic
from tests.parity.importers.common import (
    Imported,
    State,
    actnorm,
    below,
    householder,
    lu,
    orthogonal,
    per_element,
    permutation,
    under,
)
from tests.parity.importers.masked import nflows_made, nflows_made_state

Config = dict[str, Any]
Factory = Callable[[int, int], nn.Module]


class Residual(nn.Module):
    """nflows' ResidualNet and ConvResidualNet: activation before each layer, the condition gates every block.

    Arguments:
        hidden: width.
        context: how many of the incoming channels, the last ones, are the condition.
        kernel: 0 for linear layers; otherwise of the convolutions in the blocks.
    """

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int = 8, context: int = 0, blocks: int = 1, kernel: int = 0
    ) -> None:
        super().__init__()
        self.context = context

        def layer(a: int, b: int, size: int = 1) -> nn.Module:
            return nn.Conv2d(a, b, size, padding=size // 2) if kernel else nn.Linear(a, b)

        self.first, self.last = layer(in_channels, hidden), layer(hidden, out_channels)
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            layers = {"0": layer(hidden, hidden, kernel), "1": layer(hidden, hidden, kernel)}
            self.blocks.append(nn.ModuleDict(layers | ({"gate": layer(context, hidden)} if context else {})))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) -> (B, out_channels, *spatial)."""
        h = self.first(x)
        for block in self.blocks:
            step = block["1"](F.relu(block["0"](F.relu(h))))  # type: ignore[index]
            if self.context:
                step = F.glu(torch.cat([step, block["gate"](x[:, -self.context :])], 1), 1)  # type: ignore[index]
            h = h + step
        return self.last(h)


residual = nets.register("nflows_residual", Residual)


def load(config: Config, state: State) -> Imported:
    """The module of one nflows transform or raw function."""
    if "function" in config:
        return _function(config["function"], config["kwargs"], state)
    return _MODULES[config["cls"]]({"shape": config["shape"], **config["args"]}, state)


def _function(name: str, args: Config, state: State) -> Imported:
    raw = [state[key] for key in RAW if key in state]
    edges = {"left": 0.0, "right": 1.0, "bottom": 0.0, "top": 1.0} | args
    box = None if "tails" in args else tuple(edges[name] for name in ("left", "right", "bottom", "top"))
    options: Config = {"bins": raw[0].shape[-1], "bound": args.get("tail_bound"), "box": box}
    return per_element(RationalQuadratic(tails="identity" if box is None else "interval", **options), *raw)


def permuted_lu(state: State, order: Tensor | None = None, eps: float = 1e-3) -> Imported:
    """nflows' LULinear, y = L U x + b with a softplus diagonal, behind a permutation if there is one."""
    channels = len(state["bias"])
    below_diagonal, above = torch.tril_indices(channels, channels, -1), torch.triu_indices(channels, channels, 1)
    zeros = state["bias"].new_zeros(channels, channels)
    lower = zeros.index_put(tuple(below_diagonal), state["lower_entries"])
    upper = zeros.index_put(tuple(above), state["upper_entries"])
    layer, found = lu(lower, upper, _positive(state["unconstrained_upper_diag"], eps), bias=state["bias"])
    if order is None:
        return Imported(layer, found)
    first, first_state = permutation(order)
    return Imported(Compose(permute=first, linear=layer), under("permute", first_state) | under("linear", found))


def _positive(raw: Tensor, eps: float = 1e-3) -> Tensor:
    return F.softplus(raw) + eps


def _lu(args: Config, state: State) -> Imported:
    return permuted_lu(state, state.get("permutation._permutation"), args.get("eps", 1e-3))


def _qr(args: Config, state: State) -> Imported:
    """R, then the reflections and the bias."""
    channels = len(state["bias"])
    above = torch.triu_indices(channels, channels, 1)
    upper = state["bias"].new_zeros(channels, channels).index_put(tuple(above), state["upper_entries"])
    r, r_state = lu(torch.zeros_like(upper), upper, state["log_upper_diag"].exp())
    q, q_state = orthogonal(_reflections(state["orthogonal.q_vectors"]), state["bias"])
    return Imported(Compose(r=r, q=q), under("r", r_state) | under("q", q_state))


def _svd(args: Config, state: State) -> Imported:
    """Reflections, a positive diagonal, reflections and the bias."""
    v, v_state = orthogonal(_reflections(state["orthogonal_2.q_vectors"]))
    u, u_state = orthogonal(_reflections(state["orthogonal_1.q_vectors"]), state["bias"])
    raw = state["unconstrained_diagonal"]
    diagonal = actnorm(_positive(raw, args["eps"]).log(), torch.zeros_like(raw))
    layers = Compose(v=v, diagonal=ActNorm(len(raw)), u=u)
    return Imported(layers, under("v", v_state) | under("diagonal", diagonal) | under("u", u_state))


def _reflections(vectors: Tensor) -> Tensor:
    """The first vector reflects first."""
    return householder(vectors.flip(0))


def _householder(args: Config, state: State) -> Imported:
    return Imported(*orthogonal(_reflections(state["q_vectors"])))


def _actnorm(args: Config, state: State) -> Imported:
    return Imported(ActNorm(args["features"]), actnorm(state["log_scale"], state["shift"]))


def _permutation(args: Config, state: State) -> Imported:
    return Imported(*permutation(state["_permutation"]))


def _squeeze(args: Config, state: State) -> Imported:
    return Imported(Squeeze(args["factor"]), {})


def _leaky_relu(args: Config, state: State) -> Imported:
    return Imported(LeakyReLU(args["negative_slope"]), {})


def _coupling(args: Config, state: State) -> Imported:
    """A mask chooses what is transformed."""
    mask = _mask(state)
    context = args.get("context_features", 0)
    net = residual(hidden=args["hidden_features"], context=context, blocks=args["num_blocks"])
    options: dict[str, Any] = {"condition": context, "mask": mask}
    layer: Bijection
    if "scale" in args:
        layer = AffineCoupling(len(mask), net, **options, **_SIGMOID)
    else:
        layer = AdditiveCoupling(len(mask), net, **options)
    return Imported(layer, under("net", _net(below(state, "transform_net"))) | {"mask": mask})


def _mask(state: State) -> Tensor:
    """1 for the identity features, 0 for the transformed ones."""
    return torch.isin(
        torch.arange(len(state["identity_features"]) + len(state["transform_features"])), state["identity_features"]
    )


def spline_coupling(args: Config, state: State) -> Imported:
    """The same with splines, and splines of the identity features behind it if there are any."""
    hidden = args.get("hidden_features", args.get("hidden_channels"))
    context = args.get("context_features", args.get("context_channels", 0))
    kernel = 3 if "hidden_channels" in args else 0
    net = residual(hidden=hidden, context=context, blocks=args["num_blocks"], kernel=kernel)
    layers, found = spline_layers(args, state, net, bound=args["tail_bound"])
    raw = below(state, "unconditional_transform")
    if raw:
        split, order = (
            len(state["identity_features"]),
            len(state["identity_features"]) + len(state["transform_features"]),
        )
        spline = {"bins": args["num_bins"], "bound": args["tail_bound"]}
        layers["alone"] = RationalQuadraticSpline(order, count=split, **spline)
        found["alone.raw"] = torch.cat([raw[name] for name in RAW], 1)
    return sorted_and_back(layers, found, state)


def spline_layers(args: Config, state: State, net: Factory, **spline: Any) -> tuple[dict[str, Bijection], State]:
    """The coupling itself, of features in the order (identity, transformed)."""
    split, moved = len(state["identity_features"]), len(state["transform_features"])
    hidden = args.get("hidden_features", args.get("hidden_channels"))
    context = args.get("context_features", args.get("context_channels", 0))
    spline |= {"bins": args["num_bins"], "gain": hidden**-0.5}
    coupling = RationalQuadraticCoupling(split + moved, net, condition=context, split=split, **spline)
    return {"coupling": coupling}, under("coupling.net", _net(below(state, "transform_net")))


def sorted_and_back(layers: dict[str, Bijection], found: State, state: State) -> Imported:
    """Layers of features in the order (identity, transformed) between permutations."""
    order = torch.cat([state["identity_features"], state["transform_features"]])
    (sort, sorted_), (back, unsorted) = permutation(order), permutation(order.argsort())
    found = found | under("sort", sorted_) | under("back", unsorted)
    return Imported(Compose(sort=sort, **layers, back=back), found)


RAW = ["unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives"]

_SIGMOID: dict[str, Any] = {"clamp": "sigmoid", "bound": 1e-3, "layout": "shift_scale"}


def _net(state: State) -> State:
    """Keys of nflows' residual networks as those of :class:`Residual`."""
    names = {"initial_layer": "first", "final_layer": "last", "context_layer": "gate"}
    found: State = {}
    for key, value in state.items():
        parts = [names.get(part, part) for part in key.split(".") if part not in ("linear_layers", "conv_layers")]
        found[".".join(parts)] = value
    return found


def _maf(args: Config, state: State) -> Imported:
    net, context = nflows_made(args, "nflows"), args.get("context_features", 0)
    layer = MaskedAutoregressive(args["features"], net, condition=context, clamp="softplus", bound=1e-3)
    return Imported(layer, under("net", nflows_made_state(below(state, "autoregressive_net"))))


def _ar_rqs(args: Config, state: State) -> Imported:
    return autoregressive_spline(args, below(state, "autoregressive_net"), "nflows")


def autoregressive_spline(args: Config, state: State, library: str) -> Imported:
    """Splines with parameters of a MADE; nothing is divided by the root of its width."""
    layer = MaskedAutoregressive(
        args["features"],
        nflows_made(args, library),
        transform="rational_quadratic",
        condition=args.get("context_features", 0),
        bins=args["num_bins"],
        bound=float(args["tail_bound"]),
    )
    return Imported(layer, under("net", nflows_made_state(state)))


def _multiscale(args: Config, state: State) -> Imported:
    """Two scales as a graph; the first half of the channels leaves, and the latents end in one flat vector."""
    one, two = below(state, "_transforms.0"), below(state, "_transforms.1._transforms.1")
    norm, mix = below(one, "_transforms.1"), permuted_lu(below(one, "_transforms.2"))
    shuffle = one["_transforms.2.permutation._permutation"]
    x = g.actnorm(g.squeeze(g.input("x", args["shape"])), name="norm")
    x = g.permutation(x, permutation=shuffle.tolist(), name="shuffle")
    leaving, rest = g.split(g.invertible_conv1x1(x, parameterization="lu", bias=True, name="mix"))
    rest, mask = g.squeeze(rest), _mask(two)
    net = residual(hidden=args["hidden_channels"], kernel=3)
    rest = g.affine_coupling(rest, net=net, mask=mask.tolist(), name="coupling", **_SIGMOID)
    built = g.graph(y=g.concat(g.flatten(leaving), g.flatten(rest))).build()
    found = under("norm", actnorm(norm["log_scale"], norm["shift"])) | under("mix", mix.state)
    found |= under("coupling.net", _net(below(two, "transform_net"))) | {"coupling.mask": mask}
    return Imported(built, found | {"shuffle.permutation": shuffle})


_MODULES: dict[str, Callable[[Config, State], Imported]] = {
    "ActNorm": _actnorm,
    "AdditiveCouplingTransform": _coupling,
    "AffineCouplingTransform": _coupling,
    "HouseholderSequence": _householder,
    "LULinear": _lu,
    "LeakyReLU": _leaky_relu,
    "MaskedAffineAutoregressiveTransform": _maf,
    "MaskedPiecewiseRationalQuadraticAutoregressiveTransform": _ar_rqs,
    "MultiscaleCompositeTransform": _multiscale,
    "OneByOneConvolution": _lu,
    "PiecewiseRationalQuadraticCouplingTransform": spline_coupling,
    "QRLinear": _qr,
    "RandomPermutation": _permutation,
    "SVDLinear": _svd,
    "SqueezeTransform": _squeeze,
}
