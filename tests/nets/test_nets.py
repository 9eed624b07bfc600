"""Conditioner networks: their layers, and recipes that make them."""

import copy
import pickle

import pytest
import torch
from torch import nn

from flowkit import nets
from flowkit.nets import MLP, ConvNet, ResidualMLP
from flowkit.nets.parts import WeightNorm


@pytest.mark.parametrize("spatial", [(), (3,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize("norm", [None, "actnorm", "weight"])
def test_shapes_of_any_rank(spatial: tuple[int, ...], norm: str | None) -> None:
    x = torch.randn(2, 3, *spatial)
    made = [MLP(3, 5, hidden=8, norm=norm), ResidualMLP(3, 5, hidden=8, norm=norm)]
    if spatial:
        made.append(ConvNet(3, 5, hidden=8, dims=len(spatial), norm=norm))
    for net in made:
        y = net(x)
        assert y.shape == (2, 5, *spatial)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            torch.testing.assert_close(other(x), y)
        y.sum().backward()
        assert all(p.grad is not None for p in net.parameters())


def test_an_mlp_on_an_image_acts_on_each_pixel() -> None:
    for net in (MLP(3, 5), ResidualMLP(3, 5)):
        x = torch.randn(2, 3, 4, 5)
        torch.testing.assert_close(net(x)[:, :, 1, 2], net(x[:, :, 1, 2]))


def test_layers_of_an_mlp_lie_where_published_weights_have_them() -> None:
    net = MLP(3, 5, hidden=7, depth=2, tanh_last=True)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if "weight" in name}
    assert shapes == {
        "main.0.weight": (7, 3),
        "main.2.weight": (7, 7),
        "main.4.weight": (7, 7),
        "main.6.weight": (5, 7),
    }
    assert isinstance(net.main[1], nn.LeakyReLU) and isinstance(net.main[-1], nn.Tanh)
    assert [layer.out_features for layer in MLP(3, 5, hidden=(4, 6)).main[::2]] == [4, 6, 5]


def test_glows_conditioner_is_the_default_convnet() -> None:
    kernels = [layer.kernel_size for layer in ConvNet(2, 4).main if isinstance(layer, nn.Conv2d)]
    assert kernels == [(3, 3), (1, 1), (3, 3)]


@pytest.mark.parametrize("make", [MLP, ResidualMLP, ConvNet])
def test_last_layer(make: type[nn.Module]) -> None:
    x = 10 * torch.randn(2, 3, 4, 4)
    assert not make(3, 5, zero_last=True)(x).any()
    assert make(3, 5)(x).any()
    assert make(3, 5, tanh_last=True)(1e3 * x).abs().max() <= 1


def test_weight_norm_starts_as_the_plain_layer_and_separates_length_from_direction() -> None:
    for plain, x in ((nn.Linear(3, 4), torch.randn(2, 3)), (nn.Conv1d(3, 4, 3), torch.randn(2, 3, 5))):
        expected = plain(x).detach()
        normed = WeightNorm(plain)
        torch.testing.assert_close(normed(x), expected)
        with torch.no_grad():
            plain.weight.mul_(3)
        torch.testing.assert_close(normed(x), expected)


def test_actnorm_inside_a_network_is_set_by_the_first_batch() -> None:
    net = MLP(3, 5, hidden=4, depth=0, norm="actnorm")
    hidden = net.main[:2](100 * torch.randn(64, 3) + 7)
    torch.testing.assert_close(hidden.std(0), torch.ones(4), atol=1e-3, rtol=0)


RECIPES = [
    nets.mlp(hidden=8, activation="silu"),
    nets.mlp(hidden=[8, 4]),
    nets.residual_mlp(hidden=8, depth=1),
    nets.convnet(hidden=8, norm="weight", kernel_size=1),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_recipes_are_values(recipe: nets.Recipe) -> None:
    assert pickle.loads(pickle.dumps(recipe)) == recipe == nets.make(recipe.kind, **recipe.options)
    assert hash(recipe) == hash(copy.deepcopy(recipe))
    assert sum(recipe == other for other in RECIPES) == 1
    net = recipe(3, 5)
    assert isinstance(net, nets.KINDS[recipe.kind]) and net(torch.randn(2, 3, 4, 4)).shape == (2, 5, 4, 4)


def test_recipes_print_as_their_call_and_ignore_defaults() -> None:
    assert repr(nets.mlp(hidden=8, depth=2)) == "mlp(hidden=8)"
    assert nets.mlp(depth=2, norm=None) == nets.mlp() != nets.mlp(depth=3)
    assert nets.convnet(hidden=8).options == {"hidden": 8} and nets.convnet().kind == "convnet"


def test_a_network_of_the_users_own_becomes_a_kind() -> None:
    class Linear(nn.Linear):
        def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
            super().__init__(in_channels, out_channels, bias)

    linear = nets.register("test_linear", Linear)
    try:
        assert linear(bias=False)(2, 3).bias is None
        assert nets.make("test_linear") == linear()
        with pytest.raises(ValueError, match="kind: expected a new name, got 'test_linear'"):
            nets.register("test_linear", nn.Linear)
    finally:
        del nets.KINDS["test_linear"]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nets.mlp(width=3), r"mlp: expected options among hidden, depth.*, got 'width'"),
        (lambda: nets.make("transformer"), r"kind: expected one of mlp.*, got 'transformer'"),
        (lambda: MLP(1, 1, activation="sine"), r"activation: expected one of relu.*, got 'sine'"),
        (lambda: MLP(1, 1, norm="batch"), r"norm: expected None, 'actnorm' or 'weight', got 'batch'"),
        (lambda: ConvNet(1, 1, dims=4), r"dims: expected 1, 2 or 3 spatial dimensions, got 4"),
        (lambda: ConvNet(1, 1, kernel_size=2), r"kernel_size: expected an odd number.*, got 2"),
    ],
)
def test_bad_options(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
