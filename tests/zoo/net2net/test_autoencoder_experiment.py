"""The training of autoencoders: reconstructions improve, the discriminator joins late, experts encode as asked."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from flowkit import graph as g
from zoo import losses
from zoo.blocks import autoencoder, discriminator
from zoo.net2net.autoencoder_experiment import AutoencoderExperiment, GaussianAutoencoder
from zoo.net2net.experiment import Run
from zoo.training.fit import Data, Fit, fit


class Squares(nn.Module):
    """In the place of LPIPS."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3), keepdim=True)


class Pictures(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Plain colours."""

    def __init__(self, count: int) -> None:
        colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(count)) * 2 - 1
        self.images = colours.expand(-1, -1, 16, 16)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index]}


def experiment(disc_start: int) -> AutoencoderExperiment:
    torch.manual_seed(0)
    network = autoencoder.autoencoder(16, 3, 2, 4, width=4).build()
    judge = discriminator.discriminator(3, 16, 4, layers=1).build()
    run = Run(8, "colours", disc_start, kl_weight=1e-6, disc_weight=0.5)
    return AutoencoderExperiment(network, judge, Squares(), run, 3e-3)


def test_the_likelihood_rises_and_the_discriminator_joins_late(tmp_path: Path) -> None:
    settings, judges = Fit(40, 8, 10, accelerator="cpu"), {}
    for start in (1000, 20):
        made = experiment(start)
        before = [p.clone() for p in made.judge.parameters()]
        fitted = fit(made, Data(Pictures(64), Pictures(16)), tmp_path / str(start), settings, Console(quiet=True))
        scores = [mark["validation"] for mark in fitted.history]
        assert all(math.isfinite(mark["train"]) for mark in fitted.history)
        assert scores[0] is not None and scores[-1] is not None and scores[-1] < 0.8 * scores[0]
        made.load_state_dict(torch.load(tmp_path / str(start) / "checkpoints" / "last.ckpt")["state_dict"])
        judges[start] = all(torch.equal(a, b) for a, b in zip(before, made.judge.parameters(), strict=True))
    assert judges == {1000: True, 20: False}


@pytest.mark.parametrize("start", [0, 1])
def test_the_loss_is_the_sum_of_its_weighted_parts(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, logged = experiment(start).train(), {}
    made.run = replace(made.run, kl_weight=0.3)
    monkeypatch.setattr(AutoencoderExperiment, "global_step", 0)
    monkeypatch.setattr(made, "optimizers", made.configure_optimizers)
    monkeypatch.setattr(made, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(made, "log_dict", lambda values, **_: logged.update(values))
    fooled: list[Tensor] = []
    own = losses.generator

    def noted(fake: Tensor) -> Tensor:
        fooled.append(own(fake))
        return fooled[-1]

    monkeypatch.setattr(losses, "generator", noted)
    total = made.training_step({"image": Pictures(8).images}, 0)
    parts = {key.removeprefix("train/"): float(value) for key, value in logged.items()}
    expected = parts["nll_loss"] + 0.3 * parts["kl_loss"] + (start == 0) * parts["d_weight"] * float(fooled[0].detach())
    assert float(total) == parts["total_loss"] == pytest.approx(expected, rel=1e-5)
    assert (parts["disc_loss"] > 0) is (start == 0)


def test_the_expert_samples_or_takes_the_mean() -> None:
    expert, images = GaussianAutoencoder(experiment(0).network), torch.rand(5, 3, 16, 16)
    first, second = expert.encode(images), expert.encode(images)
    assert first.shape == (5, 4) and not torch.equal(first, second)
    means = [expert.encode(images, deterministic=True) for _ in range(2)]
    assert torch.equal(*means) and torch.equal(GaussianAutoencoder(expert.network, True).encode(images), means[0])
    restored = expert.decode(first)
    assert restored.shape == images.shape and restored.abs().max() <= 1
    assert not expert.train().network.training and not any(p.requires_grad for p in expert.parameters())


def test_a_network_without_a_last_layer_is_refused() -> None:
    plain = g.graph(y=g.linear(g.input("x", 3), 2)).build()
    with pytest.raises(ValueError, match="one weight of a last layer 'paint', got 0"):
        AutoencoderExperiment(plain, nn.Identity(), Squares(), Run(3, "none"))


@pytest.mark.parametrize("basic", [True, False])
def test_weights_begin_as_the_authors(basic: bool) -> None:
    torch.manual_seed(0)
    network = autoencoder.autoencoder(16, 3, 2, 4, width=16).build()
    judge = nn.Conv2d(3, 64, 4)
    before = [weight.clone() for weight in network.parameters()]
    AutoencoderExperiment(network, judge, Squares(), Run(3, "none"), basic=basic)
    weights = network.get_parameter("decoder.first.weight").detach()
    assert (float(weights.std()) == pytest.approx(0.02, rel=0.1)) is basic
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)) is not basic
    assert float(judge.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
