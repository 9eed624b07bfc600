"""Net2Net's flows: bijections with exact log-dets, and what the authors' code did where it was not exact."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import zoo
from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo import published, registry
from zoo.blocks import flow
from zoo.net2net import graph

COUNTS = {
    "superresolution-faces": (189_198_720, 763),
    "anime-photography": (179_469_578, 763),
    "portraits-photography": (179_469_578, 763),
    "celeba-celebahq-ffhq": (179_469_834, 763),
    "sbert-to-coco-ae256": (252_439_040, 911),
    "sbert-to-bigbigan": (239_056_640, 911),
    "sbert-to-biggan256": (254_737_036, 911),
}
"""Parameters and tensors of the released configurations (sheet: sections 2.5 and 5)."""


def randomised(network: g.Graph, seed: int = 0) -> BuiltGraph:
    """In float64 and eval mode, every parameter random, scales of both signs among them."""
    torch.manual_seed(seed)
    net = network.build().double().eval()
    for key, parameter in net.named_parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.6)
        if key.endswith("norm.scale"):
            parameter.data = parameter.sign() * (0.5 + parameter.abs())
    return net


def jacobian_logdet(net: BuiltGraph, x: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
    one = [
        torch.autograd.functional.jacobian(
            lambda v, i=i: net(v[None], *(c[i : i + 1] for c in condition))[0][0],
            x[i],
        )
        for i in range(len(x))
    ]
    return torch.stack([torch.linalg.slogdet(j).logabsdet for j in one])


@st.composite
def flows(draw: st.DrawFn) -> tuple[g.Graph, int, tuple[tuple[int, ...], ...]]:
    """A flow, the size of its latent and the shapes of its conditions."""
    dim, depth = draw(st.integers(2, 7)), draw(st.integers(1, 3))
    common: dict[str, Any] = {"dim": dim, "depth": depth, "hidden": draw(st.integers(1, 8)), "layers": 1}
    kind = draw(st.sampled_from(["translator", "spatial", "given", "unconditional"]))
    if kind == "unconditional":
        return graph.unconditional(**common, coupling_only=draw(st.booleans())), dim, ()
    common["activation"] = draw(st.sampled_from(["none", "lrelu"]))
    common["conditioning"] = draw(st.sampled_from(["none", "sequential"]))
    if kind == "given":
        return graph.conditional_flow(**common, embedding=3), dim, ((3,),)
    if kind == "spatial":
        return graph.spatial_translator(**common, channels=2, size=5, down=1, embedding=3), dim, ((2, 5, 5),)
    norm = draw(st.sampled_from(["none", "batch", "actnorm"]))
    small = {"condition": 4, "embedding": 3, "embedder_hidden": 5, "embedder_layers": 1, "embedder_norm": norm}
    return graph.translator(**common, **small), dim, ((4,),)


@settings(max_examples=30, deadline=None)
@given(flows(), st.integers(1, 3), st.integers(0, 9))
def test_flows_are_inverted_and_report_the_log_det_of_their_jacobian(
    case: tuple[g.Graph, int, tuple[tuple[int, ...], ...]], batch: int, seed: int
) -> None:
    network, dim, shapes = case
    net = randomised(network, seed)
    x = torch.randn(batch, dim, dtype=torch.float64)
    condition = tuple(torch.randn(batch, *shape, dtype=torch.float64) for shape in shapes)
    with torch.no_grad():
        z, logdet = net(x, *condition)
        back, reverse = net.inverse(z, *condition)
    scale = max(1.0, float(z.abs().max()))
    assert (back - x).abs().max() <= 1e-10 * scale and (logdet + reverse).abs().max() <= 1e-9
    assert (jacobian_logdet(net, x, condition) - logdet).abs().max() <= 1e-9 * max(1.0, float(logdet.abs().max()))


@pytest.mark.parametrize("dim", [5, 6])
def test_the_legacy_activation_leaves_its_log_det_out(dim: int) -> None:
    options: dict[str, Any] = {"dim": dim, "embedding": 3, "depth": 1, "hidden": 4, "activation": "lrelu"}
    exact = randomised(graph.conditional_flow(**options))
    legacy = randomised(graph.conditional_flow(**options, exact_logdet=False))
    legacy.load_state_dict(exact.state_dict())
    x, h = torch.randn(9, dim, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    with torch.no_grad():
        (z, logdet), (same, theirs) = exact(x, h), legacy(x, h)
    state = exact.state_dict()
    normed = state["flow.0.norm.scale"] * (x + state["flow.0.norm.shift"])
    assert torch.equal(z, same)
    torch.testing.assert_close(logdet - theirs, (normed < 0).double().sum(1) * math.log(0.9), rtol=0, atol=1e-12)


def authors_coupling(net: BuiltGraph, x: Tensor, reverse: bool) -> Tensor:
    """The unconditional coupling as the sheet tells it (section 2.3), halves by torch.chunk in both directions."""
    maps = [
        (net.get_submodule(f"{name}.scale_net"), net.get_submodule(f"{name}.shift_net")) for name in ("first", "second")
    ]
    if not reverse:
        for i, (s, t) in enumerate(maps):
            if i:
                x = torch.cat(x.chunk(2, 1)[::-1], 1)
            a, b = x.chunk(2, 1)
            x = torch.cat([a, b * s(a).exp() + t(a)], 1)
        return x
    for i, (s, t) in reversed(list(enumerate(maps))):
        if not i:
            x = torch.cat(x.chunk(2, 1)[::-1], 1)
        a, b = x.chunk(2, 1)
        x = torch.cat([a, (b - t(a)) * (-s(a)).exp()], 1)
    return x


@pytest.mark.parametrize("dim", [4, 5, 7])
def test_odd_sizes_are_inverted_and_the_authors_reverse_pass_is_an_option(dim: int) -> None:
    def network(exact: bool) -> g.Graph:
        return g.graph(y=flow.double_coupling(g.input("x", dim), None, 6, 1, exact_inverse=exact))

    exact = randomised(network(True))
    legacy = randomised(network(False))
    legacy.load_state_dict(exact.state_dict())
    x = torch.randn(5, dim, dtype=torch.float64)
    y = exact(x)[0]
    assert (authors_coupling(exact, x, reverse=False) - y).abs().max() <= 1e-12
    assert (exact.inverse(y)[0] - x).abs().max() <= 1e-10
    assert (legacy.inverse(y)[0] - authors_coupling(exact, y, reverse=True)).abs().max() <= 1e-10
    wrong = (legacy.inverse(y)[0] - x).abs().max().item()
    assert wrong > 0.1 if dim % 2 else wrong <= 1e-10


@pytest.mark.parametrize("name", COUNTS)
def test_released_configurations_have_the_published_parameters_and_tensors(name: str) -> None:
    name, (parameters, tensors) = f"net2net/{name}", COUNTS[name]
    with torch.device("meta"):
        model = zoo.build(name)
    entries = published.layout(name, model, registry.entry(name).defaults).entries
    assert zoo.graph(name).parameters == parameters and len(entries) == tensors
    assert entries["sub_layers.0.norm_layer.loc"].shape == (1, model.graph.inputs[0].shape[0], 1, 1)
    assert entries["sub_layers.19.shuffle.backward_shuffle_idx"].dtype == torch.int64


def test_every_configuration_has_rules_for_all_of_its_keys() -> None:
    names = [name for name in zoo.list("net2net/*") if name in published.module_of(name).PUBLISHED]
    assert len(names) >= 24
    for name in names:
        less = {"depth": 1} if "depth" in registry.entry(name).defaults else {}
        with torch.device("meta"):
            model = zoo.build(name, **less)
        published.layout(name, model, registry.entry(name).defaults)


@pytest.mark.parametrize("name", ["tiny", "tiny-spatial", "tiny-conditional-flow", "tiny-unconditional"])
def test_the_authors_files_load_and_are_written_back(name: str, tmp_path: Path) -> None:
    name = f"net2net/{name}"
    model = randomised(zoo.graph(name)).float()
    theirs = published.export(name, model, registry.entry(name).defaults)
    beside = {"first_stage_model.encoder.weight": torch.ones(2), "loss.logvar": torch.zeros(())}
    torch.save({"state_dict": {**theirs, **beside}, "epoch": 3}, tmp_path / "last.ckpt")
    again = zoo.load(name, tmp_path / "last.ckpt")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    back = published.export(name, again, registry.entry(name).defaults)
    assert back.keys() == theirs.keys() and all(torch.equal(back[key], theirs[key]) for key in theirs)
    lost = next(key for key in theirs if key.startswith("flow.") and key.endswith("weight"))
    torch.save({"state_dict": {key: value for key, value in theirs.items() if key != lost}}, tmp_path / "less.ckpt")
    with pytest.raises(ValueError, match=f"missing: {lost.removeprefix('flow.')}"):
        zoo.load(name, tmp_path / "less.ckpt")


def test_published_files_are_those_of_the_sheet() -> None:
    from zoo.net2net.published import FILES

    assert {"ae-faces32", "ae-faces256", "anime-photography", "biggan-256", "dequant-vae", "captioner"} < FILES.keys()
    assert FILES["biggan-256"].md5 == "e23db3caa34ac4c4ae922a75258dcb8d"
    assert "https://k00.fr/lro927bu" in published.describe("net2net/celeba-celebahq-ffhq")[0]
    with pytest.raises(ValueError, match="its authors released no file"):
        zoo.load("net2net/superresolution-faces")
