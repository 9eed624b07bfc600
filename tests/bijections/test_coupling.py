"""Couplings: which channels move, by which network, and what follows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit import nets
from flowkit.bijections import ActNorm, AdditiveCoupling, AffineCoupling, Compose, Flip, Permutation, Swap

MLP, CONV = nets.mlp(hidden=8, depth=0), nets.convnet(hidden=4)


def test_the_formula() -> None:
    layer, x, c = AffineCoupling(5, MLP, condition=2, clamp="tanh", bound=1.5), torch.randn(3, 5), torch.randn(3, 2)
    u, t = layer.net(torch.cat([x[:, :2], c], 1)).chunk(2, 1)
    s = 1.5 * torch.tanh(u)
    torch.testing.assert_close(layer(x, c), (torch.cat([x[:, :2], x[:, 2:] * s.exp() + t], 1), s.sum(1)))


def test_the_first_channels_may_be_the_ones_that_move() -> None:
    layer, x = AdditiveCoupling(5, MLP, transform_first=True, split=2), torch.randn(3, 5)
    torch.testing.assert_close(layer(x)[0], torch.cat([x[:, :3] + layer.net(x[:, 3:]), x[:, 3:]], 1))


def test_two_networks_on_one_input() -> None:
    layer, x = AffineCoupling(4, (nets.mlp(hidden=8, tanh_last=True), MLP), clamp="none"), torch.randn(3, 4)
    s, t = layer.scale_net(x[:, :2]), layer.shift_net(x[:, :2])
    torch.testing.assert_close(layer(x)[0][:, 2:], x[:, 2:] * s.exp() + t)


def test_a_fused_permutation_is_the_layer_that_follows() -> None:
    drawn = torch.tensor([3, 1, 4, 0, 2])
    x = torch.randn(3, 5, 2)
    for transform_first in (False, True):
        boundary = 3 if transform_first else 2
        for fused, separate in (("swap", Swap(5, boundary)), ("flip", Flip(5)), (drawn, Permutation(drawn))):
            layer = AffineCoupling(5, MLP, transform_first=transform_first, permutation=fused)
            plain = AffineCoupling(5, MLP, transform_first=transform_first)
            plain.net.load_state_dict(layer.net.state_dict())
            y, logdet = layer(x)
            torch.testing.assert_close(Compose(plain, separate)(x), (y, logdet))
            torch.testing.assert_close(layer.inverse(y)[0], x)


def test_only_a_given_permutation_is_in_the_state_dict_and_loading_moves_it() -> None:
    first, second = (AdditiveCoupling(4, MLP, permutation=torch.randperm(4)) for _ in range(2))
    assert "permutation" in first.state_dict()
    assert list(AdditiveCoupling(4, MLP, permutation="swap").state_dict()) == list(
        AdditiveCoupling(4, MLP).state_dict()
    )
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 4)
    torch.testing.assert_close(second.inverse(first(x)[0])[0], x)


def test_a_mask_of_channels_is_the_coupling_of_the_sorted_channels() -> None:
    mask = torch.tensor([0, 1, 0, 1, 1])
    passive, active = [1, 3, 4], [0, 2]
    layer, x, c = AffineCoupling(5, MLP, condition=2, mask=mask, clamp="tanh"), torch.randn(3, 5), torch.randn(3, 2)
    u, t = layer.net(torch.cat([x[:, passive], c], 1)).chunk(2, 1)
    expected = x.clone()
    expected[:, active] = x[:, active] * torch.tanh(u).exp() + t
    torch.testing.assert_close(layer(x, c), (expected, torch.tanh(u).sum(1)))
    other = AffineCoupling(5, MLP, condition=2, mask=1 - mask, transform_first=True)
    other.net.load_state_dict(layer.net.state_dict())
    torch.testing.assert_close(other(x, c), layer(x, c))


def test_a_mask_of_places_is_that_of_real_nvp() -> None:
    layer, x = AffineCoupling(2, CONV, mask="checkerboard", clamp="none"), torch.randn(3, 2, 4, 3)
    b = (torch.arange(4)[:, None] + torch.arange(3)) % 2 == 0
    s, t = layer.net(b * x).chunk(2, 1)
    y, logdet = layer(x)
    torch.testing.assert_close(y, b * x + ~b * (x * s.exp() + t))  # Real NVP, eq. 9
    torch.testing.assert_close(logdet, (~b * s).sum((1, 2, 3)))
    assert torch.equal(y * b, x * b)


def test_masks_are_in_the_state_dict_and_loading_moves_them() -> None:
    first, second = (AffineCoupling(4, MLP, mask=torch.tensor(m)) for m in ([1, 1, 0, 0], [0, 1, 0, 1]))
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 4)
    torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="mask.*with 2 entries of 1"):
        second.load_state_dict({**first.state_dict(), "mask": torch.tensor([1, 1, 1, 0])})
    assert "mask" not in AffineCoupling(4, CONV, mask="checkerboard").state_dict()


@pytest.mark.parametrize("over, dims", [("channels", (1,)), ("all", (1, 2, 3))])
def test_gin_takes_the_mean_off_the_log_scales(over: str, dims: tuple[int, ...]) -> None:
    layer, x = AffineCoupling(6, CONV, clamp="atan", volume_preserving=over), torch.randn(3, 6, 2, 3)
    u, t = layer.net(x[:, :3]).chunk(2, 1)
    s = 2 * 0.636 * torch.atan(u)
    y, logdet = layer(x)
    torch.testing.assert_close(y[:, 3:], x[:, 3:] * (s - s.mean(dims, keepdim=True)).exp() + t)
    assert torch.equal(logdet, torch.zeros(3))
    with torch.no_grad():
        chained, total = Compose(layer, ActNorm(6).eval(), layer)(x)
    torch.testing.assert_close(chained, layer(y)[0])
    assert torch.equal(total, torch.zeros(3))


def test_zero_last_layers_start_as_the_identity() -> None:
    layer, x = AffineCoupling(4, nets.mlp(zero_last=True)), torch.randn(3, 4)
    torch.testing.assert_close(layer(x), (x, torch.zeros(3)))


def test_a_condition_of_another_dtype_is_taken_in_that_of_x() -> None:
    layer, x, c = AffineCoupling(4, MLP, condition=2), torch.randn(3, 4), torch.randn(3, 2)
    torch.testing.assert_close(layer(x, c.double()), layer(x, c))


@settings(max_examples=20)
@given(data=st.data(), channels=st.integers(2, 6), condition=st.integers(0, 2), transform_first=st.booleans())
def test_any_split_rank_condition_and_permutation(
    data: st.DataObject, channels: int, condition: int, transform_first: bool
) -> None:
    split = data.draw(st.integers(0 if condition else 1, channels - 1))
    spatial = data.draw(st.lists(st.integers(1, 3), max_size=3))
    permutation = data.draw(st.sampled_from([None, "swap", "flip", torch.randperm(channels)]))
    options = {"condition": condition, "split": split, "transform_first": transform_first, "permutation": permutation}
    x = torch.randn(2, channels, *spatial, dtype=torch.float64)
    c = torch.randn(2, condition, *data.draw(st.sampled_from([[], spatial])), dtype=torch.float64)
    for layer in (AffineCoupling(channels, MLP, **options), AdditiveCoupling(channels, MLP, **options)):
        y, logdet = layer.double()(x, c)
        torch.testing.assert_close(layer.inverse(y, c), (x, -logdet), atol=1e-9, rtol=1e-9)
        passive = slice(channels - split, None) if transform_first else slice(0, split)
        assert all(any(torch.equal(channel, other) for other in y.unbind(1)) for channel in x[:, passive].unbind(1))
