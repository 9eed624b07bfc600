"""A stage that was interrupted ends where an uninterrupted one does, and a finished one is not trained again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from flowkit import graph as g
from zoo import weights
from zoo.training.batches import Batches
from zoo.training.experiment import Experiment
from zoo.training.stage import Stage, Trained, run

EPOCHS = 8


class Regression(Experiment):
    """Fits noisy inputs with dropout, so that every step draws random numbers; stops where it is told."""

    stop_at: int | None = None
    error: type[BaseException] = KeyboardInterrupt
    steps_run = 0

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        Regression.steps_run += 1
        if self.current_epoch == Regression.stop_at:
            raise Regression.error
        x, y = batch
        return F.mse_loss(self.network(x + 0.1 * torch.randn_like(x)), y)

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        return F.mse_loss(self.network(batch[0]), batch[1])


@pytest.fixture(autouse=True)
def undisturbed() -> None:
    Regression.stop_at, Regression.steps_run, Regression.error = None, 0, KeyboardInterrupt


def stage(fingerprint: str = "a") -> Stage:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    y = x.prod(1, keepdim=True)
    value = g.dropout(g.mlp(g.input("x", 3), 16, hidden=16, depth=0), 0.2)
    return Stage(
        name="regression",
        title="Regression",
        unit="squared error",
        graph=g.graph(y=g.linear(value, 1)),
        experiment=lambda network: Regression(network, learning_rate=1e-2, weight_decay=0.0, steps=EPOCHS * 4, seed=5),
        batches=Batches(x[:32], y[:32], size=8, seed=5),
        validation=(x[32:], y[32:]),
        epochs=EPOCHS,
        every=2,
        seed=5,
        fingerprint=fingerprint,
    )


@pytest.fixture
def train() -> Callable[..., Trained]:
    """Runs a stage in a folder, into a console that nobody reads."""
    return lambda folder, chosen=None: run(chosen or stage(), folder, Console(quiet=True))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_an_interrupted_stage_ends_where_an_uninterrupted_one_does(
    train: Callable[..., Trained], tmp_path: Path, stop_at: int, error: type[BaseException]
) -> None:
    whole = train(tmp_path / "whole")
    Regression.stop_at, Regression.error = stop_at, error
    with pytest.raises(error):
        train(tmp_path / "broken")
    Regression.stop_at, Regression.steps_run = None, 0
    resumed = train(tmp_path / "broken")
    assert Regression.steps_run == 4 * (EPOCHS - stop_at // 2 * 2), "it went on from the last checkpoint"
    assert [p["validation"] for p in resumed.history] == [p["validation"] for p in whole.history]
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["regression.safetensors"]


def test_a_finished_stage_is_read_not_trained(train: Callable[..., Trained], tmp_path: Path) -> None:
    first = train(tmp_path)
    steps = Regression.steps_run
    second = train(tmp_path)
    assert second.reused and not first.reused and Regression.steps_run == steps
    assert second.history == first.history
    assert not second.network.training and not any(p.requires_grad for p in second.network.parameters())
    train(tmp_path, stage(fingerprint="b"))
    assert Regression.steps_run == 2 * steps, "other settings are trained anew"


def test_the_network_kept_is_the_best_on_the_validation_part(train: Callable[..., Trained], tmp_path: Path) -> None:
    trained, chosen = train(tmp_path), stage()
    score = F.mse_loss(trained.network(chosen.validation[0]), chosen.validation[1])
    assert float(score) == pytest.approx(min(point["validation"] for point in trained.history), rel=1e-5)
    assert weights.load(tmp_path / "regression.safetensors").graph == chosen.graph


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_checkpoint_cut_short_starts_the_stage_over(
    kept: float, train: Callable[..., Trained], tmp_path: Path
) -> None:
    Regression.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    last = tmp_path / "regression.checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: int(kept * len(whole))])
    Regression.stop_at, Regression.steps_run = None, 0
    train(tmp_path)
    assert Regression.steps_run == 4 * EPOCHS


def test_training_leaves_the_callers_randomness_alone(train: Callable[..., Trained], tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.randn(3)
    torch.manual_seed(3)
    train(tmp_path)
    assert torch.equal(torch.randn(3), expected)


def test_a_stop_between_the_last_epoch_and_the_weights_trains_nothing_again(
    train: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole")

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(weights, "save", killed)
        train(tmp_path / "broken")
    Regression.steps_run = 0
    resumed = train(tmp_path / "broken")
    assert Regression.steps_run == 0
    assert [p["validation"] for p in resumed.history] == [p["validation"] for p in whole.history]
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
