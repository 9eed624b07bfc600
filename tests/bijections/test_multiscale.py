"""Split, Merge and MultiScale: what leaves comes back exactly."""

import torch
from torch import Tensor

from flowkit import nets
from flowkit.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    InvertibleConv1x1,
    Merge,
    MultiScale,
    Split,
    Squeeze,
    Unsqueeze,
)


def test_split_gives_both_parts_and_merge_joins_them() -> None:
    x = torch.randn(2, 6, 3)
    (kept, leaving), logdet = Split(6)(x)
    assert torch.equal(kept, x[:, :3]) and torch.equal(leaving, x[:, 3:]) and not logdet.any()
    assert torch.equal(Split(6).inverse((kept, leaving))[0], x)
    assert torch.equal(Merge(6)((kept, leaving))[0], x)
    (kept, leaving), _ = Merge(6, keep=1).inverse(x)
    assert kept.shape == (2, 1, 3) and leaving.shape == (2, 5, 3)
    assert torch.equal(Compose(Split(6, keep=2), Merge(6, keep=2))(x)[0], x)


def steps(channels: int) -> list[Bijection]:
    coupling = AffineCoupling(channels, nets.convnet(hidden=4), permutation="swap")
    return [ActNorm(channels), InvertibleConv1x1(channels), coupling]


def glow() -> Compose:
    """Three scales on (1, 8, 8)."""
    coarsest = Compose(Squeeze(), *steps(16), Unsqueeze())
    coarse = Compose(Squeeze(), *steps(8), MultiScale(8, coarsest), Unsqueeze())
    return Compose(Squeeze(), *steps(4), MultiScale(4, coarse), Unsqueeze())


def test_a_three_scale_flow_has_one_latent_of_the_images_shape() -> None:
    flow, x = glow(), torch.randn(6, 1, 8, 8)
    z, logdet = flow(x)
    assert z.shape == x.shape and logdet.shape == (6,)
    back, inverse_logdet = flow.inverse(z)
    torch.testing.assert_close(back, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inverse_logdet, -logdet, atol=1e-3, rtol=1e-4)
    assert flow.output_shape((1, 8, 8)) == flow.input_shape((1, 8, 8)) == (1, 8, 8)
    assert flow(torch.randn(2, 1, 16, 8))[0].shape == (2, 1, 16, 8)


def test_channels_leave_as_they_are_and_the_logdet_is_that_of_the_rest() -> None:
    rest = ActNorm(2)
    layer, x = MultiScale(5, rest, keep=2), torch.randn(8, 5, 4)
    y, logdet = layer(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    torch.testing.assert_close((y[:, :2], logdet), rest(x[:, :2]))


def test_the_rest_may_use_buffers_of_its_own_inside_those_of_the_whole() -> None:
    flow, x = glow().eval(), torch.randn(3, 1, 8, 8)
    expected, before = flow(x), x.clone()
    with torch.no_grad():
        torch.testing.assert_close(flow(x), expected)
        torch.testing.assert_close(flow.inverse(expected[0])[0], x, atol=1e-4, rtol=1e-4)
    assert torch.equal(x, before)


def test_the_rest_gets_the_condition() -> None:
    class Shift(Bijection):
        def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
            assert condition is not None
            return x + condition, x.new_zeros(len(x))

        def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
            assert condition is not None
            return y - condition, y.new_zeros(len(y))

    x, c = torch.randn(2, 4), torch.randn(2, 2)
    assert torch.equal(MultiScale(4, Shift())(x, c)[0], x + torch.cat([c, torch.zeros(2, 2)], 1))
