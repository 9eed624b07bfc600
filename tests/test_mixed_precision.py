"""Conditioners under autocast: the layers and their log-dets stay in the type of x; tolerances as in the docs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import flowkit
from flowkit import nets
from flowkit.bijections import AffineCoupling, Bijection
from flowkit.bijections.elementwise import RationalQuadratic
from tests.bijections.cases import CASES, Case
from tests.bijections.test_contract import every_layer, inputs, randomised

TYPES = {torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Autocast type, and how far results and gradients may be from float32, relative to their largest value."""


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    assert actual.dtype == expected.dtype and actual.isfinite().all(), what
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(actual, expected, atol=tolerance * scale, rtol=0, msg=lambda m: f"{what}: {m}")


def is_one_coupling(layer: Bijection) -> bool:
    return hasattr(layer, "net") or hasattr(layer, "scale_net")


def has_splines(layer: Bijection) -> bool:
    return any(isinstance(getattr(part, "transform", None), RationalQuadratic) for part in layer.modules())


@every_layer
def test_layers_stay_in_float32(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    plain, plain_logdet = layer(x, condition)
    for dtype, tolerance in TYPES.items():
        with torch.autocast("cpu", dtype):
            y, logdet = layer(x, condition)
            back, back_logdet = layer.inverse(y, condition)
        assert y.dtype == logdet.dtype == back.dtype == back_logdet.dtype == torch.float32
        assert_near(y, plain, tolerance, "y")
        assert_near(logdet, plain_logdet, tolerance, "log-det")
        exact = 1e-4 if is_one_coupling(layer) else tolerance  # see flowkit.bijections, on chains
        assert_near(back, x, exact, "round trip")
        assert_near(back_logdet, -logdet, exact, "log-det of the round trip")


@every_layer
def test_gradients_are_near_those_in_float32(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    given = {False: x, True: layer(x, condition)[0].detach()}
    for inverse, x in given.items():
        sources = {"x": x.requires_grad_(), **dict(layer.named_parameters())}
        if condition is not None:
            sources["condition"] = condition.requires_grad_()
        results = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                y, logdet = (layer.inverse if inverse else layer)(x, condition)
            results.append(torch.autograd.grad(y.square().mean() + logdet.mean(), list(sources.values())))
        for name, full, mixed in zip(sources, *results, strict=True):
            assert_near(mixed, full, (6 if has_splines(layer) else 2) * TYPES[torch.bfloat16], name)


def test_walking_back_under_autocast_gives_the_gradients_of_autocast() -> None:
    case = next(case for case in CASES if case.name == "glow")
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[0])
    results = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            y, logdet = layer(x, condition)
        results.append(torch.autograd.grad(y.square().mean() + logdet.mean(), list(layer.parameters())))
        flowkit.reversible(layer)
    for (name, _), full, walked in zip(layer.named_parameters(), *results, strict=True):
        assert_near(walked, full, TYPES[torch.bfloat16], name)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_flow_trains_under_autocast(dtype: torch.dtype) -> None:
    x, c = flowkit.graph.input("x", 4), flowkit.graph.input("c", 3)
    e = flowkit.graph.mlp(c, out=4, hidden=[8])
    step = flowkit.graph.affine_coupling(flowkit.graph.actnorm(x), condition=e, net=flowkit.nets.mlp(hidden=8))
    flow = flowkit.Flow(flowkit.graph.graph(z=step).build(), flowkit.distributions.DiagonalGaussian(4))
    with torch.autocast("cpu", dtype):
        loss = -flow(torch.randn(16, 4), torch.randn(16, 3)).mean()  # the embedder's output is in the narrow type
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in flow.parameters())


def test_volume_preserving_log_scales_sum_to_zero_under_autocast() -> None:
    layer = AffineCoupling(64, nets.mlp(hidden=32), volume_preserving="channels", clamp="atan")
    x = torch.randn(3, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = layer(x)
    jacobian = torch.stack([torch.autograd.grad(y[0, i], x, retain_graph=True)[0][0] for i in range(32, 64)])
    diagonal = jacobian[:, 32:].diagonal()
    assert diagonal.log().sum().abs() < 1e-5
