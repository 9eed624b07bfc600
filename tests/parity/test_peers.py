"""Numbers of FrEIA, normflows, nflows, zuko and glow-pytorch, computed by flowkit modules that hold their weights.

For every file in ``fixtures``: both directions and their log-dets in float32, the forward in float64, and the gradients
with respect to the input and every published parameter. What of the peers these tests leave out, and why:
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowkit.bijections import ActNorm, AllInOneBlock, Inverse, InvertibleLinear
from flowkit.bijections.linear import SoftPermutation
from flowkit.distributions import DiagonalGaussian
from tests.parity.importers import LIBRARIES, Imported, freia, normflows

FIXTURES = Path(__file__).parent / "fixtures"

_SPLINE = "a spline"
_AUTOREGRESSIVE = "autoregressive"
_NO_LAYER = "an elementwise transform without a layer"
NOT_COVERED = {
    "freia_rqs_image": "FrEIA's clamp of the domain, domain_clamping",
    "freia_autoact2": "a leaky ReLU with learned slopes on both sides",
    "freia_linear_spline": _SPLINE,
    "nflows_cubic_spline": _SPLINE,
    "nflows_linear_spline": _SPLINE,
    "nflows_logtanh": _NO_LAYER,
    "nflows_quadratic_linear": _SPLINE,
    "nflows_quadratic_spline": _SPLINE,
    "nflows_sigmoid": _NO_LAYER,
    "normflows_planar_lrelu": "planar flows",
    "normflows_planar_tanh": "planar flows, without an inverse",
    "normflows_radial": "radial flows, without an inverse",
    "zuko_bernstein_bounded": _NO_LAYER,
    "zuko_gaussianization": _NO_LAYER,
    "zuko_gf": _NO_LAYER,
    "zuko_signedpower": _NO_LAYER,
    "zuko_softclip": _NO_LAYER,
}

NAMES = sorted(path.stem.removeprefix("peer_") for path in FIXTURES.glob("peer_*.npz"))
# Steep splines amplify rounding: what a peer's own float32 numbers differ by from its float64, where that is more than
# 1e-5 of the largest number: of the inverse, of the gradients, and of the inverse's gradients.
ROUNDING = {
    "freia_rqs": (1e-5, 2e-5, 1e-5),
    "nflows_ar_rqs": (1e-4, 1e-5, 1e-5),
    "nflows_rqs_interval": (1e-3, 1e-5, 1e-3),
    "nflows_rqs_linear": (1e-4, 2e-5, 1e-3),
    "normflows_crqs": (1e-5, 2e-5, 2e-5),
    "zuko_ncsf": (2e-5, 1e-5, 1e-5),
    "zuko_rqs": (1e-4, 1e-5, 1e-3),
}
EXACT = (1e-5, 1e-5, 1e-5)
INITIALISED = ["freia_actnorm_ddinit", "normflows_actnorm_ddinit"]  # the state after the first batch
FORWARD_ONLY = ["freia_rqs_identity"]  # FrEIA does not find its way back: errors of 14 in float32
every_file = pytest.mark.parametrize("name", [name for name in NAMES if name not in INITIALISED])


class Peer(NamedTuple):
    """One file: its config, the published state (raw parameters included) and everything else by key."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    data: dict[str, Tensor]

    def load(self, dtype: torch.dtype = torch.float32) -> tuple[Imported, dict[str, Tensor]]:
        """The module with its state, differentiable by the published parameters, which come second."""
        leaves = {k: v.to(dtype).requires_grad_() if v.is_floating_point() else v for k, v in self.state.items()}
        module, state = LIBRARIES[self.config["file"].split("_")[0]].load(self.config, leaves)
        module = module.to(dtype).eval()
        module.load_state_dict({key: value.detach() for key, value in state.items()})
        if self.config.get("direction", "").startswith("forward = normflows forward"):
            module, state = Inverse(module), {f"bijection.{key}": value for key, value in state.items()}
        return Imported(module, state), leaves

    def conditions(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        given = {"condition": "in/cond", "cond0": "in/cond0", "cond1": "in/cond1"}
        return {ours: self.data[key].to(dtype) for ours, key in given.items() if key in self.data}

    def outputs(self) -> list[str]:
        """Keys of the latents, in the order of the module's outputs."""
        return ["out/y"] if "out/y" in self.data else sorted(k for k in self.data if k[4:] in ("y0", "y1", "z0", "z1"))


_DATA = ("in/x", "in/cond", "in/gy", "in/gl")


def read(name: str) -> Peer:
    with np.load(FIXTURES / f"peer_{name}.npz") as file:
        everything = {key: file[key] for key in file.files}
    config = json.loads(str(everything.pop("config")))
    config["file"] = name
    tensors = {key: torch.from_numpy(value) for key, value in everything.items()}
    state = {key.split("/", 1)[1]: v for key, v in tensors.items() if key.startswith(("state/", "buf/"))}
    if "cls" not in config or not state:  # a raw function or transform, whose parameters are inputs
        state |= {key[3:]: v for key, v in tensors.items() if key.startswith("in/") and key not in _DATA}
    return Peer(config, state, tensors)


def agree(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    error, size = float((ours - theirs).detach().abs().max()), float(theirs.abs().max())
    assert error <= tolerance * max(1.0, size), f"off by {error:.1e}, numbers up to {size:.1e}"


def of_rotations(module: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The part of the log-det that comes from stored rotations: FrEIA says 0, which is true but for their rounding."""
    parts = dict(module.named_modules())
    names = [name for name, part in parts.items() if isinstance(part, SoftPermutation)]
    names += [
        f"{name}.mix.matrix".removeprefix(".")  # applied a second time
        for name, part in parts.items()
        if isinstance(part, AllInOneBlock) and part.mix is not None and part.reverse_permutation
    ]
    each = [torch.linalg.slogdet(state[f"{name}.weight"].double()).logabsdet for name in names]
    return x[0, 0].numel() * sum(each, torch.zeros((), dtype=torch.float64))


@every_file
def test_forward(name: str) -> None:
    peer = read(name)
    (module, _), _ = peer.load()
    *outputs, logdet = module(peer.data["in/x"], **peer.conditions())
    for ours, key in zip(outputs, peer.outputs(), strict=True):
        agree(ours, peer.data[key])
    agree(logdet, peer.data["out/logdet"])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*INITIALISED, *FORWARD_ONLY)])
def test_inverse(name: str) -> None:
    peer = read(name)
    (module, _), _ = peer.load()
    for grad in (True, False):  # without gradients a flow takes the in-place path
        with torch.set_grad_enabled(grad):
            x, logdet = module.inverse(*[peer.data[key] for key in peer.outputs()], **peer.conditions())
            agree(x, peer.data["out/x_rec"], ROUNDING.get(name, EXACT)[0])
            if "out/logdet_inv" in peer.data:
                agree(logdet, peer.data["out/logdet_inv"], ROUNDING.get(name, EXACT)[0])
            if "out/inv_of_x" in peer.data:
                x, logdet = module.inverse(peer.data["in/x"], **peer.conditions())
                agree(x, peer.data["out/inv_of_x"])
                agree(logdet, peer.data["out/inv_of_x_logdet"])


@pytest.mark.parametrize("name", [name for name in NAMES if "out/y64" in read(name).data])
def test_forward_in_float64(name: str) -> None:
    peer = read(name)
    (module, state), _ = peer.load(torch.float64)
    y, logdet = module(peer.data["in/x"].double(), **peer.conditions(torch.float64))
    agree(y, peer.data["out/y64"], 1e-10)
    agree(logdet - of_rotations(module, state, peer.data["in/x"]), peer.data["out/logdet64"], 1e-10)


@pytest.mark.parametrize("name", [name for name in NAMES if "out/x_rec64" in read(name).data])
def test_inverse_in_float64(name: str) -> None:
    peer = read(name)
    (module, _), _ = peer.load(torch.float64)
    x, _ = module.inverse(peer.data["out/y64"])
    agree(x, peer.data["out/x_rec64"], 1e-10)


@pytest.mark.parametrize("name", [name for name in NAMES if "grad/x" in read(name).data])
def test_gradients_by_input_and_every_published_parameter(name: str) -> None:
    peer = read(name)
    (module, state), leaves = peer.load()
    published = [key for key in peer.data if key.startswith("grad/") and not key.startswith("grad/inv_")]
    check_gradients(peer, module, state, {"x": peer.data["in/x"], **leaves}, {key[5:]: key for key in published})


@pytest.mark.parametrize("name", [name for name in NAMES if "grad/inv_x" in read(name).data])
def test_gradients_of_the_inverse(name: str) -> None:
    peer = read(name)
    (module, state), leaves = peer.load()
    state = {f"bijection.{key}": value for key, value in state.items()}
    published = {key[9:]: key for key in peer.data if key.startswith("grad/inv_")}
    check_gradients(peer, Inverse(module), state, {"x": peer.data["out/y"], **leaves}, published)


def check_gradients(
    peer: Peer, module: nn.Module, state: dict[str, Tensor], given: dict[str, Tensor], published: dict[str, str]
) -> None:
    """Gradients of sum(y * gy) + sum(logdet * gl); ``published`` maps what is given to the file's keys."""
    x = given["x"].requires_grad_()
    y, logdet = torch.func.functional_call(module, state, (x,), peer.conditions())
    logdet = logdet - of_rotations(module, state, x)
    loss = (y * peer.data["in/gy"]).sum() + (logdet * peer.data["in/gl"]).sum()
    grads = torch.autograd.grad(loss, [given[name] for name in published])
    tolerance = ROUNDING.get(peer.config["file"], EXACT)[2 if isinstance(module, Inverse) else 1]
    for name, key, grad in zip(published, published.values(), grads, strict=True):
        inside = ~at_an_edge(peer, x) if name == "x" else slice(None)
        agree(grad[inside], peer.data[key][inside], tolerance)


def at_an_edge(peer: Peer, x: Tensor) -> Tensor:
    """Where x lies on the edge of the box of a raw spline: gradients of its log-det have two values there."""
    options = peer.config.get("kwargs", peer.config)
    edges = {name: float(options[name]) for name in ("tail_bound", "bound", "left", "right") if name in options}
    found = torch.zeros_like(x, dtype=torch.bool)
    for name, edge in edges.items():
        found |= (x.abs() if "bound" in name else x) == edge
    return found


def test_actnorm_is_initialised_by_the_first_batch_as_in_freia() -> None:
    peer = read("freia_actnorm_ddinit")
    layer = ActNorm(peer.config["dims_in"][0][0], eps=0.0)  # FrEIA divides by the standard deviation as it is
    y, logdet = layer(peer.data["in/x"])
    agree(y, peer.data["out/y"])
    agree(logdet, peer.data["out/logdet"])
    agree(layer.inverse(y)[0], peer.data["out/x_rec"])
    expected = freia.load(peer.config, peer.state).state
    agree(layer.scale, expected["scale"])
    agree(layer.shift, expected["shift"])


def test_actnorm_is_initialised_by_the_first_batch_as_in_normflows() -> None:
    """There, either direction may see the first batch; here that is the forward of the layer or of its inverse."""
    peer = read("normflows_actnorm_ddinit")
    layer = ActNorm(peer.config["shape"][0])
    y, logdet = layer(peer.data["in/x"])
    for which in ("inv", "fwd"):
        agree(y, peer.data[f"out/{which}_of_x"])
        agree(logdet, peer.data[f"out/{which}_of_x_logdet"])
    by_inverse = normflows.load({"cls": "ActNorm"}, peer.state).state
    for scale, shift in (
        (by_inverse["scale"], by_inverse["shift"]),
        (peer.data["state_fwd/s"].flatten(), peer.data["state_fwd/t"].flatten()),
    ):
        agree(layer.scale, scale)
        agree(layer.shift, shift)


@pytest.mark.parametrize("name", ["nflows_qrlinear", "nflows_svdlinear", "nflows_lulinear"])
def test_qr_layer_holds_the_matrix_of_nflows(name: str) -> None:
    peer = read(name)
    bias = peer.state["bias"]
    (module, state), _ = peer.load(torch.float64)
    columns = module(torch.eye(len(bias)).double())[0].detach() - bias.double()
    layer = InvertibleLinear(len(bias), parameterization="qr", bias=True, weight=columns.mT.float())
    layer.load_state_dict({**layer.state_dict(), "bias": bias})
    y, logdet = layer(peer.data["in/x"])
    agree(y, peer.data["out/y"])
    agree(logdet, peer.data["out/logdet"])
    x, inverse_logdet = layer.inverse(peer.data["out/y"])
    agree(x, peer.data["out/x_rec"])
    agree(inverse_logdet, peer.data["out/logdet_inv"])


def test_log_prob_of_multi_scale_glow_in_normflows() -> None:
    peer = read("normflows_glow_ms")
    (module, _), _ = peer.load()
    *latents, log_prob = module(peer.data["in/x"])
    for i, z in enumerate(latents):
        loc, log_scale = (peer.state[f"q0.{i}.{name}"][0] for name in ("loc", "log_scale"))
        base = DiagonalGaussian(loc.shape, learnable=True)
        base.load_state_dict({"loc": loc, "log_scale": log_scale})
        log_prob = log_prob + base.log_prob(z)
    agree(log_prob, peer.data["out/log_prob"])


def test_every_file_is_covered_or_listed_with_a_reason() -> None:
    assert not set(NAMES) & set(NOT_COVERED)
    assert len(NAMES) + len(NOT_COVERED) == 120
    assert all(name.split("_")[0] in LIBRARIES for name in [*NAMES, *NOT_COVERED])
