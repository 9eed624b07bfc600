"""zuko 1.6; a transform goes from data to base noise. Its raw transforms have parameters as inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections import AffineCoupling, Bijection, Compose
from tests.parity.importers.common import Imported, State, below, lu, orthogonal, sequence, under

Config = dict[str, Any]


def load(config: Config, state: State) -> Imported:
    """The module of one transform or flow."""
    return _MODULES[config["cls"]](config, state)


class Elementwise(Bijection):
    """zuko's affine transform with a shift and a log-scale for each element; log-dets are those of each element."""

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(shift.detach()), nn.Parameter(scale.detach())

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y and its log-det, (B, C) each."""
        return self._run(ops.affine_coupling, x)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and its log-det, (B, C) each."""
        return self._run(ops.affine_coupling_inverse, y)

    def _run(self, call: Callable[..., tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
        flat = [t.reshape(-1, 1) for t in (x, self.scale, self.shift)]
        y, logdet = call(*flat, begin=0, clamp="softclip")
        return y.reshape(x.shape), logdet.reshape(x.shape)


def _rotation(config: Config, state: State) -> Imported:
    a = state["A"]
    return Imported(*orthogonal(torch.linalg.matrix_exp(a - a.mT)))


def _lu(config: Config, state: State) -> Imported:
    both = state["LU"]  # L has the free diagonal, U the unit one: L U = (L / d) (d U)
    diagonal = both.diagonal()
    return Imported(*lu(both / diagonal, diagonal[:, None] * both, diagonal))


def _affine(config: Config, state: State) -> Imported:
    return Imported(Elementwise(state["shift"], state["scale"]), state)


def _realnvp(config: Config, state: State) -> Imported:
    args, layers, found = config["args"], [], State()
    for i in range(args["transforms"]):
        own = below(state, f"transform.transforms.{i}")
        net = sequence(args["hidden_features"][0], (0,) * (len(args["hidden_features"]) + 1))
        options: dict[str, Any] = {"clamp": "softclip", "layout": "shift_scale_interleaved", "mask": own["mask"]}
        layers.append(AffineCoupling(args["features"], net, condition=args["context"], **options))
        found |= under(str(i), under("net", below(own, "hyper")) | {"mask": own["mask"]})
    return Imported(Compose(*layers), found)


_MODULES: dict[str, Callable[[Config, State], Imported]] = {
    "LULinearTransform": _lu,
    "MonotonicAffineTransform": _affine,
    "RealNVP": _realnvp,
    "RotationTransform": _rotation,
}
