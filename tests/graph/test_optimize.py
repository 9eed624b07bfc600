"""Optimisation passes: the same numbers in both directions, weights there and back, initialisation, errors."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from flowkit import graph as g
from flowkit.bijections import ActNorm
from flowkit.graph import passes
from flowkit.graph.optimize import Optimized
from flowkit.graph.rewrite import Rewrite, unrolled
from tests.graph.examples import EXAMPLES, flows
from tests.graph.test_build import built, inputs_for

MODES = ("training", "inference")


def initialised(graph: g.Graph, dtype: torch.dtype = torch.float64) -> g.BuiltGraph:
    """The module with parameters away from their initial values, its actnorms initialised."""
    net = built(graph, dtype)
    state = {key: torch.ones_like(v) if key.endswith("initialized") else v for key, v in net.state_dict().items()}
    net.load_state_dict(state)
    return net


def assert_same(net: g.BuiltGraph, fast: g.BuiltGraph, tolerance: float, dtype: torch.dtype = torch.float64) -> None:
    """Equal outputs, inputs and log-dets, relative to their size, with and without autograd."""
    graph, values = net.graph, inputs_for(net.graph, dtype=dtype)
    assert (graph.paths.data_inputs, graph.paths.data_outputs) == (
        fast.graph.paths.data_inputs,
        fast.graph.paths.data_outputs,
    )
    wanted = net(**values)
    latents = {n: z.detach() for (n, _), z in zip(graph.outputs, wanted, strict=False) if n in graph.paths.data_outputs}
    back = {**latents, **{n: values[n] for n in graph.paths.conditions}}
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            pairs = [*zip(fast(**values), wanted, strict=True)]
            pairs += zip(fast.inverse(**back), net.inverse(**back), strict=True)
        for got, expected in pairs:
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def kinds(graph: g.Graph) -> list[str]:
    return [node.kind for node in graph.nodes]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25)
@given(graph=flows())
def test_random_flows_stay_the_same_function(mode: str, graph: g.Graph) -> None:
    net = initialised(graph)
    found = graph.optimize(**{mode: True})
    assert g.Graph.from_yaml(found.graph.to_yaml()) == found.graph
    fast = net.optimize(**{mode: True}).eval()
    assert_same(net, fast, 1e-11)
    if mode == "training":
        check_restored(net, found, fast.state_dict())


def check_restored(net: g.BuiltGraph, found: Optimized, state: dict[str, Tensor]) -> None:
    """The state dict comes back: the same tensors, but for two random permutations that became one."""
    again = built(net.graph)
    again.load_state_dict(found.restore(state))
    assert_same(net, again, 1e-11)
    for key, value in net.state_dict().items():
        assert "permutation" in key or torch.equal(again.state_dict()[key], value)


def step_flow() -> g.Graph:
    """Every pass has something to do here: pair networks, fixed and drawn permutations, linear maps, a repeat."""
    x, c = g.input("x", 6), g.input("condition", 3)
    pair = (g.nets.mlp(hidden=8, depth=1, tanh_last=True), g.nets.mlp(hidden=8, depth=1))

    def step(x: g.Value, c: g.Value) -> g.Value:
        x = g.affine_coupling(g.actnorm(x), condition=c, net=pair, permutation="swap", name="pair")
        x = g.affine_coupling(g.actnorm(x, log_scale=False), net=g.nets.mlp(hidden=8), split=2)
        x = g.additive_coupling(g.actnorm(g.shuffle(g.flip(x))), net=g.nets.mlp(hidden=8), transform_first=True)
        return g.actnorm(g.invertible_linear(g.actnorm(x), parameterization="lu", bias=True))

    return g.graph(z=g.swap(g.shuffle(g.repeat(step, x, c, times=2, name="flow"))))


PASSES: dict[str, tuple[Callable[[g.Graph], Rewrite], dict[str, int]]] = {
    "unrolled": (lambda graph: Rewrite(graph), {"repeat": 0, "actnorm": 10}),
    "merge_permutations": (passes.merge_permutations, {"shuffle": 3, "flip": 0, "swap": 0}),
    "absorb_permutations": (passes.absorb_permutations, {"shuffle": 1, "flip": 0}),
    "fuse_steps": (passes.fuse_steps, {"affine_step": 2, "additive_step": 2, "actnorm": 6}),
    "compose_linear": (passes.compose_linear, {"normalized_linear": 2, "actnorm": 8}),
    "pack_pairs": (passes.pack_pairs, {"affine_coupling": 4}),
    "fold_linear": (passes.fold_linear, {"fixed_linear": 2, "actnorm": 5, "swap": 0, "shuffle": 2}),
}


@pytest.mark.parametrize("name", PASSES)
def test_each_pass_alone(name: str) -> None:
    graph = step_flow()
    apply, wanted = PASSES[name]
    rewrite = unrolled(graph).then(apply)
    assert {kind: kinds(rewrite.graph).count(kind) for kind in wanted} == wanted
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        net = initialised(graph, dtype)
        found = Optimized(rewrite.graph, rewrite.moves)
        fast = found.build(net.state_dict()).eval()
        assert all(p.dtype in (dtype, torch.int64, torch.bool) for p in fast.state_dict().values())
        assert_same(net, fast, tolerance, dtype)
        if name != "fold_linear" and dtype == torch.float64:
            check_restored(net, found, fast.state_dict())


def test_a_chain_of_steps_is_one_layer_a_step() -> None:
    x = g.input("x", 6)

    def step(x: g.Value) -> g.Value:
        return g.shuffle(g.affine_coupling(g.actnorm(x), net=g.nets.mlp(hidden=8)))

    graph = g.graph(z=g.repeat(step, x, times=4, name="flow"))
    for mode in MODES:
        assert kinds(graph.optimize(**{mode: True}).graph) == ["actnorm", *["affine_step"] * 3, "affine_coupling"]
    glow = g.graph(
        z=g.repeat(lambda x: g.affine_coupling(g.invertible_conv1x1(g.actnorm(x)), net=g.nets.mlp()), x, times=3)
    )
    assert kinds(glow.optimize(training=True).graph) == ["normalized_linear", "affine_coupling"] * 3
    assert kinds(glow.optimize(inference=True).graph) == ["fixed_linear", "affine_coupling"] * 3


def test_values_read_twice_are_left_alone() -> None:
    x = g.input("x", 4)
    a = g.affine_coupling(x, net=g.nets.mlp(hidden=4))
    b = g.actnorm(a)
    graph = g.graph(z=g.flip(b), early=g.linear(a, 2))
    assert kinds(graph.optimize(training=True).graph) == ["affine_coupling", "actnorm", "flip", "linear"]
    assert kinds(g.graph(z=b, a=a).optimize(training=True).graph) == ["affine_coupling", "actnorm"]
    for norm in (g.actnorm(a, unbiased=False), g.actnorm(g.invertible_linear(a), unbiased=False)):
        assert kinds(g.graph(z=norm).optimize(training=True).graph)[-1] == "actnorm"


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("mode", MODES)
def test_examples(name: str, mode: str) -> None:
    graph = EXAMPLES[name]()
    net = initialised(graph)
    fast = net.optimize(**{mode: True}).eval()
    fast.graph.draw()
    if graph.invertible:
        assert_same(net, fast, 1e-11)
    else:
        assert fast.graph == graph


def test_the_first_batch_initialises_as_it_does_apart() -> None:
    graph = step_flow()
    net = graph.build().double().train()
    fast = copied(net).optimize(training=True)
    assert fast.training
    values = inputs_for(graph, batch=64)
    with pytest.raises(RuntimeError, match="before the initialisation"):
        fast.inverse(z=values["x"], condition=values["condition"])
    for got, expected in zip(fast(**values), net(**values), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    norms = [m for m in fast.modules() if isinstance(m, ActNorm)]
    assert len(norms) == 10 and all(bool(m.initialized) for m in norms)
    state = graph.optimize(training=True).restore(fast.state_dict())
    for key, value in net.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-10, atol=1e-10)


def copied(net: g.BuiltGraph) -> g.BuiltGraph:
    """A module of the same weights in memory of its own."""
    again = net.graph.build().to(next(net.parameters()).dtype)
    again.load_state_dict(net.state_dict())
    return again.train(net.training)


def test_gradients_come_back_under_their_names() -> None:
    graph = step_flow()
    net = initialised(graph)
    fast = net.optimize(training=True)
    values = inputs_for(graph)
    gradients = []
    for model in (fast, net):
        z, logdet = model(**values)
        model.zero_grad()
        (z.square().sum() - logdet.sum()).backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    restored = graph.optimize(training=True).restore({**fast.state_dict(), **gradients[0]})
    assert [len(found) for found in gradients] == [len([*model.parameters()]) for model in (fast, net)]
    for key, gradient in gradients[1].items():
        torch.testing.assert_close(restored[key], gradient, rtol=1e-9, atol=1e-9)


def test_pairs_that_do_not_fit_together_stay_two_networks() -> None:
    x = g.input("x", (4, 3))
    small, large, normed = (g.nets.mlp(hidden=n, depth=1, **o) for n, o in ((8, {}), (9, {}), (8, {"norm": "weight"})))
    for pair in ((small, large), (small, normed), (small, g.nets.convnet(hidden=8, dims=1))):
        graph = g.graph(z=g.affine_coupling(x, net=pair))
        assert graph.optimize(inference=True).graph == graph
    net = initialised(g.graph(z=g.affine_coupling(x, net=(small, small), layout="shift_scale", name="one")))
    fast = net.optimize(training=True)
    assert {"one.net.weights.1", "one.net.biases.2"} <= set(fast.state_dict())
    assert fast.graph.parameters == net.graph.parameters
    assert_same(net, fast, 1e-12)


def unpaired() -> g.Graph:
    """A flow whose optimised form has the very tensors of the original."""
    graph = step_flow()
    (repeat, *rest) = graph.nodes
    assert repeat.body is not None
    single = replace(
        repeat.body,
        nodes=tuple(
            replace(n, options=g.Options({**n.options, "net": n.options["net"][0]})) if "pair" in n.name else n
            for n in repeat.body.nodes
        ),
    )
    return replace(graph, nodes=(replace(repeat, body=single), *rest))


def test_weights_that_stay_are_shared() -> None:
    net = initialised(unpaired())
    shared = {p.data_ptr() for p in net.parameters()}
    assert {p.data_ptr() for p in net.optimize(training=True).parameters()} == shared
    assert {p.data_ptr() for p in net.optimize(inference=True).parameters()} < shared


def test_narrow_weights_round_the_function_and_leave_it_exactly_invertible() -> None:
    net = initialised(step_flow(), torch.float32)
    narrow = net.optimize(inference=True, weights=torch.bfloat16)
    assert torch.bfloat16 in {p.dtype for p in narrow.parameters()}
    values = inputs_for(net.graph, dtype=torch.float32)
    condition = {name: values[name] for name in net.graph.paths.conditions}
    (data,), (output,) = net.graph.paths.data_inputs, net.graph.paths.data_outputs
    with torch.no_grad():
        z, logdet = narrow(**values)
        x, back = narrow.inverse(**{output: z}, **condition)
        wide_z, wide_logdet = deepcopy(narrow).double()(**{name: value.double() for name, value in values.items()})
        full, _ = net(**values)
    torch.testing.assert_close(x, values[data], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back, -logdet, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((z.double(), logdet.double()), (wide_z, wide_logdet), rtol=1e-4, atol=1e-4)
    assert 0 < float((z - full).norm() / full.norm()) < 0.05


def test_refusals() -> None:
    graph = step_flow()
    for both in (True, False):
        with pytest.raises(ValueError, match="training=True or inference=True"):
            graph.optimize(training=both, inference=both)
    with pytest.raises(ValueError, match="'flow.0.actnorm' is not; run one batch"):
        graph.build().optimize(inference=True)
    net = initialised(graph)
    with pytest.raises(ValueError, match="weights= is for pairs of networks at inference, got training=True"):
        net.optimize(training=True, weights=torch.bfloat16)
    with pytest.raises(ValueError, match="got a graph without them"):
        initialised(unpaired()).optimize(inference=True, weights=torch.bfloat16)
    with pytest.raises(ValueError, match="restore: .* are folded into one matrix"):
        graph.optimize(inference=True).restore(net.optimize(inference=True).state_dict())
