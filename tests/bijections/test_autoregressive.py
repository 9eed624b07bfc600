"""Masked autoregressive transforms: what the masks let through, the order, and what an inverse costs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowkit import graph as g
from flowkit import nets, ops
from flowkit.bijections import Compose, Inverse, MaskedAutoregressive

ORDERS = {
    "in sequence": None,
    "reverse": "reverse",
    "any": (2, 0, 3, 1, 4),
    "coupling": (0, 0, 1, 0, 1),
    "none": (0,) * 5,
}
NETS = {
    "mlp": {"depth": 1},
    "deep": {"hidden": (7, 19, 33), "activation": "silu"},
    "linear": {"hidden": ()},
    "activated": {"depth": 2, "residual": "activated", "activation": "elu"},
    "linear blocks": {"depth": 2, "residual": "linear", "activation": "softplus"},
    "relu": {"depth": 0, "activation": "relu"},
    "leaky": {"activation": "leaky_relu"},
}
every_net = pytest.mark.parametrize("net", NETS)
every_order = pytest.mark.parametrize("order", ORDERS)


def made(name: str) -> Any:
    return nets.made(**{"hidden": 12, "activation": "tanh"} | NETS[name])


def layer(net: str = "mlp", order: str = "in sequence", condition: int = 0, **options: Any) -> MaskedAutoregressive:
    built = MaskedAutoregressive(5, made(net), order=ORDERS[order], condition=condition, **options).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return built


@every_net
@every_order
@pytest.mark.parametrize("condition", [0, 2])
def test_a_channel_sees_exactly_the_channels_before_it_and_the_condition(net: str, order: str, condition: int) -> None:
    network = layer(net, order, condition).net
    x = torch.randn(5 + condition, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v[None])[0], x)
    rank = torch.tensor(network.order)
    before = (rank[:, None] > rank).repeat_interleave(2, 0)
    seen = jacobian != 0
    assert not seen[:, :5][~before].any()
    if not NETS[net].get("activation", "tanh").endswith("relu"):  # which may be dead on one side
        assert torch.equal(seen[:, :5], before) and seen[:, 5:].all()


def test_whatever_the_degrees_nothing_is_seen_that_must_not_be() -> None:
    for net in NETS:
        network = layer(net).net
        degrees = torch.randint(-3, 9, network.degrees.shape)
        network.load_state_dict({**network.state_dict(), "degrees": degrees})
        jacobian = torch.autograd.functional.jacobian(lambda v, n=network: n(v[None])[0], torch.randn(5).double())
        assert not jacobian.unflatten(0, (5, 2)).amax(1).triu().any() and jacobian.abs().isfinite().all()


def count_calls(net: nn.Module) -> list[int]:
    """A list whose only entry counts the passes through ``net`` from now on (a hook would forbid the fused inverse)."""
    calls, forward = [0], net.forward

    def counted(*args: Any) -> Any:
        calls[0] += 1
        return forward(*args)

    net.forward = counted  # type: ignore[method-assign]
    return calls


@every_net
@every_order
@pytest.mark.parametrize("condition", [0, 2])
@pytest.mark.parametrize("batch", [1, 8, 70])
def test_the_fused_inverse_is_the_loop_without_a_pass(net: str, order: str, condition: int, batch: int) -> None:
    flow = layer(net, order, condition, clamp="atan")
    calls = count_calls(flow.net)
    y = torch.randn(batch, 5, dtype=torch.float64)
    given = torch.randn(batch, condition, dtype=torch.float64) if condition else None
    with torch.no_grad():
        fused = flow.inverse(y, given)
        assert calls[0] == 0 or not ops.has_made_inverse(y, "tanh", 3)
    calls[0] = 0
    looped = flow.inverse(y, given)  # the parameters record gradients
    assert calls[0] == flow.levels
    for a, b in zip(fused, looped, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_splines_with_tails_of_their_own_take_the_loop() -> None:
    options = {
        "tails": ("circular", "identity", "identity", "circular", "identity"),
        "bound": (3.0, 1.0, 1.0, 3.0, 2.0),
    }
    flow = layer(transform="rational_quadratic", bins=3, **options)
    x = torch.rand(6, 5, dtype=torch.float64) - 0.5
    with torch.no_grad():
        y, logdet = flow(x)
        torch.testing.assert_close(flow.inverse(y), (x, -logdet))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 1e-1), (torch.float16, 2e-2)])
def test_narrow_types(dtype: torch.dtype, tolerance: float) -> None:
    flow = layer("activated", clamp="tanh", bound=0.5).to(dtype)
    with torch.no_grad():
        y, logdet = flow(torch.randn(40, 5).to(dtype))
        x, inverse_logdet = flow.inverse(y)
        wide, wide_logdet = flow.double().inverse(y.double())
    assert x.dtype == dtype and inverse_logdet.dtype == torch.float32
    torch.testing.assert_close(x.double(), wide, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(inverse_logdet.double(), wide_logdet, rtol=tolerance, atol=tolerance)


def test_gradients_of_the_inverse_to_any_order() -> None:
    flow = layer("mlp", condition=2)
    y, condition = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (5, 2))
    assert torch.autograd.gradcheck(flow.inverse, (y, condition))
    assert torch.autograd.gradgradcheck(flow.inverse, (y, condition))


def test_a_bad_sample_leaves_the_others_alone() -> None:
    flow = layer("activated")
    y = torch.randn(20, 5, dtype=torch.float64)
    bad = y.clone()
    bad[3, 0], bad[7, 2], bad[11, 1] = float("inf"), float("nan"), 1e300
    good = [i for i in range(20) if i not in (3, 7, 11)]
    with torch.no_grad():
        for a, b in zip(flow.inverse(y), flow.inverse(bad), strict=True):
            torch.testing.assert_close(a[good], b[good], rtol=0, atol=0)


def test_state_dicts_bring_their_degrees_and_no_masks() -> None:
    flow = layer("mlp")
    assert not [key for key in flow.state_dict() if "mask" in key]
    other = MaskedAutoregressive(5, made("mlp")).double()
    state = flow.state_dict()
    state["net.degrees"] = state["net.degrees"].flip(0)
    flow.load_state_dict(state)
    other.load_state_dict(state)
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(flow(x), other(x), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(other.inverse(other(x)[0])[0], x)


def test_networks_of_ones_own() -> None:
    class Cumulative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            before = x.cumsum(1) - x
            return torch.stack([torch.sin(before), before], 2).flatten(1, 2)

    flow = MaskedAutoregressive(3, lambda a, b, order: Cumulative())
    x = torch.randn(4, 3, dtype=torch.float64)
    y, logdet = flow(x)
    back, inverse_logdet = flow.inverse(y)
    torch.testing.assert_close((back, inverse_logdet), (x, -logdet))


def test_compiled_inverse() -> None:
    flow = Inverse(layer("mlp", condition=1))
    x, condition = torch.randn(9, 5).double(), torch.randn(9, 1).double()
    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, condition), flow(x, condition))


def test_in_graphs() -> None:
    x = g.input("x", 4)
    options = {"net": g.nets.made(hidden=8, depth=1), "order": [3, 1, 0, 2], "clamp": "softplus", "bound": 1e-3}
    graph = g.graph(
        z=g.masked_autoregressive(g.masked_autoregressive(x, order="reverse", net=g.nets.made()), **options)
    )
    built = g.Graph.from_yaml(graph.to_yaml()).build()
    value = torch.randn(3, 4)
    z, logdet = built(value)
    torch.testing.assert_close(built.inverse(z)[0], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"order": (0, 2, 3, 4, 5)}, "without a gap"),
        ({"order": (0, 1)}, "5 ranks"),
        ({"order": "sideways"}, "'reverse'"),
        ({"transform": "cubic"}, "transform: expected one of affine"),
        ({"clamp": "soft"}, "clamp: expected one of"),
        ({"layout": "scale_shift"}, "interleaved"),
        ({"net": nets.mlp(hidden=4)}, "takes no order"),
        ({"net": nn.Linear(5, 10)}, "factory"),
        ({"channels": 0}, "an integer >= 1"),
        ({"net": nets.made(hidden=(4, 5), residual="linear")}, "one width"),
        ({"net": lambda a, b, order: None}, "returns a NoneType"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedAutoregressive(**{"channels": 5, "net": nets.made(hidden=4), **options})


def test_networks_that_give_too_little() -> None:
    flow = MaskedAutoregressive(5, lambda a, b, order: nn.Linear(a, b - 1))
    with pytest.raises(ValueError, match="an output of 10 channels"):
        flow(torch.randn(2, 5))
    with pytest.raises(ValueError, match="condition"):
        layer(condition=2)(torch.randn(2, 5).double())


@pytest.mark.skipif(
    not ops.has_made_inverse(torch.zeros(1), "tanh", 3), reason="the fused inverse is a compiled kernel"
)
def test_the_kernel_checks_what_it_reads() -> None:
    network = layer("activated").net.network(None)
    y = torch.randn(3, 5, dtype=torch.float64)
    wrong = [
        network._replace(weights=network.weights[:-1], biases=network.biases[:-1]),
        network._replace(weights=[w[:-1] for w in network.weights]),
        network._replace(biases=[b[None].expand(2, -1) for b in network.biases]),
        network._replace(units=network.units.flip(0)),
        network._replace(units=network.units[:-1]),
        network._replace(units=torch.cat([network.units, network.units[:1]])),
        network._replace(counts=network.counts + 1),
        network._replace(counts=network.counts.flip(1)),
        network._replace(counts=network.counts - 1),
        network._replace(units=network.units.int()),
    ]
    for bad in wrong:
        with pytest.raises(ValueError, match="made_affine_inverse"):
            ops.made_affine_inverse(y, bad)


def test_a_chain_without_gradients() -> None:
    chain = Compose(layer(order="any"), Inverse(layer(order="reverse")), layer("linear blocks"))
    x = torch.randn(6, 5, dtype=torch.float64)
    with torch.no_grad():
        y, logdet = chain(x)
        back, inverse_logdet = chain.inverse(y)
    torch.testing.assert_close((back, inverse_logdet), (x, -logdet))


def test_a_network_that_overrides_made_is_inverted_by_its_own_forward() -> None:
    class Damped(nets.MADE):
        def main(self, x: Tensor) -> Tensor:
            return 0.1 * super().main(x)

    layer = MaskedAutoregressive(4, lambda *channels, order: Damped(*channels, hidden=8, order=order))
    x = torch.randn(3, 4)
    with torch.no_grad():
        y, logdet = layer(x)
        back, inverse_logdet = layer.inverse(y)
    torch.testing.assert_close(back, x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(inverse_logdet, -logdet, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [0, 1])
def test_the_fused_inverse_takes_small_batches_of_images(batch: int) -> None:
    layer = MaskedAutoregressive(4, nets.made(hidden=8))
    with torch.no_grad():
        x, logdet = layer.inverse(torch.zeros(batch, 4, 2, 3))
    assert x.shape == (batch, 4, 2, 3) and logdet.shape == (batch,)


@pytest.mark.parametrize(
    "options",
    [{"clamp": "sigmoid", "bound": -0.5}, {"clamp": "softclip", "bound": 0.0}, {"clamp": "tanh", "factor": 2.0}],
)
def test_options_out_of_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="MaskedAutoregressive: (bound|factor): expected"):
        MaskedAutoregressive(4, nets.made(hidden=8), **options)
