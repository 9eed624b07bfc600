"""A run that was interrupted ends bit for bit where a whole one does; two processes are one with the double batch."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from flowkit import graph as g
from zoo.training.batches import seeded
from zoo.training.draws import Data, Positions
from zoo.training.fit import Fit, Fitted, fit, load_weights, save_weights
from zoo.training.record import TRAINING

QUIET = Console(quiet=True)


class Stoppable(lightning.LightningModule):
    """Gets a Ctrl-C when it is told to."""

    stop_at: int | None = None
    batches_run = 0

    def count(self) -> None:
        if Stoppable.batches_run == Stoppable.stop_at:
            signal.raise_signal(signal.SIGINT)
        Stoppable.batches_run += 1


@pytest.fixture(autouse=True)
def undisturbed() -> None:
    Stoppable.stop_at, Stoppable.batches_run = None, 0


class Regression(Stoppable):
    """Noisy inputs and dropout: every step draws random numbers."""

    def __init__(self, learning_rate: float = 1e-2, noise: float = 0.1, dropout: float = 0.2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.count()
        x, y = batch
        return F.mse_loss(self.network(x + self.hparams["noise"] * torch.randn_like(x)), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("validation", F.mse_loss(self.network(batch[0]), batch[1]), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=24)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Plain(Regression):
    """Without noise, dropout or batch statistics."""

    def __init__(self) -> None:
        super().__init__(noise=0.0, dropout=0.0)


class Adversarial(Stoppable):
    """Two networks, two optimisers, stepped by hand; no validation."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(3, 1), nn.Linear(1, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.count()
        first, second = self.optimizers()
        fake = self.generator(batch[0] + torch.randn_like(batch[0]))
        loss = F.softplus(-self.discriminator(fake)).mean()
        self.toggle_optimizer(first)
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        judged = F.softplus(-self.discriminator(batch[1])) + F.softplus(self.discriminator(fake.detach()))
        second.zero_grad()
        self.manual_backward(judged.mean())
        second.step()
        self.untoggle_optimizer(second)
        return loss

    def configure_optimizers(self) -> Any:
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(network.parameters(), 1e-2, betas=(0.5, 0.9)) for network in networks]


def conditional_flow() -> g.BuiltGraph:
    """Two steps of the conditional flow of Net2Net, with actnorms that the first batch initialises."""
    x, condition = g.input("x", 6), g.input("condition", 3)
    for step in range(2):
        x = g.actnorm(x, log_scale=False, name=f"actnorm{step}")
        for half in range(2):
            net = g.nets.mlp(hidden=16, depth=1)
            x = g.affine_coupling(x, condition=condition, net=net, clamp="tanh", name=f"coupling{step}{half}")
            x = g.swap(x)
        x = g.shuffle(x, name=f"shuffle{step}")
    return g.graph(z=x).build()


class Likelihood(Stoppable):
    """The mean negative log-likelihood of a flow, Adam with amsgrad."""

    def __init__(self) -> None:
        super().__init__()
        self.network = conditional_flow()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        z, log_det = self.network(x=batch[0], condition=batch[1])
        return (0.5 * z.square().sum(1)).mean() - log_det.mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-3, amsgrad=True)


def regression_data(count: int = 50) -> Data:
    x = torch.randn(count + 10, 3, generator=torch.Generator().manual_seed(0))
    y = x.prod(1, keepdim=True)
    return Data(TensorDataset(x[:count], y[:count]), TensorDataset(x[count:], y[count:]))


def flow_data() -> Data:
    x = torch.randn(64, 9, generator=torch.Generator().manual_seed(1)) * 3 + 1
    return Data(TensorDataset(x[:, :6], x[:, 6:]))


def run(kind: type[Stoppable], out: Path, settings: Fit, data: Data, **given: Any) -> tuple[Stoppable, Fitted]:
    torch.manual_seed(7)
    experiment = kind()
    return experiment, fit(experiment, data, out, settings, QUIET, **given)


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in first.state_dict().items())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell that starts the tests in the background makes them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kind, stop_at", [(Regression, 12), (Regression, 17), (Adversarial, 12), (Adversarial, 5)])
def test_an_interrupted_run_ends_where_a_whole_one_does(kind: type[Stoppable], stop_at: int, tmp_path: Path) -> None:
    data = regression_data()
    if kind is Adversarial:
        data = Data(data.train)
    settings = Fit(steps=24, batch=8, every=4, seed=5, accelerator="cpu")  # chunks end in the middle of a pass
    whole, expected = run(kind, tmp_path / "whole", settings, data)
    Stoppable.stop_at, Stoppable.batches_run = stop_at, 0
    with pytest.raises(KeyboardInterrupt):
        run(kind, tmp_path / "broken", settings, data)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the next Ctrl-C works as well"
    Stoppable.stop_at, Stoppable.batches_run = None, 0
    resumed, fitted = run(kind, tmp_path / "broken", settings, data)
    assert Stoppable.batches_run == 24 - stop_at // 4 * 4, "it went on from the last checkpoint"
    assert same(whole, resumed)
    curves = [[(mark["step"], mark["train"], mark["validation"]) for mark in f.history] for f in (expected, fitted)]
    assert curves[0] == curves[1] and [step for step, *_ in curves[0]] == [4, 8, 12, 16, 20, 24]
    last = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "broken")
    ]
    states = [[optimizer["state"] for optimizer in checkpoint["optimizer_states"]] for checkpoint in last]
    assert len(states[0]) == (2 if kind is Adversarial else 1)
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


class Jittered:
    """Samples with noise drawn from the generator of their position."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def draw(self, index: int, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        x, y = (tensor[index] for tensor in self.tensors)
        return x + torch.from_numpy(random.normal(size=x.shape).astype(np.float32)), y


def test_random_samples_are_alike_however_they_are_loaded(tmp_path: Path) -> None:
    train = regression_data().train
    assert isinstance(train, TensorDataset)
    data, other = Data(Jittered(train.tensors)), Data(train)
    here, a = run(Plain, tmp_path / "here", Fit(8, 8, 4, accelerator="cpu"), data)
    there, b = run(Plain, tmp_path / "there", Fit(8, 8, 4, accelerator="cpu", workers=2), data)
    still, c = run(Plain, tmp_path / "still", Fit(8, 8, 4, accelerator="cpu"), other)
    assert same(here, there) and not same(here, still)
    assert [mark["train"] for mark in a.history] == [mark["train"] for mark in b.history]


def test_a_finished_run_is_read_and_keeps_the_best_weights(tmp_path: Path) -> None:
    settings = Fit(steps=12, batch=8, every=2, accelerator="cpu")
    first, fitted = run(Regression, tmp_path, settings, regression_data())
    count = Stoppable.batches_run
    second, again = run(Regression, tmp_path, settings, regression_data())
    assert Stoppable.batches_run == count == 12 and same(first, second) and again == fitted
    validation = regression_data().validation
    assert isinstance(validation, TensorDataset)
    x, y = validation.tensors
    best = min(mark["validation"] for mark in fitted.history if mark["validation"] is not None)
    network = first.eval().network
    assert isinstance(network, nn.Module) and float(F.mse_loss(network(x), y).detach()) == pytest.approx(best, rel=1e-5)
    assert any(path.name.startswith("events.out.tfevents") for path in (tmp_path / "logs").iterdir())


def test_changed_settings_are_refused_and_start_over_on_request(tmp_path: Path) -> None:
    run(Regression, tmp_path, Fit(steps=4, batch=8, every=2, accelerator="cpu"), regression_data())
    other = Fit(steps=4, batch=4, every=2, accelerator="cpu")
    with pytest.raises(ValueError, match=r"other settings.*--fresh(.|\n)*batch: 8 there, 4 asked"):
        run(Regression, tmp_path, other, regression_data())
    with pytest.raises(ValueError, match=r"hparams.noise: 0.1 there, 0.3 asked"):
        fit(Regression(noise=0.3), regression_data(), tmp_path, Fit(4, 8, 2, accelerator="cpu"), QUIET)
    _, fitted = run(Regression, tmp_path, other, regression_data(), restart=True)
    fresh, expected = run(Regression, tmp_path / "fresh", other, regression_data())
    assert [mark["train"] for mark in fitted.history] == [mark["train"] for mark in expected.history]
    last = tmp_path / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    for kept in (500, len(whole) // 2):
        last.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="expected a torch file .*--fresh on the command line, restart=True in P"):
            run(Regression, tmp_path, other, regression_data())


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    data = regression_data()
    halves, a = run(Plain, tmp_path / "a", Fit(10, 4, 2, accumulate=2, accelerator="cpu"), data)
    large, b = run(Plain, tmp_path / "b", Fit(10, 8, 2, accelerator="cpu"), data)
    assert [m["train"] for m in a.history] == pytest.approx([m["train"] for m in b.history], abs=1e-6)
    torch.testing.assert_close(halves.state_dict(), large.state_dict(), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="Adversarial steps its optimisers itself"):
        run(Adversarial, tmp_path / "c", Fit(10, 4, 2, accumulate=2, accelerator="cpu"), data)


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {"accumulate": 2}])
def test_the_likelihood_rises(options: dict[str, Any], tmp_path: Path) -> None:
    _, fitted = run(Likelihood, tmp_path, Fit(60, 16, 10, accelerator="cpu", **options), flow_data())
    losses = [mark["train"] for mark in fitted.history]
    assert losses[-1] < losses[0] - 0.2 and all(np.isfinite(losses))


class Noisy(Likelihood):
    """A loss with a mean of noise that is drawn in the step; the gradient does not depend on it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        noise = torch.randn(len(batch[0])).mean()
        return super().training_step(batch, batch_idx) + noise


def test_two_processes_are_one_with_the_double_batch_but_for_noise_that_a_step_draws(tmp_path: Path) -> None:
    """Data with noise of their own are the same; noise of a step is independent on every rank."""
    train = flow_data().train
    assert isinstance(train, TensorDataset)
    data = Data(Jittered(train.tensors))
    one, single = run(Noisy, tmp_path / "one", Fit(6, 16, 1, accelerator="cpu"), data)
    two, shared = run(Noisy, tmp_path / "two", Fit(6, 8, 1, devices=2, accelerator="cpu"), data)
    torch.testing.assert_close(two.state_dict(), one.state_dict(), rtol=0, atol=1e-5)
    state = two.state_dict()
    assert state["network.actnorm0.initialized"] and state["network.actnorm0.scale"].ne(1).all()

    def noise(step: int, rank: int, count: int) -> float:
        return float(torch.randn(count, generator=seeded(0, TRAINING, step, rank)).mean())

    assert len(shared.history) == 6
    for step, (a, b) in enumerate(zip(single.history, shared.history, strict=True)):
        ranks = [noise(step, rank, 8) for rank in (0, 1)]
        assert abs(ranks[0] - ranks[1]) > 1e-3
        assert a["train"] - noise(step, 0, 16) == pytest.approx(b["train"] - sum(ranks) / 2, abs=1e-5)


def test_positions_share_out_one_order() -> None:
    def indices(batch: int, batches: int, chunk: int = 0, rank: int = 0, ranks: int = 1) -> list[list[int]]:
        positions = Positions(10, batch, batches, seed=3, rank=rank, ranks=ranks)
        positions.chunk = chunk
        return [[index for index, _ in drawn] for drawn in positions]

    flat = [index for drawn in indices(1, 20) for index in drawn]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10)) and flat[:10] != flat[10:]
    assert sum(indices(4, 3, 0) + indices(4, 2, 1), [])[:12] == flat[:12]
    assert sum(indices(4, 2, 1), []) == flat[8:16]
    first, second = indices(2, 3, 0, 0, 2), indices(2, 3, 0, 1, 2)
    assert [a + b for a, b in zip(first, second, strict=True)] == indices(4, 3)


def test_a_trained_graph_is_a_file(tmp_path: Path) -> None:
    network = conditional_flow()
    x, condition = torch.randn(8, 6), torch.randn(8, 3)
    z, log_det = network(x=x, condition=condition)
    file = save_weights(tmp_path, "flow", network, {"paper": "Net2Net", "steps": 3})
    assert file == tmp_path / "flow.safetensors"
    again, again_log_det = load_weights(tmp_path, "flow")(x=x, condition=condition)
    torch.testing.assert_close((again, again_log_det), (z, log_det))


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps: expected a multiple of every = 4, got 10"):
        Fit(steps=10, batch=1, every=4)
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        Fit(steps=4, batch=0, every=4)
    with pytest.raises(ValueError, match="expected '32-true' or 'bf16-mixed', got '16'"):
        Fit(steps=4, batch=1, every=4, precision="16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples in the train part, got none"):
        run(Regression, tmp_path, Fit(4, 1, 4), Data([]))
