"""The figures agree with what is known in closed form."""

import math

import pytest
import torch
from torch import nn

import zoo
from flowkit.bijections import ActNorm, AffineCoupling, Compose
from flowkit.nets import mlp
from zoo import metrics
from zoo.demo.losses import evidence


def test_a_gaussian_needs_its_entropy() -> None:
    torch.manual_seed(0)
    mixing = torch.randn(4, 4, dtype=torch.float64)
    train, held_out = (torch.randn(20_000, 4, dtype=torch.float64) @ mixing + 3 for _ in range(2))
    entropy = 0.5 * math.log(2 * math.pi * math.e) + torch.linalg.slogdet(mixing)[1] / 4
    assert metrics.gaussian_bits_per_dim(train, held_out) == pytest.approx(float(entropy) / math.log(2), abs=0.01)
    with pytest.raises(ValueError, match="more than 4 latents"):
        metrics.gaussian_bits_per_dim(train[:4], held_out)


def test_a_linear_condition_saves_what_it_explains() -> None:
    torch.manual_seed(0)
    noise, condition = torch.randn(20_000, 2), torch.randn(20_000, 3)
    latent = 0.1 * noise + condition @ torch.randn(3, 2) - 1
    bits = metrics.linear_gaussian_bits_per_dim(latent, condition, latent, condition)
    assert bits == pytest.approx((0.5 * math.log(2 * math.pi * math.e) + math.log(0.1)) / math.log(2), abs=0.01)


def test_the_divergence_is_that_of_normal_distributions() -> None:
    mean, deviation = torch.randn(5, 4), torch.rand(5, 4) + 0.1
    image = torch.zeros(5, 1, 8, 8)
    normal = torch.distributions.Normal
    known = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(evidence(image, image, mean, deviation, 1.0), known)
    torch.testing.assert_close(evidence(image + 0.5, image, mean, deviation, 0.0), torch.tensor(16.0))


def test_the_share_not_fixed_is_the_variance_within_a_condition() -> None:
    torch.manual_seed(0)
    centres = 2 * torch.randn(1, 4000, 6)
    assert metrics.share_not_fixed(centres + torch.randn(50, 4000, 6)) == pytest.approx(0.2, abs=0.01)
    assert metrics.share_not_fixed(centres.expand(5, -1, -1)) == 0


def test_kept_classes_are_counted_per_image() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    assert metrics.class_kept(labels, torch.tensor([0, 0, 1, 1]), 2) == 0.75


def test_conditioners_are_the_networks_inside_a_flow() -> None:
    flow = zoo.build("demo/translator_small")
    names = {module: name for name, module in flow.named_modules()}
    found = [names[network] for network in metrics.conditioners(flow)]
    halves = [f"flow.{k}.{half}.net" for k in (0, 1) for half in ("first_half", "second_half")]
    assert sorted(found) == sorted(["embedder", *halves])
    assert metrics.conditioners(ActNorm(4)) == [] and metrics.conditioners(nn.ReLU()) == []


def test_wide_conditioners_take_most_of_the_time_and_the_flow_is_left_alone() -> None:
    flow = Compose(ActNorm(4), AffineCoupling(4, mlp(hidden=512), condition=2))
    x, condition = torch.randn(64, 4), torch.randn(64, 2)
    flow(x, condition)
    flow.requires_grad_(False)
    before = [parameter.clone() for parameter in flow.parameters()]
    shares = metrics.conditioner_time_shares(flow, x, condition, repetitions=9)
    assert 0.3 < shares.training < 1.5 and 0.3 < shares.sampling < 1
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, flow.parameters(), strict=True))
    assert metrics.round_trip_error(flow, x, condition) < 1e-5
