"""The attack and its control are the authors' to the bit, and the attack climbs."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from zoo.invariances import attack
from zoo.parity import Fixture

FIXTURE = Path(__file__).parents[2] / "parity/fixtures/invariances_preprocess_attack.npz"


def test_steps_are_exactly_the_authors() -> None:
    fixture = Fixture(FIXTURE)
    x, epsilon = fixture["out/x"], fixture.config["eps"]
    attacked = attack.step(x, fixture["in/grad"], epsilon)
    assert torch.equal(attacked[..., ::2, ::2], fixture["out/attacked"])
    assert torch.equal(attack.random_control(x, epsilon)[..., ::2, ::2], fixture["out/random"])


def test_the_attack_raises_the_loss_more_than_the_control() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, 5))
    images = torch.rand(20, 3, 4, 4) * 1.8 - 0.9
    seen = network(images).argmax(1)
    attacked, control = attack.fgsm(network, images, 0.05), attack.random_control(images, 0.05)
    clean, up, aside = (F.cross_entropy(network(x), seen) for x in (images, attacked, control))
    assert up > aside and up > clean
    assert torch.allclose((attacked - images).abs(), torch.tensor(0.05), atol=1e-6)
    assert attacked.abs().max() <= 1 and not attacked.requires_grad


def test_given_labels_are_attacked() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images, labels = torch.zeros(3, 3, 2, 2), torch.tensor([0, 1, 2])
    attacked = attack.fgsm(network, images, 0.1, labels)
    before, after = (F.cross_entropy(network(x), labels, reduction="none") for x in (images, attacked))
    assert (after > before).all()


def test_the_control_depends_on_its_seed_alone() -> None:
    images = torch.zeros(1, 1, 3, 3)
    signs = np.sign(np.random.RandomState(1).randn(1, 1, 3, 3))
    assert np.allclose(attack.random_control(images, 0.5).numpy(), 0.5 * signs)
