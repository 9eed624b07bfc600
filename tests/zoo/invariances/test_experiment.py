"""Training as published: the loss is the likelihood's, the optimiser the paper's, experts stay as they are."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import zoo
from zoo.invariances.experiment import ConceptExperiment, InvarianceExperiment, concept_loss
from zoo.training.fit import Data, Fit, fit


class Encode(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 2 * dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self.linear(images.flatten(1)).chunk(2, 1)
        return mean, 0.1 * deviation.sigmoid()


class Represent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 20)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1)).tanh()


class Examples:
    def __init__(self, count: int) -> None:
        self.images = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(count)) * 2 - 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index]}


def test_a_cut_is_trained_by_likelihood_and_its_experts_are_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encode, represent = Encode(8), Represent()
    experts = {key: value.clone() for key, value in represent.state_dict().items()}
    experiment = InvarianceExperiment(zoo.build("invariances/tiny"), encode, represent, batch=400)
    settings = Fit(steps=40, batch=16, every=20, accelerator="cpu")
    fitted = fit(experiment, Data(Examples(64), Examples(16)), tmp_path, settings, Console(file=io.StringIO()))
    assert fitted.history[-1]["validation"] < fitted.history[0]["validation"]  # type: ignore[operator]
    assert all(torch.equal(value, experts[key]) for key, value in represent.state_dict().items())
    assert all(key.startswith("network.") for key in experiment.state_dict())


def test_the_loss_is_the_negative_log_likelihood_but_for_its_constant() -> None:
    torch.manual_seed(0)
    network = zoo.build("invariances/tiny").eval()
    encode, represent = Encode(8), Represent()
    images = torch.randn(6, 3, 2, 2)
    torch.manual_seed(3)
    loss = InvarianceExperiment(network, encode, represent, 16).loss({"image": images})
    torch.manual_seed(3)
    mean, deviation = encode(images)
    v, logdet = network(mean + deviation * torch.randn_like(mean), represent(images))
    normal = torch.distributions.Normal(0, 1).log_prob(v).sum(1) + 4 * torch.tensor(2 * torch.pi).log()
    assert torch.allclose(loss, -(normal + logdet).mean(), atol=1e-5)


def test_the_optimiser_is_the_papers() -> None:
    experiment = InvarianceExperiment(zoo.build("invariances/tiny"), Encode(8), Represent(), batch=16)
    optimizer = experiment.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["lr"] == pytest.approx(7.2e-5) and optimizer.defaults["betas"] == (0.5, 0.9)


def test_shared_concepts_are_drawn_together() -> None:
    torch.manual_seed(0)
    network = zoo.build("invariances/concepts-tiny")
    experiment = ConceptExperiment(network, Encode(10), batch=4)
    images = torch.randn(8, 3, 2, 2)
    same = {"first": images, "second": images, "factor": torch.zeros(8, dtype=torch.int64)}
    assert experiment.loss(same).isfinite()
    network.eval()
    latents = torch.randn(4, 10)
    swapped = torch.randn(4, 10)
    digit = torch.zeros(4, dtype=torch.int64)
    *factors, _ = network(latents)
    near = network.inverse(factors[0], *network(swapped)[1:-1])[0]
    far = network.inverse(factors[0] + 5, *network(swapped)[1:-1])[0]
    losses = [concept_loss(network, torch.cat([latents, x]), digit) for x in (near, far)]
    assert losses[0] < losses[1]
