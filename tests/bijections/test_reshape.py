"""Squeeze, Unsqueeze and Haar: where each pixel goes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowkit.bijections import Haar, Squeeze, Unsqueeze


def test_channel_order_lists_all_pixels_of_a_channel_first() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    y, logdet = Squeeze()(x)
    assert y.shape == (1, 8, 2, 2) and not logdet.any()
    expected = [x[0, c, dy::2, dx::2] for c in range(2) for dy in range(2) for dx in range(2)]
    assert torch.equal(y[0], torch.stack(expected))
    assert torch.equal(y, torch.nn.functional.pixel_unshuffle(x, 2))


def test_space_order_lists_all_channels_of_a_pixel_first() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    expected = [x[0, c, dy::2, dx::2] for dy in range(2) for dx in range(2) for c in range(2)]
    assert torch.equal(Squeeze(order="space")(x)[0][0], torch.stack(expected))


@given(
    spatial=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    factor=st.integers(1, 3),
    order=st.sampled_from(["channel", "space"]),
    channels=st.integers(1, 3),
)
def test_unsqueeze_undoes_squeeze(spatial: list[int], factor: int, order: str, channels: int) -> None:
    x = torch.randn(2, channels, *[factor * size for size in spatial])
    y, _ = Squeeze(factor, order)(x)
    assert y.shape == (2, channels * factor ** len(spatial), *spatial)
    assert torch.equal(Unsqueeze(factor, order)(y)[0], x)
    assert torch.equal(Unsqueeze(factor, order).inverse(x)[0], y)


def test_haar_bands_of_an_image() -> None:
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    (a, b), (c, d) = x[0, 0]
    expected = torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    torch.testing.assert_close(Haar()(x)[0].flatten(), expected)


@pytest.mark.parametrize("order", ["channel", "space"])
@pytest.mark.parametrize("spatial", [(4,), (2, 4), (2, 2, 4)])
def test_haar_is_orthonormal_up_to_its_factor(order: str, spatial: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *spatial, dtype=torch.float64)
    y, logdet = Haar(order)(x)
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    assert not logdet.any()
    scaled, logdet = Haar(order, rebalance=0.5)(x)
    torch.testing.assert_close(scaled, y / 2)
    torch.testing.assert_close(logdet, torch.full((2,), x[0].numel() * math.log(0.5), dtype=torch.float64))


def test_haar_orders_hold_the_same_bands() -> None:
    x = torch.randn(2, 3, 4, 4)
    by_channel, by_band = Haar()(x)[0], Haar("space")(x)[0]
    assert torch.equal(by_channel.unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2), by_band)


def test_haar_inverse_does_not_change_its_input() -> None:
    y = torch.randn(2, 4, 2, 2)
    before = y.clone()
    Haar(rebalance=0.5).inverse(y)
    assert torch.equal(y, before)
