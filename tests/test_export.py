"""Export of both directions: plain ATen in export_mode, the fused operators outside, and ONNX under onnxruntime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor

import flowkit
from flowkit import _native, nets
from flowkit.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    Inverse,
    InvertibleLinear,
    RationalQuadraticCoupling,
    Shuffle,
    WoodburyTransform,
)
from tests.test_reversible import glow_graph


def glow() -> tuple[Bijection, Tensor, Tensor]:
    """A graph with 1x1 convolutions, an embedder, a split and a join."""
    net = glow_graph().build()
    x, c = torch.randn(3, 2, 4, 4), torch.randn(3, 3)
    net(x, c)
    return net, x, c


def tabular() -> tuple[Bijection, Tensor, Tensor]:
    layers = [
        layer
        for _ in range(2)
        for layer in (
            ActNorm(6),
            AffineCoupling(6, nets.mlp(hidden=8), condition=2, permutation="flip", clamp="softclip"),
            InvertibleLinear(6, parameterization="qr", bias=True),
            Shuffle(6),
        )
    ]
    flow = Compose(*layers)
    x, c = torch.randn(3, 6), torch.randn(3, 2)
    flow(x, c)
    return flow, x, c


def splines() -> tuple[Bijection, Tensor, Tensor]:
    where: dict[str, Any] = {"condition": 2, "permutation": "swap"}
    flow = Compose(
        RationalQuadraticCoupling(6, nets.mlp(hidden=8), bins=4, **where),
        RationalQuadraticCoupling(6, nets.mlp(hidden=8), bins=3, tails="circular", **where),
        RationalQuadraticCoupling(6, nets.mlp(hidden=8), bins=3, preset="zuko", **where),
    )
    return flow, torch.randn(3, 6), torch.randn(3, 2)


MODELS = {"glow": glow, "tabular": tabular, "splines": splines}
DIRECTIONS = [(name, inverse) for name in MODELS for inverse in (False, True)]
every_direction = pytest.mark.parametrize("name, inverse", DIRECTIONS)


def direction(name: str, inverse: bool) -> tuple[Bijection, Any, tuple[Tensor, Tensor]]:
    flow, x, c = MODELS[name]()
    with torch.no_grad():
        return flow, Inverse(flow) if inverse else flow, (flow(x, c)[0] if inverse else x, c)


def operators(program: Any) -> set[str]:
    """The names of the operators of an exported program, with their namespaces."""
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@every_direction
@pytest.mark.parametrize("strict", [False, True])
def test_export_mode_leaves_plain_operators(name: str, inverse: bool, strict: bool) -> None:
    flow, module, given = direction(name, inverse)
    batch = {0: torch.export.Dim("batch")}
    values = Inverse(Inverse(module))  # arguments of one name each: a graph's own forward takes any
    with flowkit.export_mode(flow):
        program = torch.export.export(values, given, dynamic_shapes={"x": batch, "condition": batch}, strict=strict)
    found = operators(program)
    assert not any(name.startswith("flowkit") for name in found), found
    assert not any(word in name for name in found for word in ("solve", "slogdet", "lu_", "inv_ex", "householder"))
    torch.testing.assert_close(program.module()(*given), module(*given), atol=1e-5, rtol=1e-5)
    assert program.module()(*(torch.cat([v, v]) for v in given))[1].shape == (6,)


def test_outside_export_mode_the_fused_operators_stay() -> None:
    _, module, given = direction("tabular", False)
    found = operators(torch.export.export(module, given))
    fused = {name for name in found if name.startswith("flowkit")}
    assert (
        fused
        == {f"flowkit.{op}.default" for op in ("actnorm", "affine_coupling", "channel_linear")}
        | {"flowkit.permute_channels.default"}
        or not _native.available
    )


@every_direction
def test_onnx(name: str, inverse: bool, tmp_path: Path) -> None:
    flow, module, given = direction(name, inverse)
    keys, modes = list(flow.state_dict()), [layer.training for layer in flow.modules()]
    file = tmp_path / "flow.onnx"
    flowkit.to_onnx(flow, *given, file, inverse=inverse)
    assert list(flow.state_dict()) == keys and [layer.training for layer in flow.modules()] == modes
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 3, 7):
        x, c = (torch.cat([v, v.flip(0) * 0.5, v])[:batch] for v in given)
        results = session.run(["y", "logdet"], {"x": x.numpy(), "condition": c.numpy()})
        torch.testing.assert_close(tuple(map(torch.tensor, results)), module(x, c), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inverse", [False, True])
def test_onnx_without_a_condition(inverse: bool, tmp_path: Path) -> None:
    mix = WoodburyTransform((2, 2, 3), channel_rank=1, space_rank=2)
    flow = Compose(mix, AffineCoupling(2, nets.convnet(hidden=4, depth=0)))
    x = torch.randn(2, 2, 2, 3)
    flowkit.to_onnx(flow, x, None, tmp_path / "flow.onnx", inverse=inverse)
    session = onnxruntime.InferenceSession(tmp_path / "flow.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x"]
    results = session.run(["y", "logdet"], {"x": x.numpy()})
    expected = (flow.inverse if inverse else flow)(x)
    torch.testing.assert_close(tuple(map(torch.tensor, results)), expected, atol=1e-4, rtol=1e-4)


def test_an_actnorm_without_a_batch_is_refused() -> None:
    flow = Compose(first=ActNorm(4))
    with pytest.raises(ValueError, match="an ActNorm 'first' that has seen no batch; run forward on one batch"):
        with flowkit.export_mode(flow.eval()):
            pass
    assert not _native.plain.get()


@pytest.mark.parametrize("parameterization", ["dense", "lu", "qr", "soft_permutation"])
def test_the_mode_is_left_as_it_was_found_and_holds_in_its_thread_alone(parameterization: str) -> None:
    flow = Compose(InvertibleLinear(4, parameterization=parameterization, bias=True), Shuffle(4))
    x, matrix = torch.randn(3, 4), flow[0].matrix
    y, logdet = flow(x)
    seen: list[bool] = []
    with pytest.raises(ZeroDivisionError), flowkit.export_mode(flow):
        assert flow[0].matrix is not matrix and _native.plain.get()
        torch.testing.assert_close(flow(x), (y, logdet))
        torch.testing.assert_close(flow.inverse(y), (x, -logdet))
        thread = threading.Thread(target=lambda: seen.append(_native.plain.get()))
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert flow[0].matrix is matrix and not _native.plain.get() and seen == [False]
