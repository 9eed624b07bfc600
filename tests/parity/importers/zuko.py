"""zuko 1.6; a transform goes from data to base noise. Its raw transforms have parameters as inputs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowkit.bijections import (
    AffineCoupling,
    Bijection,
    Compose,
    MaskedAutoregressive,
    RationalQuadraticCoupling,
    batch_logdet,
)
from flowkit.bijections.elementwise import Affine, RationalQuadratic
from flowkit.nets import MADE
from tests.parity.importers.common import (
    Imported,
    State,
    below,
    lu,
    orthogonal,
    per_element,
    renamed,
    sequence,
    under,
)
from tests.parity.importers.masked import zuko_made, zuko_made_state

Config = dict[str, Any]


def load(config: Config, state: State) -> Imported:
    """The module of one transform or flow."""
    return _MODULES[config["cls"]](config, state)


def _rotation(config: Config, state: State) -> Imported:
    a = state["A"]
    return Imported(*orthogonal(torch.linalg.matrix_exp(a - a.mT)))


def _lu(config: Config, state: State) -> Imported:
    both = state["LU"]  # L has the free diagonal, U the unit one: L U = (L / d) (d U)
    diagonal = both.diagonal()
    return Imported(*lu(both / diagonal, diagonal[:, None] * both, diagonal))


def _affine(config: Config, state: State) -> Imported:
    return per_element(Affine(clamp="softclip"), state["scale"][..., None], state["shift"][..., None])


def _spline(config: Config, state: State) -> Imported:
    transform = RationalQuadratic(state["widths"].shape[-1], preset="zuko", bound=config["bound"])
    return per_element(transform, state["widths"], state["heights"], state["derivatives"])


def _realnvp(config: Config, state: State) -> Imported:
    args, layers, found = config["args"], [], State()
    for i in range(args["transforms"]):
        own = below(state, f"transform.transforms.{i}")
        net = sequence(args["hidden_features"], (0,) * (len(args["hidden_features"]) + 1))
        options: dict[str, Any] = {"clamp": "softclip", "layout": "shift_scale_interleaved", "mask": own["mask"]}
        layers.append(AffineCoupling(args["features"], net, condition=args.get("context", 0), **options))
        found |= under(str(i), under("net", below(own, "hyper")) | {"mask": own["mask"]})
    return Imported(Compose(*layers), found)


_MAPS: dict[str, dict[str, Any]] = {
    "MAF": {"clamp": "softclip", "layout": "shift_scale_interleaved"},
    "NSF": {"transform": "rational_quadratic", "preset": "zuko"},
    "NCSF": {"transform": "rational_quadratic", "preset": "zuko", "bound": math.pi},
}


def half_turn(x: Tensor) -> Tensor:
    """Angles in [-pi, pi) turned by half a circle, which undoes itself."""
    return torch.remainder(x, 2 * math.pi) - math.pi


class HalfTurn(Bijection):
    """:func:`half_turn` as a layer."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y and a log-det of 0."""
        return half_turn(x), batch_logdet(x, 0.0)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and a log-det of 0."""
        return half_turn(y), batch_logdet(y, 0.0)


class BeforeHalfTurn(MADE):
    """A masked network that sees the angles as they were before they were turned."""

    network = None

    def main(self, x: Tensor) -> Tensor:
        """(N, in_channels) to (N, out_channels)."""
        return super().main(half_turn(x))


def _coupling(config: Config, state: State) -> Imported:
    args = config["args"]
    widths = args["hidden_features"]
    layer = RationalQuadraticCoupling(
        args["features"],
        sequence(widths, (0,) * (len(widths) + 1)),
        condition=args.get("context", 0),
        mask=state["mask"],
        bins=args["bins"],
        preset="zuko",
    )
    return Imported(layer, renamed(state, hyper="net.") | {"mask": state["mask"]})


def _autoregressive(config: Config, state: State) -> Imported:
    """A chain of masked autoregressive transforms; with two passes, couplings."""
    args, state = config["args"], below(state, "transform.transforms")
    layers: dict[str, Bijection] = {}
    found: State = {}
    options = dict(_MAPS[args["cls"]]) | ({"bins": args["bins"]} if "bins" in args else {})
    for i in range(args["transforms"]):
        own = below(state, str(i))
        weights, masks = zuko_made_state(below(own, "hyper"))
        turned = args["cls"] == "NCSF"
        if turned:
            layers[f"turn{i}"] = HalfTurn()
        net = zuko_made(args, BeforeHalfTurn if turned else MADE)
        layer = MaskedAutoregressive(
            args["features"], net, condition=args.get("context", 0), order=own["order"].tolist(), **options
        )
        for ours, theirs in zip(layer.net.layers, masks, strict=True):
            assert torch.equal(ours.mask, theirs)
        layers[f"step{i}"] = layer
        found |= under(f"step{i}.net", weights | {"degrees": layer.net.degrees})
    return Imported(Compose(**layers), found)


_MODULES: dict[str, Callable[[Config, State], Imported]] = {
    "GeneralCouplingTransform": _coupling,
    "LULinearTransform": _lu,
    "MAF": _autoregressive,
    "MonotonicAffineTransform": _affine,
    "MonotonicRQSTransform": _spline,
    "NCSF": _autoregressive,
    "NSF": _autoregressive,
    "RealNVP": _realnvp,
    "RotationTransform": _rotation,
}
