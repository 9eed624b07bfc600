"""Built graphs: inverse, log-det against the Jacobian, names of parameters, buffers, compilation."""

from __future__ import annotations

import copy
import doctest
import pickle

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import flowkit
from flowkit import graph as g
from flowkit.bijections import Bijection, Compose, Inverse
from flowkit.distributions import DiagonalGaussian, Flow
from flowkit.testing import check_bijection
from tests.graph.examples import EXAMPLES, flows, multiscale, translator, unet


def inputs_for(graph: g.Graph, batch: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random tensors for the inputs of a graph; unknown sizes become 8."""
    return {v.name: torch.randn(batch, *(s or 8 for s in v.shape), dtype=dtype) for v in graph.inputs}


def built(graph: g.Graph, dtype: torch.dtype = torch.float64) -> g.BuiltGraph:
    """The module in evaluation mode with parameters away from their initial values."""
    net = graph.build().to(dtype).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def check_both_ways(graph: g.Graph) -> None:
    """inverse(forward(x)) == x, the log-dets cancel, and the forward one is that of the autograd Jacobian."""
    net, given = built(graph), inputs_for(graph)
    paths = graph.paths
    data = {n: given[n] for n in paths.data_inputs}
    conditions = {n: given[n] for n in paths.conditions}
    *outputs, logdet = net(**given)
    latents = {n: z for (n, _), z in zip(graph.outputs, outputs, strict=True) if n in paths.data_outputs}
    *back, inverse_logdet = net.inverse(**latents, **conditions)
    for x, again in zip(data.values(), back, strict=True):
        torch.testing.assert_close(again, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(logdet, -inverse_logdet)

    def flat(x: Tensor) -> Tensor:
        pieces = x.split([v[0].numel() for v in data.values()])
        named = {n: p.reshape(1, *v.shape[1:]) for (n, v), p in zip(data.items(), pieces, strict=True)}
        *z, _ = net(**named, **{n: c[:1] for n, c in conditions.items()})
        return torch.cat([t.flatten() for t in z])

    jacobian = torch.autograd.functional.jacobian(flat, torch.cat([v[0].flatten() for v in data.values()]))
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, logdet[0])


@settings(max_examples=20)
@given(flows())
def test_random_flows_invert_with_the_log_det_of_their_jacobian(graph: g.Graph) -> None:
    check_both_ways(graph)


@pytest.mark.parametrize("name", ["translator", "multiscale"])
def test_example_flows_invert_with_the_log_det_of_their_jacobian(name: str) -> None:
    check_both_ways(EXAMPLES[name]())


@pytest.mark.parametrize("name", ["translator", "multiscale"])
def test_buffers_without_autograd_change_no_number_and_no_input(name: str) -> None:
    graph = EXAMPLES[name]()
    net, given = built(graph), inputs_for(graph)
    kept = {n: v.clone() for n, v in given.items()}
    expected = net(**given)
    with torch.no_grad():
        results = net(**given)
        latents = dict(zip((n for n, _ in graph.outputs), results, strict=False))
        copies = {n: z.clone() for n, z in latents.items()}
        *back, _ = net.inverse(**latents, **{n: given[n] for n in graph.paths.conditions})
    for a, b in zip(expected, results, strict=True):
        torch.testing.assert_close(a, b)
    for n, z in latents.items():
        assert torch.equal(z, copies[n])
    for n, x in zip(graph.paths.data_inputs, back, strict=True):
        assert torch.equal(given[n], kept[n])
        torch.testing.assert_close(x, kept[n], rtol=0, atol=1e-8)


def test_a_value_that_is_read_twice_is_not_overwritten() -> None:
    x = g.input("x", 4)
    a = g.actnorm(x)
    b = g.leaky_relu(g.actnorm(a), 0.5)
    first, second = g.split(b)
    second = g.additive_coupling(g.flip(second), condition=g.linear(first, 3), net=g.nets.mlp(hidden=4))
    graph = g.graph(first=g.leaky_relu(first, 0.3), second=second)
    net, given = built(graph), inputs_for(graph)
    expected = net(**given)
    with torch.no_grad():
        for got, wanted in zip(net(**given), expected, strict=True):
            torch.testing.assert_close(got, wanted)


def test_parameter_names_are_node_names() -> None:
    names = set(translator(depth=2).build().state_dict())
    assert {"embedder.main.0.weight", "flow.0.actnorm.scale", "flow.1.affine_coupling_2.net.main.0.bias"} <= names
    assert {name.split(".")[0] for name in names} == {"embedder", "flow"}
    assert {"block.conv2d.weight", "to_image.bias"} <= set(unet().build().state_dict())


def test_a_graph_of_one_input_and_output_is_a_bijection() -> None:
    net = built(translator())
    assert isinstance(net, Bijection) and net.in_place
    assert (net.channels, net.condition_channels, net.output_shape((8,))) == (8, 5, (8,))
    x, c = torch.randn(6, 8, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    z, logdet = net(x, c)
    for again in (net(x, condition=c), net(x=x, condition=c)):
        assert torch.equal(z, again[0]) and torch.equal(logdet, again[1])
    back, total = Compose(net, Inverse(net))(x, c)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-10)
    check_bijection(net, x, c)
    flow = Flow(net, DiagonalGaussian(8)).double()
    assert flow.log_prob(x, c).shape == (6,)


def test_a_condition_of_another_name_answers_to_condition_too() -> None:
    x, label = g.input("x", 4), g.input("label", 2)
    net = built(g.graph(z=g.affine_coupling(x, condition=label, net=g.nets.mlp(hidden=4))))
    v, c = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    assert torch.equal(net(v, condition=c)[0], net(x=v, label=c)[0])
    assert torch.equal(net.inverse(v, condition=c)[0], net.inverse(z=v, label=c)[0])


def test_open_spatial_sizes() -> None:
    x = g.input("x", (2, None, None))
    net = built(g.graph(z=g.unsqueeze(g.invertible_conv1x1(g.actnorm(g.squeeze(x))))))
    for size in (4, 6):
        v = torch.randn(2, 2, size, 2 * size, dtype=torch.float64)
        z, _ = net(v)
        assert net.output_shape((2, size, 2 * size)) == tuple(z.shape[1:])
        torch.testing.assert_close(net.inverse(z)[0], v)


def test_a_graph_without_invertible_path_returns_outputs_alone() -> None:
    graph = unet()
    out, mean = built(graph)(**inputs_for(graph))
    assert out.shape == (3, 3, 16, 16) and mean.shape == (3, 6)
    x = g.input("x", 3)
    assert isinstance(built(g.graph(y=g.linear(x, 2)))(torch.randn(2, 3, dtype=torch.float64)), Tensor)


def test_an_output_of_the_conditions_alone_leaves_the_inverse() -> None:
    x, c = g.input("x", 4), g.input("c", 3)
    e = g.linear(c, 2)
    graph = g.graph(z=g.affine_coupling(x, condition=e, net=g.nets.mlp(hidden=4)), embedding=e)
    net, given = built(graph), inputs_for(graph)
    z, embedding, logdet = net(**given)
    assert embedding.shape == (3, 2) and logdet.shape == (3,)
    torch.testing.assert_close(net.inverse(z=z, c=given["c"])[0], given["x"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_copies_and_pickles_compute_the_same(name: str) -> None:
    graph = EXAMPLES[name]()
    net, given = built(graph), inputs_for(graph)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for a, b in zip(net(**given), twin(**given), strict=True):
            assert torch.equal(a, b)


def test_compile_without_graph_breaks() -> None:
    graph = translator()
    net = built(graph, torch.float32)
    given = inputs_for(graph, dtype=torch.float32)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(**given), net(**given), strict=True):
        torch.testing.assert_close(a, b)


def test_export_takes_arguments_by_name() -> None:
    graph = translator()
    net, given = built(graph, torch.float32), inputs_for(graph, dtype=torch.float32)
    exported = torch.export.export(net, (), given).module()
    torch.testing.assert_close(exported(**given)[0], net(**given)[0])


def test_the_documentation_runs() -> None:
    result = doctest.testmod(g)
    assert result.attempted > 5 and result.failed == 0


def test_gradients_reach_every_parameter() -> None:
    for make in EXAMPLES.values():
        graph = make()
        net = built(graph)
        torch.stack([t.square().sum() for t in net(**inputs_for(graph))]).sum().backward()
        assert all(p.grad is not None for p in net.parameters())


def test_multiscale_names() -> None:
    assert multiscale().paths.data_inputs == ("image", "vector")
    assert multiscale().paths.data_outputs == ("early", "late")


def test_input_shape_undoes_output_shape() -> None:
    net = g.graph(z=g.squeeze(g.squeeze(g.input("x", (1, None, None))))).build()
    assert net.output_shape((1, 8, 12)) == (16, 2, 3)
    assert net.input_shape((16, 2, 3)) == (1, 8, 12)
    with pytest.raises(ValueError, match="shape"):
        net.input_shape((4, 2, 3))


@pytest.mark.parametrize("reversibly", [False, True])
def test_a_condition_of_batch_one_holds_for_all_samples_and_is_embedded_once(reversibly: bool) -> None:
    net = translator().build()
    x, known = torch.randn(5, 8), torch.randn(1, 5)
    net.train()(x, known.expand(5, -1))
    expected = net(x, known.expand(5, -1))
    batches: list[int] = []
    net.get_submodule("embedder").register_forward_hook(lambda _, given, __: batches.append(len(given[0])))
    with torch.no_grad():
        torch.testing.assert_close(net(x=x, condition=known), expected)
        torch.testing.assert_close(net.inverse(expected[0], known)[0], x, atol=1e-5, rtol=1e-5)
    assert batches == [1, 1]
    if reversibly:
        flowkit.reversible(net)  # type: ignore[arg-type]
    z, logdet = net(x, known)
    torch.testing.assert_close(z, expected[0])
    (z.square().sum() - logdet.sum()).backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    plain = translator().build()
    plain.load_state_dict(net.state_dict())
    z, logdet = plain(x, known.expand(5, -1))
    (z.square().sum() - logdet.sum()).backward()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="condition: expected a batch of 1, like x's, got 5"):
        net(x[:1], known.expand(5, -1))


def test_an_output_of_a_condition_of_batch_one_has_the_batch_of_the_data() -> None:
    x, c = g.input("x", 4), g.input("condition", 3)
    e = g.linear(c, 2, name="embed")
    net = g.graph(z=g.affine_coupling(x, condition=e, net=g.nets.mlp(hidden=4)), embedding=e).build()
    v, known = torch.randn(5, 4), torch.randn(1, 3)
    for found, expected in zip(net(v, known), net(v, known.expand(5, -1)), strict=True):
        torch.testing.assert_close(found, expected)
