"""Training in constant memory: the gradients of plain autograd, the memory of one layer, and everything around them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flowkit
from flowkit import graph as g
from flowkit import nets
from flowkit.bench.memory import PeakMemory, saved_bytes
from flowkit.bijections import ActNorm, AffineCoupling, Bijection, Compose, Inverse, InvertibleLinear, Shuffle
from tests.bijections.cases import Case
from tests.bijections.test_contract import every_layer, inputs, randomised
from tests.graph.examples import multiscale, translator

MLP = nets.mlp(hidden=8, depth=0, activation="tanh")


def light_steps(depth: int) -> Compose:
    net = nets.mlp(hidden=32, depth=1)
    return Compose(*[v for _ in range(depth) for v in (ActNorm(16), AffineCoupling(16, net), Shuffle(16))])


def steps(depth: int, channels: int = 4, condition: int = 0) -> Compose:
    return Compose(
        *[
            Compose(
                ActNorm(channels),
                InvertibleLinear(channels, parameterization="lu"),
                AffineCoupling(channels, MLP, condition=condition, permutation="swap"),
                Shuffle(channels),
            )
            for _ in range(depth)
        ]
    )


def gradients(
    layer: Any, x: Tensor, condition: Tensor | None, inverse: bool = False
) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    """Both results, and the gradients of x, the condition and every parameter, of a loss that uses all of both."""
    x = x.detach().clone().requires_grad_()
    condition = None if condition is None else condition.detach().clone().requires_grad_()
    sources = {"x": x, **dict(layer.named_parameters())} | ({} if condition is None else {"condition": condition})
    y, logdet = (layer.inverse if inverse else layer)(x, condition)
    loss = (y.square() * torch.linspace(0.5, 1, y.shape[1]).reshape(-1, *[1] * (y.ndim - 2))).sum()
    loss = loss + (logdet * torch.arange(1, len(logdet) + 1)).sum()
    found = torch.autograd.grad(loss, list(sources.values()))
    return (y.detach(), logdet.detach()), dict(zip(sources, found, strict=True))


def assert_same_gradients(
    plain: Any, switched: Any, x: Tensor, condition: Tensor | None, inverse: bool = False, tolerance: float = 1e-9
) -> None:
    expected, results = gradients(plain, x, condition, inverse), gradients(switched, x, condition, inverse)
    torch.testing.assert_close(results, expected, atol=tolerance, rtol=tolerance)


@every_layer
def test_gradients_are_those_of_plain_autograd(case: Case) -> None:
    torch.set_default_dtype(torch.float64)
    plain = Compose(randomised(case), Compose(Inverse(randomised(case))), randomised(case))
    switched = flowkit.reversible(copy.deepcopy(plain))
    x, condition = inputs(case, case.shapes[-1])
    before = x.clone()
    assert_same_gradients(plain, switched, x, condition)
    assert_same_gradients(plain, switched, plain(x, condition)[0], condition, inverse=True)
    assert torch.equal(x, before)


@every_layer
def test_one_layer_alone(case: Case) -> None:
    torch.set_default_dtype(torch.float64)
    plain = randomised(case)
    x, condition = inputs(case, case.shapes[0])
    assert_same_gradients(plain, flowkit.reversible(copy.deepcopy(plain)), x, condition)


def glow_graph(leave: bool = False) -> g.Graph:
    """Squeezes, splits and joins channels; conditions come through an embedder; with ``leave``, from the data too."""
    x, c = g.input("image", (2, 4, 4)), g.input("c", 3)
    e = g.mlp(c, out=2, hidden=[4], name="embedder")

    def step(v: g.Value, e: g.Value) -> g.Value:
        v = g.invertible_conv1x1(g.actnorm(v), parameterization="lu")
        return g.affine_coupling(v, condition=e, net=g.nets.convnet(hidden=4), permutation="swap")

    kept, leaving = g.split(g.repeat(step, g.squeeze(x), e, times=2, name="fine"))
    if leave:
        context = g.conv2d(kept, 2, name="look")
        leaving = g.affine_coupling(leaving, condition=context, net=g.nets.convnet(hidden=4), name="outer")
    kept = g.unsqueeze(g.repeat(step, g.squeeze(kept), e, times=2, name="coarse"))
    return g.graph(z=g.flatten(g.concat(kept, leaving)))


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("graph", [translator(), glow_graph(), glow_graph(leave=True)], ids=["flow", "glow", "crossed"])
def test_graphs(graph: g.Graph, inverse: bool) -> None:
    torch.set_default_dtype(torch.float64)
    plain = graph.build()
    x, condition = (torch.randn(3, *value.shape) for value in graph.inputs)
    y, _ = plain(x, condition)  # initialises
    switched = flowkit.reversible(copy.deepcopy(plain))
    assert_same_gradients(plain, switched, y if inverse else x, condition, inverse)
    names = [*graph.output_shapes] if inverse else ["image" if "image" in graph.input_shapes else "x"]
    direction = switched.inverse if inverse else switched
    named = direction(**{names[0]: y if inverse else x}, condition=condition)
    assert named[0].grad_fn.name() == "_WalkBackward"
    assert list(switched.state_dict()) == list(plain.state_dict())


def test_a_graph_is_built_and_others_are_refused() -> None:
    assert isinstance(flowkit.reversible(translator()), g.GraphBijection)
    with pytest.raises(ValueError, match="expected a Bijection, or a graph with one data input.*got BuiltGraph"):
        flowkit.reversible(multiscale())
    with pytest.raises(ValueError, match="pass flow.bijection"):
        flow: Any = flowkit.Flow(Shuffle(4), flowkit.distributions.DiagonalGaussian(4))
        flowkit.reversible(flow)
    with pytest.raises(ValueError, match="check_drift: expected a positive number or None, got 0"):
        flowkit.reversible(Shuffle(4), check_drift=0)


def activation_peak(flow: Bijection, x: Tensor) -> int:
    """Bytes alive at the peak of a training step, without parameters and their gradients."""
    flow(x)  # initialises
    with PeakMemory(known=[*flow.parameters(), *flow.buffers()]) as memory:
        y, logdet = flow(x)
        (y.square().mean() - logdet.mean()).backward()
    return memory.peak - sum(p.numel() * p.element_size() for p in flow.parameters())


def test_memory_does_not_grow_with_depth() -> None:
    x = torch.randn(512, 16)
    shallow, deep = (activation_peak(flowkit.reversible(light_steps(n)), x) for n in (4, 64))
    plain = activation_peak(light_steps(8), x)
    assert deep <= 1.1 * shallow and deep < plain / 2, (shallow, deep, plain)
    saved: list[int] = []
    for depth in (4, 64):
        flow = flowkit.reversible(light_steps(depth))
        flow(x)
        with saved_bytes(saved):
            flow(x)
        saved[-1] -= sum(p.numel() * p.element_size() for p in flow.parameters())
    assert saved == [x.numel() * x.element_size()] * 2  # the output alone


def test_multiscale_memory_does_not_grow_with_depth() -> None:
    def flow(depth: int) -> Any:
        x = g.input("x", (2, 16, 16))

        def step(v: g.Value) -> g.Value:
            return g.affine_coupling(g.actnorm(v), net=g.nets.convnet(hidden=8), permutation="swap")

        kept, leaving = g.split(g.repeat(step, g.squeeze(x), times=depth, name="fine"))
        kept = g.unsqueeze(g.repeat(step, g.squeeze(kept), times=depth, name="coarse"))
        return flowkit.reversible(g.graph(z=g.concat(kept, leaving)))

    shallow, deep = (activation_peak(flow(depth), torch.randn(16, 2, 16, 16)) for depth in (2, 8))
    assert deep <= 1.1 * shallow


def test_neither_the_input_nor_the_output_is_written_to() -> None:
    flow = flowkit.reversible(steps(3))
    x = torch.randn(5, 4)
    flow(x)
    y, logdet = flow(x)
    before = x.clone(), y.detach().clone()
    for retain in (True, False):  # twice: a walk leaves everything as it was
        flow.zero_grad()
        (y.sum() + logdet.sum()).backward(retain_graph=retain)
        grads = [p.grad.clone() for p in flow.parameters()]
        assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    flow.zero_grad()
    z, logdet = flow(x)
    (z.sum() + logdet.sum()).backward()
    torch.testing.assert_close([p.grad for p in flow.parameters()], grads, rtol=0, atol=0)


@pytest.mark.parametrize("what", ["output", "parameter"])
def test_changes_between_forward_and_backward_are_noticed(what: str) -> None:
    flow = flowkit.reversible(steps(2))
    y, _ = flow(torch.randn(5, 4))
    with torch.no_grad():
        (y.detach() if what == "output" else next(flow.parameters())).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_it_initialises_pickles_copies_and_keeps_its_keys() -> None:
    torch.set_default_dtype(torch.float64)
    flow = flowkit.reversible(steps(2, condition=3))
    x, c = torch.randn(16, 4), torch.randn(16, 3)
    flow(x, c)
    assert all(bool(layer.initialized) for layer in flow.modules() if isinstance(layer, ActNorm))
    plain = steps(2, condition=3)
    plain.load_state_dict(flow.state_dict())
    for other in (flow, copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert other(x, c)[0].grad_fn.name() == "_WalkBackward"
        assert_same_gradients(plain, other, x, c)
        torch.testing.assert_close(other.inverse(other(x, c)[0], c)[0], x)
    with torch.no_grad():
        assert flow(x, c)[0].grad_fn is None
    assert flow.requires_grad_(False)(x, c)[0].grad_fn is None
    nested = Compose(Shuffle(4), flow.requires_grad_(True))
    assert_same_gradients(Compose(nested[0], plain), flowkit.reversible(nested), x, c)


def test_gradient_hooks_run_once_and_accumulate() -> None:
    torch.set_default_dtype(torch.float64)
    plain = steps(2)
    x = torch.randn(8, 4)
    plain(x)
    switched = flowkit.reversible(copy.deepcopy(plain))
    for flow in (plain, switched):
        for parameter in flow.parameters():
            parameter.register_hook(lambda grad: 2 * grad)
        for _ in range(2):
            sum(v.square().sum() for v in flow(x)).backward()
    for a, b in zip(plain.parameters(), switched.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_other_parameters_for_one_call() -> None:
    torch.set_default_dtype(torch.float64)
    plain = steps(2).eval()
    switched = flowkit.reversible(copy.deepcopy(plain))
    x, given = torch.randn(8, 4), {n: torch.randn_like(p) / 4 for n, p in plain.named_parameters()}
    results = []
    for flow in (plain, switched):
        scale = torch.tensor(0.5, requires_grad=True)
        y, logdet = torch.func.functional_call(flow, {n: p * scale for n, p in given.items()}, (x,))
        results.append((y, *torch.autograd.grad(y.square().sum() + logdet.sum(), scale)))
    torch.testing.assert_close(results[0], results[1])


def test_autocast_of_the_forward_holds_in_the_backward() -> None:
    plain = steps(3, 8)
    x = torch.randn(16, 8)
    plain(x)
    switched = flowkit.reversible(copy.deepcopy(plain))
    results = []
    for flow in (plain, switched):
        with torch.autocast("cpu", torch.bfloat16):
            y, logdet = flow(x)
        loss = y.square().mean() - logdet.mean()
        results.append((y, logdet, *torch.autograd.grad(loss, list(flow.parameters()))))
    assert switched(x)[0].dtype == torch.float32
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):  # the weights cast in the walk must not be those of later calls
        switched(x)
        inner = switched[0][2]
        out, _ = inner(x)
    assert all(g is not None for g in torch.autograd.grad(out.sum(), list(inner.parameters())))


def test_compile_breaks_the_graph_and_gives_the_same() -> None:
    torch.set_default_dtype(torch.float64)
    plain = steps(2)
    x = torch.randn(8, 4)
    plain(x)
    switched = flowkit.reversible(copy.deepcopy(plain))
    for layer in switched.modules():
        if isinstance(layer, AffineCoupling):
            layer.net.compile(backend="aot_eager")  # a compiled conditioner inside
    compiled = torch.compile(switched, backend="aot_eager")
    results = []
    for flow in (plain, compiled):
        y, logdet = flow(x)
        results.append((y, *torch.autograd.grad(y.square().sum() + logdet.sum(), list(flow.parameters()))))
    assert results[1][0].grad_fn.name() == "_WalkBackward"
    torch.testing.assert_close(results[0], results[1])
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(switched, backend="aot_eager", fullgraph=True)(x), plain(x))
    exported = torch.export.export(switched, (x,)).module()
    torch.testing.assert_close(exported(x), plain(x))


def test_a_second_derivative_is_refused() -> None:
    flow = flowkit.reversible(steps(1))
    x = torch.randn(4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(flow(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_transforms_of_torch_func_see_the_plain_module() -> None:
    torch.set_default_dtype(torch.float64)
    plain = steps(2).eval()
    x = torch.randn(4)
    jacobians = [torch.func.jacrev(lambda v, f=f: f(v[None])[0][0])(x) for f in (plain, flowkit.reversible(plain))]
    torch.testing.assert_close(*jacobians)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(8)])
def test_what_would_differ_the_second_time_is_refused(layer: nn.Module) -> None:
    flow = flowkit.reversible(
        Compose(AffineCoupling(4, lambda a, b: nn.Sequential(nn.Linear(a, 8), layer, nn.Linear(8, b))))
    )
    with pytest.raises(ValueError, match=r"'0.net.1', (Dropout|BatchNorm1d)"):
        flow(torch.randn(4, 4))
    flow.eval()(torch.randn(4, 4))[0].sum().backward()


class Rounded(Bijection):
    """Not invertible: it forgets all digits but one after the point."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + (x.detach().round(decimals=1) - x.detach()), x.new_zeros(len(x))

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y, y.new_zeros(len(y))


def test_the_drift_guard_measures_and_fires_at_the_layer_that_is_not_invertible() -> None:
    x = torch.randn(32, 4)
    flow = flowkit.reversible(Compose(body=steps(4)), check_drift=1e-3)
    sum(v.sum() for v in flow(x)).backward()
    assert 0 < flow.reversal.drift < 1e-4
    for inverse in (False, True):
        planted = flowkit.reversible(Compose(*steps(2), lossy=Rounded(), last=steps(1)), check_drift=1e-3).eval()
        if inverse:
            planted = flowkit.reversible(Inverse(planted), check_drift=1e-3)
        y, _ = (planted.inverse if inverse else planted)(x)
        with pytest.raises(RuntimeError, match=r"'(bijection\.)?lossy' \(Rounded\).*differs by 0.0\d+.*check_drift"):
            y.sum().backward()
    graph = flowkit.reversible(glow_graph(), check_drift=1e-3)
    y, logdet = graph(torch.randn(8, 2, 4, 4), torch.randn(8, 3))
    (y.sum() + logdet.sum()).backward()
    assert 0 < graph.reversal.drift < 1e-3


def _train_on_a_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", world_size=2, rank=rank)
    torch.set_num_threads(1)
    flow, batches = _training()
    parallel = nn.parallel.DistributedDataParallel(flow)
    (-parallel(batches[rank]).mean()).backward()
    if rank == 0:
        torch.save([p.grad for p in flow.parameters()], f"{folder}/gradients")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _training() -> tuple[flowkit.Flow, Tensor]:
    torch.manual_seed(0)
    flow = flowkit.Flow(flowkit.reversible(steps(2)), flowkit.distributions.DiagonalGaussian(4))
    return flow.eval(), torch.randn(2, 8, 4)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_train_on_a_rank, (str(tmp_path),), nprocs=2, start_method="spawn")
    flow, batches = _training()
    (-flow(batches.flatten(0, 1)).mean()).backward()
    torch.testing.assert_close(torch.load(tmp_path / "gradients"), [p.grad for p in flow.parameters()])
