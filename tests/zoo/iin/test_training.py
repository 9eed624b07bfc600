"""The IIN learns: a shared factor is found, the unsupervised loss falls, a run goes on where it stopped."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import zoo
from zoo import weights
from zoo.blocks.discriminator import discriminator
from zoo.iin import losses
from zoo.iin.experiment import AdversarialAutoencoding
from zoo.iin.optimisation import adam, decay, schedule
from zoo.iin.training import Plan, train
from zoo.training.fit import Data, Fit, fit
from zoo.verbs import Context

SIZES = [3, 3, 2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sources(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (N, 8) of sources ~ N(0, 1), one block of which correlates by 0.975; mixed; and which block, 0 or 1."""
    factor = torch.randint(2, (count,), generator=generator)
    first, fresh = (torch.randn(count, 8, generator=generator) for _ in range(2))
    together = losses.RHO * first + (1 - losses.RHO**2) ** 0.5 * fresh
    block = torch.arange(3).repeat_interleave(torch.tensor(SIZES))
    second = torch.where(block == factor[:, None], together, fresh)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5)))[0]
    mixed = [1.5 * z @ rotation for z in (first, second)]
    return mixed[0] + 0.5 * mixed[0].tanh(), mixed[1] + 0.5 * mixed[1].tanh(), factor


def correlation(a: Tensor, b: Tensor) -> float:
    """Mean over dimensions of the correlation across pairs."""
    a, b = (x - x.mean(0) for x in (a, b))
    return float(((a * b).mean(0) / (a.square().mean(0) * b.square().mean(0)).sqrt()).mean())


def test_factors_are_found() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    options = {"dim": 8, "depth": 4, "hidden": 48, "layers": 1, "sizes": "3,3,2"}
    net = zoo.build("iin/tiny-factors", **options)
    optimizer = adam(net.parameters(), 2e-3)
    for _ in range(250):
        first, second, factor = sources(64, generator)
        *z, logdet = net(torch.cat([first, second]))
        halves, logdets = [part.chunk(2) for part in z], logdet.chunk(2)
        loss = losses.factor([h[0] for h in halves], [h[1] for h in halves], logdets[0], logdets[1], factor).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first, second, factor = sources(4000, generator)
    with torch.no_grad():
        *a, _ = net.eval()(first)
        *b, _ = net(second)
    for shared in (0, 1):
        rows = factor == shared
        for index in range(3):
            found = correlation(a[index][rows], b[index][rows])
            assert found > 0.9 if index == shared else abs(found) < 0.2


def test_unsupervised_loss_falls_and_lengths_become_normal() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = zoo.build("iin/tiny", depth=3, hidden=32, layers=1)
    optimizer, values = adam(net.parameters(), 2e-3), []
    for _ in range(100):
        bent = sources(64, generator)[0]
        bent[:, 1:] += bent[:, :-1].square()
        terms = losses.unsupervised(*net(bent))
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        values.append(float(terms.loss.detach()))
    assert np.mean(values[-20:]) < np.mean(values[:20]) - 0.3
    assert float(terms.nll.detach()) == pytest.approx(4, abs=1)


def test_learning_rate_is_set_after_the_step() -> None:
    optimizer = adam([torch.nn.Parameter(torch.zeros(1))], 1.0)
    rates = schedule(optimizer, 1, 6)
    used = []
    for _ in range(6):
        used.append(rates.get_last_lr()[0])
        optimizer.step()
        rates.step()
    assert used == pytest.approx([1, 1, 1, 0.8, 0.6, 0.4])
    assert decay(7, 1, 6) == 0
    with pytest.raises(ValueError, match="before the last of 6 steps, got 6"):
        schedule(optimizer, 6, 6)


class Squares(nn.Module):
    """Stands for LPIPS."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3), keepdim=True)


class Noise:
    """Images of noise, as a data set."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index)) * 2 - 1}


@pytest.mark.parametrize("spectral", [False, True])
def test_discriminator_joins_late_and_rests_in_evaluation(tmp_path: Path, spectral: bool) -> None:
    torch.manual_seed(0)
    network = zoo.build("iin/cmnist-ae", width=4, latent=6)
    judge = discriminator(3, 32, 4, spectral=spectral).build()
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    experiment = AdversarialAutoencoding(network, Squares(), 1e-3, 0, 4, judge=judge, start=2, judge_rate=1e-3)
    settings = Fit(steps=2, batch=4, every=2, keep_best=False)
    fit(experiment, Data(Noise(), Noise()), tmp_path / "a", settings, Console(quiet=True))
    assert all(torch.equal(value, before[key]) for key, value in judge.state_dict().items())
    fit(experiment, Data(Noise(), Noise()), tmp_path / "b", settings, Console(quiet=True))
    assert int(experiment.seen) == 4
    moved = {key for key, value in judge.state_dict().items() if not torch.equal(value, before[key])}
    assert {"conv_0.weight", "conv_4.weight", "norm_1.running_mean"} <= moved
    batches = {"norm_1.num_batches_tracked": 6}  # three passes of each of two steps, none in validation
    assert {key: int(judge.state_dict()[key]) for key in batches} == batches


@pytest.mark.parametrize(("plan", "factor"), [({}, 1), ({"batch": 128}, 2), ({"batch": 16, "accumulate": 2}, 0.5)])
def test_learning_rate_is_proportional_to_the_samples_of_a_step(
    plan: dict[str, int], factor: float, tmp_path: Path
) -> None:
    """The digits' batches are of 64; section 3.2: a base rate times the batch."""
    train(Context("iin/tiny-classifier", tmp_path, Console(quiet=True)), Plan(steps=2, validation=4, **plan))
    facts = json.loads((tmp_path / "training" / "iin" / "tiny-classifier" / "fit.json").read_text())
    assert float(facts["hparams.rate"]) == pytest.approx(1e-3 * factor)


def test_another_network_or_first_stage_is_another_run(tmp_path: Path) -> None:
    context, plan = Context("iin/tiny-factors", tmp_path, Console(quiet=True)), Plan(steps=2, batch=4)
    train(context, plan, options={"sizes": "3,3,2"})
    with pytest.raises(ValueError, match="other settings(.|\n)*graph"):
        train(context, plan, options={"sizes": "2,3,3"})
    weights.save(zoo.build("iin/tiny-ae"), context.file("iin/tiny-ae"))
    with pytest.raises(ValueError, match="other settings(.|\n)*first stage"):
        train(context, plan, options={"sizes": "3,3,2"})
