"""``zoo parity`` of FrEIA, normflows, nflows, zuko and glow-pytorch: flowkit's modules with the weights of their files.

None of these libraries is needed. It lies with the tests because nothing else imports their weights.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowkit.bijections import ActNorm, AllInOneBlock, Inverse
from flowkit.bijections.linear import SoftPermutation
from flowkit.distributions import DiagonalGaussian
from tests.parity.importers import LIBRARIES, Imported, freia, glowpytorch, normflows
from zoo.parity import TOLERANCE, Checks, Fixture

Answers = dict[str, Tensor]

_SPLINE = "a spline"
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
"""What flowkit does not have, or has as a formula alone."""

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
_DATA = ("in/x", "in/cond", "in/gy", "in/gl")


class Peer(NamedTuple):
    """One file: its config, the published state (raw parameters included) and everything else by key."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    data: dict[str, Tensor]

    @classmethod
    def of(cls, fixture: Fixture) -> "Peer":
        """From a file as it was read."""
        config = {**fixture.config, "file": fixture.component, "shape": tuple(fixture.arrays["in/x"].shape[1:])}
        tensors = {key: fixture[key] for key in fixture.arrays}
        state = {key.split("/", 1)[1]: v for key, v in tensors.items() if key.startswith(("state/", "buf/"))}
        if "cls" not in config or not state:  # a raw function or transform, whose parameters are inputs
            state |= {key[3:]: v for key, v in tensors.items() if key.startswith("in/") and key not in _DATA}
        return cls(config, state, tensors)

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


def at_an_edge(peer: Peer, x: Tensor) -> Tensor:
    """Where x lies on the edge of the box of a raw spline: gradients of its log-det have two values there."""
    options = peer.config.get("kwargs", peer.config)
    edges = {name: float(options[name]) for name in ("tail_bound", "bound", "left", "right") if name in options}
    found = torch.zeros_like(x, dtype=torch.bool)
    for name, edge in edges.items():
        found |= (x.abs() if "bound" in name else x) == edge
    return found


def gradients(
    peer: Peer, module: nn.Module, state: dict[str, Tensor], given: Mapping[str, Tensor], wanted: Mapping[str, str]
) -> Answers:
    """Gradients of sum(y * gy) + sum(logdet * gl).

    Arguments:
        given: "x" and the published parameters, which ``state`` follows from.
        wanted: the file's key of the gradient by each of them.
    """
    x = given["x"].requires_grad_()
    y, logdet = torch.func.functional_call(module, state, (x,), peer.conditions())
    logdet = logdet - of_rotations(module, state, x)
    loss = (y * peer.data["in/gy"]).sum() + (logdet * peer.data["in/gl"]).sum()
    found = dict(zip(wanted.values(), torch.autograd.grad(loss, [given[name] for name in wanted]), strict=True))
    if "x" in wanted:  # where there are two values, either is right
        edge, key = at_an_edge(peer, x), wanted["x"]
        found[key] = torch.where(edge, peer.data[key], found[key])
    return found


def answers(fixture: Fixture) -> Answers:
    """All that a file holds.

    Raises:
        ValueError: for what flowkit does not have.
    """
    if fixture.component in NOT_COVERED:
        raise ValueError(f"not in flowkit: {NOT_COVERED[fixture.component]}")
    peer = Peer.of(fixture)
    if fixture.component in INITIALISED:
        return initialised(peer)
    (module, state), leaves = peer.load()
    outputs, given = peer.outputs(), peer.conditions()
    *latents, logdet = module(peer.data["in/x"], **given)
    found: Answers = {**dict(zip(outputs, latents, strict=True)), "out/logdet": logdet}
    for start, ends in ((outputs, ("x_rec", "logdet_inv")), (["in/x"], ("inv_of_x", "inv_of_x_logdet"))):
        if f"out/{ends[0]}" in fixture:
            back = module.inverse(*[peer.data[key] for key in start], **given)
            found |= {f"out/{end}": value for end, value in zip(ends, back, strict=True)}
    found |= in_float64(peer) | log_probs(peer, found)
    wanted = {key[5:]: key for key in peer.data if key.startswith("grad/") and not key.startswith("grad/inv_")}
    if wanted:
        found |= gradients(peer, module, state, {"x": peer.data["in/x"], **leaves}, wanted)
    if wanted := {key[9:]: key for key in peer.data if key.startswith("grad/inv_")}:
        (module, state), leaves = peer.load()
        state = {f"bijection.{key}": value for key, value in state.items()}
        found |= gradients(peer, Inverse(module), state, {"x": peer.data["out/y"], **leaves}, wanted)
    return found


def in_float64(peer: Peer) -> Answers:
    """Both directions with the same weights in float64."""
    if "out/y64" not in peer.data:
        return {}
    (module, state), _ = peer.load(torch.float64)
    y, logdet = module(peer.data["in/x"].double(), **peer.conditions(torch.float64))
    found = {"out/y64": y, "out/logdet64": logdet - of_rotations(module, state, peer.data["in/x"])}
    if "out/x_rec64" in peer.data:
        found["out/x_rec64"] = module.inverse(peer.data["out/y64"])[0]
    return found


def log_probs(peer: Peer, found: Answers) -> Answers:
    """Densities of the data, where the file has them."""
    if "out/log_p" in peer.data:
        return glow_priors(peer)
    if "out/log_prob" not in peer.data:
        return {}
    total = found["out/logdet"]
    for key in peer.outputs():
        z, name = found[key], f"q0.{key.removeprefix('out/z')}"
        base = DiagonalGaussian(z.shape[1:], learnable=True)
        if f"{name}.loc" in peer.state:
            loc, log_scale = peer.state[f"{name}.loc"][0], peer.state[f"{name}.log_scale"][0]
            base.load_state_dict({"loc": loc, "log_scale": log_scale})
        total = total + base.log_prob(z)
    return {"out/log_prob": total}


def glow_priors(peer: Peer) -> Answers:
    """Of glow-pytorch's Glow: the density of its latents, and what its noise becomes, block by block from the last."""
    config, blocks, total = peer.config, peer.config["n_block"], torch.zeros(())
    sample, latent = torch.zeros(()), torch.zeros(())
    (whole, _), _ = peer.load()
    for i in reversed(range(blocks)):
        z, eps = peer.data[f"out/z{i}"], peer.data[f"in/eps{i}"]
        state = {f"blocks.0.{k.split('.', 2)[2]}": v for k, v in peer.state.items() if k.startswith(f"blocks.{i}.")}
        last = i == blocks - 1
        own = {**config, "n_block": 1, "in_channel": config["in_channel"] * 2**i}
        block = glowpytorch.load(own, state)
        block.module.load_state_dict(block.state)
        for known, value in ((latent, z), (sample, None)):
            mean, log_std = _prior(state, torch.zeros_like(z) if last else known).chunk(2, 1)
            if value is None:
                drawn = mean + log_std.exp() * eps
                sample = block.module.inverse(drawn if last else torch.cat([sample, drawn], 1))[0]
            else:
                apart = ((z - mean) / log_std.exp()).square()
                total = total - (0.5 * math.log(2 * math.pi) + log_std + 0.5 * apart).flatten(1).sum(1)
                latent = block.module.inverse(z if last else torch.cat([latent, z], 1))[0]
    return {"out/log_p": total, "out/sample": sample}


def _prior(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Means and log deviations: a convolution that sees ones around its input, times exp(3 scale)."""
    weight, bias, scale = (state[f"blocks.0.prior.{name}"] for name in ("conv.weight", "conv.bias", "scale"))
    return nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), value=1.0), weight, bias) * (3 * scale).exp()


def initialised(peer: Peer) -> Answers:
    """Actnorms that the first batch sets; FrEIA divides by the standard deviation as it is."""
    x = peer.data["in/x"]
    if "freia" in peer.config["file"]:
        layer, expected = ActNorm(x.shape[1], eps=0.0), freia.load(peer.config, peer.state).state
    else:
        layer, expected = ActNorm(x.shape[1]), normflows.load({"cls": "ActNorm"}, peer.state).state
    y, logdet = layer(x)
    for name in ("scale", "shift"):
        if not torch.allclose(getattr(layer, name), expected[name], rtol=0, atol=TOLERANCE):
            raise ValueError(f"{name}: expected {expected[name].tolist()}, got {getattr(layer, name).tolist()}")
    found = {"out/y": y, "out/logdet": logdet, "out/x_rec": layer.inverse(y)[0]}
    for way in ("inv", "fwd"):  # in normflows, either direction may see the first batch
        found |= {f"out/{way}_of_x": y, f"out/{way}_of_x_logdet": logdet}
    for name, ours in (("s", layer.scale), ("t", layer.shift)):
        found[f"state_fwd/{name}"] = ours
    return found


def rounding(fixture: Fixture, key: str) -> float:
    """The tolerance of an entry: a peer's own rounding where that is more than 1e-5, and little in float64.

    Of a way back that rounding is known: how far from the input the peer ends up, or what its log-dets add up to. Two
    computations may part by twice that.
    """
    back, forth, both = ROUNDING.get(fixture.component, EXACT)
    if key.endswith("64"):
        return 1e-10
    if key.startswith("grad/"):
        return both if key.startswith("grad/inv_") else forth
    if key not in ("out/x_rec", "out/logdet_inv"):
        return TOLERANCE
    theirs, right = fixture[key], fixture["in/x"] if key == "out/x_rec" else -fixture["out/logdet"]
    own = float((theirs - right).abs().max()) / max(1.0, float(theirs.abs().max()))
    return max(back, 2 * own)


CHECKS = Checks(dict.fromkeys(LIBRARIES, answers), {"*": rounding})
