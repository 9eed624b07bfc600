"""ActNorm: its initialisation from data, once, the same on every rank, and never again after loading."""

import copy
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from flowkit.bijections import ActNorm, Inverse


@pytest.mark.parametrize("log_scale", [True, False])
@pytest.mark.parametrize("shape", [(64, 3), (8, 3, 5), (4, 3, 5, 4), (2, 3, 4, 2, 3), (1, 3, 6, 6)])
def test_the_first_batch_leaves_with_mean_zero_and_variance_one(log_scale: bool, shape: tuple[int, ...]) -> None:
    x = 5 * torch.randn(shape, dtype=torch.float64) + 3
    layer = ActNorm(3, log_scale).double()
    assert not layer.initialized
    y, _ = layer(x)
    channels = y.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(channels.std(1), torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    assert layer.initialized


@pytest.mark.parametrize("log_scale", [True, False])
def test_the_inverse_may_be_what_the_first_batch_normalises(log_scale: bool) -> None:
    x = 5 * torch.randn(8, 3, 6, dtype=torch.float64) + 3
    inner = ActNorm(3, log_scale, eps=0.0, initialize_by="inverse").double()
    with pytest.raises(RuntimeError, match="ActNorm.forward before the initialisation: run inverse on a batch"):
        inner(x)
    layer = Inverse(inner)
    y, logdet = layer(x)
    values = x.transpose(0, 1).flatten(1)
    mean, std = values.mean(1), values.std(1)
    torch.testing.assert_close(y, (x - mean[:, None]) / std[:, None])
    torch.testing.assert_close(logdet, -6 * std.log().sum().expand(8))
    torch.testing.assert_close(layer.inverse(y)[0], x)
    if log_scale:  # FrEIA's loc and log_scale
        torch.testing.assert_close(inner.shift.detach(), mean)
        torch.testing.assert_close(inner.scale.detach(), std.log())


def test_the_variance_may_be_that_of_the_batch_itself() -> None:
    x = 3 * torch.randn(5, 2, dtype=torch.float64) + 1
    y, _ = ActNorm(2, eps=0.0, unbiased=False).double()(x)
    torch.testing.assert_close(y.square().mean(0), torch.ones(2, dtype=torch.float64))


def test_only_the_first_training_batch_counts() -> None:
    layer = ActNorm(2).eval()
    x = 3 * torch.randn(16, 2) + 1
    assert torch.equal(layer(x)[0], x) and not layer.initialized
    layer.train()
    first, _ = layer(x)
    layer(100 * x)
    torch.testing.assert_close(layer(x)[0], first)


def test_an_empty_batch_initialises_nothing() -> None:
    layer = ActNorm(2)
    layer(torch.empty(0, 2))
    assert not layer.initialized and not layer.scale.any()


@pytest.mark.parametrize("log_scale", [True, False])
def test_channels_without_variance_keep_their_scale(log_scale: bool) -> None:
    x = torch.randn(16, 3)
    x[:, 1] = 1e4 / 3
    layer = ActNorm(3, log_scale)
    y, logdet = layer(x)
    torch.testing.assert_close(y[:, 1], torch.zeros(16), atol=1e-3, rtol=0)
    assert logdet.isfinite().all() and logdet.abs().max() < 10


@pytest.mark.parametrize("unbiased", [True, False])
def test_a_single_value_a_channel_has_no_variance_to_initialise_from(unbiased: bool) -> None:
    layer = ActNorm(3, unbiased=unbiased)
    with pytest.raises(ValueError, match=r"expected two or more values a channel, .* got \(1, 3\); use a larger batch"):
        layer(torch.randn(1, 3))
    assert not layer.initialized and not layer.scale.any() and not layer.shift.any()
    layer(torch.randn(1, 3, 2))  # two pixels will do
    assert layer.initialized
    torch.testing.assert_close(ActNorm(3).eval()(torch.ones(1, 3))[0], torch.ones(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_do_not_overflow_the_statistics(dtype: torch.dtype) -> None:
    x = (torch.randn(4, 2, 64, 64) * 100 + 300).to(dtype)
    layer = ActNorm(2)
    y, _ = layer(x)
    assert y.dtype == dtype and layer.scale.isfinite().all()
    torch.testing.assert_close(layer.scale.exp() * x.float().std((0, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)


def test_inverse_before_initialisation_is_an_error_in_training_only() -> None:
    layer = ActNorm(2)
    with pytest.raises(RuntimeError, match="run forward on a batch first"):
        layer.inverse(torch.randn(3, 2))
    layer.eval().inverse(torch.randn(3, 2))


def test_a_loaded_layer_is_not_initialised_again() -> None:
    trained = nn.ModuleDict({"norm": ActNorm(2)})
    trained["norm"](5 * torch.randn(16, 2))
    fresh = nn.ModuleDict({"norm": ActNorm(2)})
    fresh.load_state_dict(trained.state_dict())
    x = torch.randn(16, 2)
    torch.testing.assert_close(fresh["norm"](x), trained["norm"](x))
    fresh.load_state_dict(nn.ModuleDict({"norm": ActNorm(2)}).state_dict())
    assert fresh["norm"](7 * x)[0].std() < 1.1 and fresh["norm"].initialized


def test_a_flag_set_from_outside_is_seen() -> None:
    layer = copy.deepcopy(ActNorm(2))
    layer.initialized.fill_(True)
    x = 5 * torch.randn(16, 2)
    assert torch.equal(layer(x)[0], x)


def test_the_published_form_has_the_published_statistics() -> None:
    x = torch.randn(32, 3, dtype=torch.float64)
    layer = ActNorm(3, log_scale=False).double()
    layer(x)
    torch.testing.assert_close(layer.shift.detach(), -x.mean(0))
    torch.testing.assert_close(layer.scale.detach(), 1 / (x.std(0) + 1e-6))


def _initialise_on_rank(rank: int, folder: str, x: Tensor) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    layer = ActNorm(3)
    layer(x[:5] if rank == 0 else x[5:])
    torch.save(layer.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_initialise_as_one_does(tmp_path: Path) -> None:
    x = 4 * torch.randn(16, 3, 2) - 2
    mp.spawn(_initialise_on_rank, (str(tmp_path), x), nprocs=2)
    alone = ActNorm(3)
    alone(x)
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(state, dict(alone.state_dict()))
    assert all(torch.equal(torch.load(tmp_path / "0.pt")[k], torch.load(tmp_path / "1.pt")[k]) for k in state)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_first_batch_that_is_not_finite_is_refused(bad: float) -> None:
    x = torch.randn(8, 3, 2)
    x[4, 1, 0] = bad
    layer = ActNorm(3)
    with pytest.raises(ValueError, match=r"ActNorm: x: expected finite values in the batch .*in channels \[1\]"):
        layer(x)
    assert not layer.initialized and not layer.scale.any() and not layer.shift.any()
    y, _ = layer(torch.randn(64, 3, 2) * 3)
    assert layer.initialized and abs(float(y.detach().std()) - 1) < 0.1


@pytest.mark.parametrize("channels", [255, 256, 257, 600])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("log_scale", [True, False])
def test_any_number_of_channels(channels: int, shape: tuple[int, ...], log_scale: bool) -> None:
    """Rows of vectors or of channels-last pixels that are too long to be joined, shorter ones, and gradients."""
    torch.manual_seed(0)
    layer = ActNorm(channels, log_scale).eval()
    with torch.no_grad():
        layer.scale.copy_(torch.rand(channels) + 0.5)
        layer.shift.copy_(torch.randn(channels))
    x = torch.randn(5, channels, *shape)
    for given in (x, x.to(memory_format=torch.channels_last) if len(shape) == 2 else x):
        given = given.detach().requires_grad_()
        scale, shift = (p.detach().reshape(-1, *(1,) * len(shape)) for p in (layer.scale, layer.shift))
        expected = scale.exp() * given + shift if log_scale else scale * (given + shift)
        y, _ = layer(given)
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
        weight = torch.randn_like(y)
        (gradient,) = torch.autograd.grad((y * weight).sum(), given)
        torch.testing.assert_close(gradient, weight * (scale.exp() if log_scale else scale).expand_as(weight))
        torch.testing.assert_close(layer.inverse(y.detach())[0], given.detach(), atol=1e-5, rtol=1e-5)
