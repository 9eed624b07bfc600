"""Compose and Inverse: access, names, one condition for all, one workspace for the whole chain."""

import copy

import pytest
import torch
from torch import Tensor

from flowkit import _native, nets
from flowkit.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    Flip,
    Haar,
    Inverse,
    LeakyReLU,
    Shuffle,
    Squeeze,
)

MLP = nets.mlp(hidden=8, depth=0)


def flow() -> Compose:
    mixed = AffineCoupling(4, MLP, condition=3, permutation="swap")
    return Compose(norm=ActNorm(4), mix=mixed, inner=Compose(LeakyReLU(), Shuffle(4)), last=Flip(4)).eval()


def test_list_like_access() -> None:
    chain = flow()
    assert len(chain) == 4 and [type(layer) for layer in chain] == [ActNorm, AffineCoupling, Compose, Flip]
    assert chain[0] is chain["norm"] and chain[-1] is chain["last"] and chain["inner"][1] is chain[2][1]
    assert list(chain[1:3].layers) == ["mix", "inner"] and chain[1:3][0] is chain["mix"]
    assert list(Compose(Flip(2), Flip(2)).layers) == ["0", "1"]


def test_state_dict_keys_are_layer_names() -> None:
    keys = list(flow().state_dict())
    assert keys[:3] == ["norm.scale", "norm.shift", "norm.initialized"]
    assert "mix.net.main.0.weight" in keys and "inner.1.permutation" in keys and not any("last" in key for key in keys)


def test_repr_shows_the_layers() -> None:
    text = repr(flow())
    assert "(norm): ActNorm(4)" in text and "AffineCoupling(\n    4, condition=3, clamp='tanh'" in text


def test_halves_of_a_chain_compose_to_the_whole() -> None:
    chain, x, c = flow(), torch.randn(5, 4), torch.randn(5, 3)
    y, logdet = chain(x, c)
    half, first = chain[:2](x, c)
    whole, second = chain[2:](half, c)
    torch.testing.assert_close((whole, first + second), (y, logdet))
    torch.testing.assert_close(Inverse(chain)(y, c), (x, -logdet))
    torch.testing.assert_close(Inverse(chain).inverse(x, c), (y, logdet))
    assert chain.condition_channels == Inverse(chain).condition_channels == 3


class Recorder(Bijection):
    """Remembers which tensors it was given; the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append((x, condition))
        return x, x.new_zeros(len(x))

    inverse = forward


def test_every_layer_gets_the_condition() -> None:
    first, second, c = Recorder(), Recorder(), torch.randn(2, 1)
    Compose(first, Compose(second)).forward(torch.randn(2, 3), c)
    assert first.seen[0][1] is c and second.seen[0][1] is c


def test_inference_runs_in_two_buffers_and_never_in_the_callers_tensor() -> None:
    probes = [Recorder() for _ in range(9)]
    coupling = AffineCoupling(4, MLP, permutation="swap")
    layers = [LeakyReLU(), ActNorm(4), Shuffle(4), coupling, Flip(4), ActNorm(4), Shuffle(4), LeakyReLU(), Flip(4)]
    chain = Compose(*[layer for pair in zip(probes, layers, strict=True) for layer in pair]).eval()
    x = torch.randn(16, 4, 8, 8)
    before = x.clone()
    expected = chain(x)
    for probe in probes:
        probe.seen.clear()
    with torch.no_grad():
        actual = chain(x)
    torch.testing.assert_close(actual, expected)
    assert torch.equal(x, before)
    storages = {probe.seen[0][0].untyped_storage().data_ptr() for probe in probes[1:]}
    assert x.untyped_storage().data_ptr() not in storages
    if _native.available:  # the references in plain torch make tensors of their own
        assert len(storages) == 2


@pytest.mark.parametrize("inner", [Squeeze(), Haar(), Recorder()], ids=["squeeze", "haar", "identity"])
def test_layers_that_make_their_own_tensors_work_inside_a_workspace(inner: Bijection) -> None:
    chain = Compose(LeakyReLU(), inner, LeakyReLU(), Inverse(copy.deepcopy(inner)), LeakyReLU())
    x = torch.randn(2, 4, 4, 4)
    before, expected = x.clone(), chain(x)
    with torch.no_grad():
        torch.testing.assert_close(chain(x), expected)
        torch.testing.assert_close(chain.inverse(expected[0]), (x, -expected[1]))
    assert torch.equal(x, before)


def test_a_users_own_bijection_needs_nothing_but_two_methods() -> None:
    class Double(Bijection):
        def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return 2 * x, torch.full_like(x[:, 0], x[0].numel() * 2.0).log()

        def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return y / 2, -torch.full_like(y[:, 0], y[0].numel() * 2.0).log()

    with pytest.raises(ValueError, match="Double: x: expected a floating-point tensor"):
        Double()(torch.ones(2, 3, dtype=torch.int64))
    x = torch.randn(2, 3)
    torch.testing.assert_close(Compose(Double(), Inverse(Double()))(x)[0], x)


def test_autocast_keeps_data_and_logdet_in_float32() -> None:
    chain, x, c = flow(), torch.randn(5, 4), torch.randn(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y, logdet = chain(x, c)
        back, _ = chain.inverse(y, c)
    assert y.dtype == logdet.dtype == torch.float32
    torch.testing.assert_close(back, x)
