"""Node kinds: a user's own by one decorator, and the shapes of the built-in ones against what they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from flowkit import graph as g
from flowkit.bijections import Bijection
from flowkit.graph.registry import KINDS


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Kinds registered in a test end with it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


class ConditionalShift(Bijection):
    """x + scale * A(condition)."""

    def __init__(self, channels: int, condition: int, scale: float = 1.0, sign: Literal["+", "-"] = "+") -> None:
        super().__init__()
        self.channels, self.condition_channels = channels, condition
        self.scale = scale if sign == "+" else -scale
        self.shift = nn.Linear(condition, channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.scale * self.shift(condition), x.new_zeros(len(x))

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y - self.scale * self.shift(condition), y.new_zeros(len(y))


class Gate(nn.Module):
    """Two values in, two out; sizes from the incoming shapes."""

    def __init__(self, in_channels: int, widths: Sequence[int] = (4,), table: Tensor | None = None) -> None:
        super().__init__()
        sizes = [in_channels, *widths, in_channels]
        self.net = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)))
        self.register_buffer("table", table)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.net(x).sigmoid()
        return gate * y, gate.mean(1, keepdim=True)


def test_a_bijection_becomes_a_kind() -> None:
    g.register("conditional_shift")(ConditionalShift)
    x, c = g.input("x", 4), g.input("c", 3)
    graph = g.graph(z=g.repeat(lambda x, c: g.conditional_shift(x, condition=c, scale=2), x, c, times=2, name="flow"))
    assert g.Graph.from_yaml(graph.to_yaml()) == graph
    assert "scale: 2.0" in graph.to_yaml()
    assert "conditional_shift" in str(graph) and "conditional_shift" in graph.draw()
    assert "conditional_shift" in dir(g) and "x + scale" in (g.conditional_shift.__doc__ or "")
    net = graph.build()
    assert "flow.1.conditional_shift.shift.weight" in net.state_dict()
    v, k = torch.randn(5, 4), torch.randn(5, 3)
    z, logdet = net(x=v, c=k)
    assert torch.equal(logdet, torch.zeros(5))
    torch.testing.assert_close(net.inverse(z=z, c=k)[0], v)
    with pytest.raises(ValueError, match="conditional_shift.*condition: expected a value, got none"):
        g.conditional_shift(x)
    with pytest.raises(ValueError, match="option 'sign': expected '\\+' | '-', got '\\*'"):
        g.conditional_shift(x, condition=c, sign="*")


def test_a_module_becomes_a_kind() -> None:
    g.register("gate")(Gate)
    x, y = g.input("x", 3), g.input("y", 3)
    gated, mean = g.gate(x, y, widths=[5, 6], table=torch.tensor([[1, 2], [3, 4]]))
    assert (gated.shape, mean.shape) == ((3,), (1,))
    graph = g.graph(gated=gated, mean=mean)
    again = g.Graph.from_yaml(graph.to_yaml())
    assert again == graph
    net = again.build()
    assert torch.equal(net.get_buffer("gate.table"), torch.tensor([[1, 2], [3, 4]]))
    assert [t.shape for t in net(x=torch.randn(2, 3), y=torch.randn(2, 3))] == [(2, 3), (2, 1)]
    assert graph.parameters == sum(p.numel() for p in net.parameters())


def test_torch_modules_and_functions_become_kinds() -> None:
    g.register("prelu")(nn.PReLU)

    @g.register("shrink")
    def shrink(limit: float = 0.5) -> nn.Module:
        """Soft shrinkage."""
        return nn.Softshrink(limit)

    x = g.input("x", (3, 5, None))
    assert g.shrink(g.prelu(x, num_parameters=3), 0.2).shape == (3, 5, None)


def test_register_refuses_what_cannot_be_stated() -> None:
    class Loose(nn.Module):
        def __init__(self, *sizes: int) -> None:
            super().__init__()

    with pytest.raises(ValueError, match="name every parameter"):
        g.register("loose")(Loose)
    with pytest.raises(ValueError, match="'actnorm' is already .*ActNorm"):
        g.register("actnorm")(Gate)
    with pytest.raises(ValueError, match="expected a name"):
        g.register("my kind")
    with pytest.raises(ValueError, match="expected a module class"):
        g.register("function")(lambda: nn.ReLU())


def test_a_class_may_be_registered_again() -> None:
    g.register("gate")(Gate)
    assert g.register("gate")(Gate) is Gate


IMAGE = ("image", (4, 8, 8))
BUILT_IN: dict[str, tuple[Any, Callable[[g.Value], Any]]] = {
    "mlp": (("v", 4), lambda x: g.mlp(x, 3, hidden=[5, 6])),
    "network": (IMAGE, lambda x: g.network(x, g.nets.convnet(hidden=4), 3)),
    "conv strided": (IMAGE, lambda x: g.conv2d(x, 6, kernel=3, stride=2)),
    "conv kernel": (IMAGE, lambda x: g.conv2d(x, 6, kernel=[4, 2], padding="valid", dilation=2, groups=2)),
    "conv 1d": (("signal", (2, 9)), lambda x: g.conv(x, 3, kernel=5, padding_mode="circular")),
    "conv 3d": (("volume", (2, 4, 4, 4)), lambda x: g.conv(x, 3)),
    "conv_transpose": (IMAGE, lambda x: g.conv_transpose(x, 2)),
    "norm batch": (IMAGE, g.norm),
    "norm instance": (IMAGE, lambda x: g.norm(x, "instance")),
    "norm group": (IMAGE, lambda x: g.norm(x, "group", 2)),
    "norm layer": (("v", 4), lambda x: g.norm(x, "layer", affine=False)),
    "activation": (IMAGE, lambda x: g.activation(g.activation(x, "leaky_relu", 0.2), "softmax")),
    "upsample": (IMAGE, lambda x: g.upsample(g.upsample(x, mode="linear"), 3)),
    "pool": (IMAGE, lambda x: g.pool(g.pool(x, "max", 3, stride=1, padding=1))),
    "global_pool": (IMAGE, lambda x: g.global_pool(x, "max")),
    "flatten": (IMAGE, g.flatten),
    "reshape": (IMAGE, lambda x: g.reshape(x, [16, 4, 4])),
    "chunk": (IMAGE, lambda x: g.chunk(x, 4)[2]),
    "haar": (IMAGE, g.haar),
    "squeeze": (IMAGE, lambda x: g.unsqueeze(g.squeeze(x, order="space"), order="space")),
    "product": (IMAGE, lambda x: x * g.broadcast(g.global_pool(x), x)),
    "dropout": (IMAGE, g.dropout),
    "autoregressive_conv": (IMAGE, lambda x: g.autoregressive_conv(x, kernel_size=[5, 3], dilation=2, reverse=True)),
    "emerging_conv": (("signal", (2, 9)), lambda x: g.emerging_conv(x, kernel_size=[3])),
    "periodic_conv": (IMAGE, g.periodic_conv),
    "woodbury_transform": (IMAGE, lambda x: g.woodbury_transform(x, 2, 3, separate=True)),
}


@pytest.mark.parametrize("case", BUILT_IN)
def test_inferred_shapes_are_those_computed(case: str) -> None:
    (name, shape), make = BUILT_IN[case]
    x = g.input(name, shape)
    graph = g.graph(y=make(x))
    assert g.Graph.from_yaml(graph.to_yaml()) == graph
    result = graph.build().eval()(torch.randn(2, *x.shape))
    y = result[0] if isinstance(result, tuple) else result
    assert tuple(y.shape[1:]) == graph.output_shapes["y"]


def test_embedding_reads_class_indices() -> None:
    x, label = g.input("x", 4), g.input("label", ())
    e = g.embedding(label, 10, 3)
    net = g.graph(z=g.affine_coupling(x, condition=e, net=g.nets.mlp(hidden=4))).build()
    z, _ = net(x=torch.randn(5, 4), label=torch.arange(5))
    assert z.shape == (5, 4)


def test_a_class_without_constructor_is_a_kind_without_options() -> None:
    @g.register("negated_for_a_test")
    class Negated(Bijection):
        def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return -x, x.new_zeros(x.shape[0])

        def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return -y, y.new_zeros(y.shape[0])

    net = g.graph(z=g.make("negated_for_a_test", g.input("x", 4))).build()
    x = torch.randn(2, 4)
    assert torch.equal(net(x=x)[0], -x)
