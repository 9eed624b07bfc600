"""The whole demo in miniature: everything is written, makes sense, and is reused."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from zoo import weights
from zoo.demo import job
from zoo.demo.evaluation import MEANINGS
from zoo.demo.settings import Settings
from zoo.training.experiment import Experiment

TINY = Settings.of(
    networks="small", classifier_epochs=3, autoencoder_epochs=3, flow_epochs=3, every=1, batch=256, draws=1
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the miniature demo has run."""
    folder = tmp_path_factory.mktemp("demo")
    job.run(TINY, folder, Console(quiet=True))
    shutil.copy(folder / "metrics.json", folder / "first.json")
    return folder


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The training steps made while a test runs."""
    made: list[int] = []
    original = Experiment.training_step

    def counted(self: Experiment, batch: tuple[torch.Tensor, ...], batch_idx: int) -> torch.Tensor:
        made.append(batch_idx)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Experiment, "training_step", counted)
    yield made


def test_all_files_and_figures_are_there(done: Path) -> None:
    for name in job.FILES:
        assert (done / name).stat().st_size > 0, name
    metrics = json.loads((done / "metrics.json").read_text())
    assert set(MEANINGS) <= set(metrics)
    assert all(math.isfinite(metrics[key]) for key in MEANINGS)
    for key in ("class_kept", "conditioner_time_share", "classifier_accuracy", "share_not_fixed"):
        assert 0 <= metrics[key] <= 1.2
    assert metrics["round_trip_error"] < 1e-4


def test_the_report_needs_no_other_file(done: Path) -> None:
    page = (done / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4 and "<svg" in page
    assert 'src="http' not in page and "<link" not in page
    assert all(f"<code>{key}</code>" in page for key in MEANINGS)


def test_the_weights_rebuild_the_translation(done: Path) -> None:
    flow = weights.load(done / "weights" / "translator.safetensors")
    x, known = torch.randn(3, 8), torch.randn(3, 16)
    z, logdet = flow(x=x, condition=known)
    back, reverse = flow.inverse(z=z, condition=known)
    torch.testing.assert_close(back, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(reverse, -logdet, atol=1e-4, rtol=1e-4)


def test_a_second_run_trains_and_draws_nothing(done: Path, steps: list[int]) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    metrics = job.run(TINY, done, Console(quiet=True))
    assert metrics == {key: json.loads((done / "metrics.json").read_text())[key] for key in MEANINGS}
    assert steps == [] and before == {path: path.stat().st_mtime_ns for path in done.rglob("*")}


def test_a_missing_picture_is_drawn_again_without_training(done: Path, steps: list[int]) -> None:
    (done / "swapped.png").unlink()
    job.run(TINY, done, Console(quiet=True))
    assert (done / "swapped.png").is_file() and steps == []


def test_other_flow_settings_train_the_flow_alone_and_fresh_trains_all(done: Path, steps: list[int]) -> None:
    (done / "mine.txt").write_text("not the demo's")
    longer = Settings.of(**{**vars(TINY), "flow_epochs": 4})
    job.run(longer, done, Console(quiet=True))
    assert len(steps) == 4 * (1259 // 256)
    job.run(longer, done, Console(quiet=True), fresh=True)
    assert len(steps) == (4 + 3 + 3 + 4) * (1259 // 256)
    assert (done / "mine.txt").is_file()


def test_the_same_seed_gives_the_same_figures(done: Path, tmp_path: Path) -> None:
    first = json.loads((done / "first.json").read_text())
    second = job.run(TINY, tmp_path, Console(quiet=True))
    for key in MEANINGS.keys() - {"seconds", "conditioner_time_share", "conditioner_time_share_sampling"}:
        assert first[key] == second[key], key


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="settings among seed, networks, .* got epochs"):
        Settings.of(epochs=3)
    with pytest.raises(ValueError, match="flow_epochs expects int, got 2.5"):
        Settings.of(flow_epochs=2.5)
    with pytest.raises(ValueError, match="multiple of every=5, got 7"):
        Settings.of(flow_epochs=7)
    with pytest.raises(ValueError, match="default or small, got 'big'"):
        Settings.of(networks="big")
    with pytest.raises(ValueError, match="draws: expected at least 1, got 0"):
        Settings.of(draws=0)
