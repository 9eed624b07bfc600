"""One stage of a job: trains a network, goes on after an interruption, and is not trained again once finished."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from torch import Tensor

from flowkit.graph import BuiltGraph, Graph
from zoo import weights
from zoo.training.batches import Batches, mixed
from zoo.training.experiment import Experiment, Point
from zoo.training.progress import StageProgress
from zoo.training.trainer import keyboard_interrupt, quiet


@dataclass(frozen=True)
class Stage:
    """What is to be trained.

    Arguments:
        name: of the weight file and the checkpoints.
        title: of the heading.
        unit: of the losses shown.
        graph: the network.
        experiment: wraps the built network into its Lightning module.
        batches: the training part.
        validation: one batch, the validation part.
        epochs: passes over the training part.
        every: epochs between validations and checkpoints.
        seed: of initialisation and training.
        fingerprint: changes with anything that changes the result: settings, seed, the stages before.
    """

    name: str
    title: str
    unit: str
    graph: Graph
    experiment: Callable[[BuiltGraph], Experiment]
    batches: Batches
    validation: tuple[Tensor, ...]
    epochs: int
    every: int
    seed: int
    fingerprint: str


@dataclass(frozen=True)
class Trained:
    """A finished stage: the network, frozen and in eval mode, with the best score on the validation part."""

    network: BuiltGraph
    history: list[Point]
    fingerprint: str
    reused: bool

    @property
    def seconds(self) -> float:
        """Time that the training took, interruptions left out."""
        return self.history[-1]["seconds"]


def run(stage: Stage, folder: Path, console: Console) -> Trained:
    """Trains a stage, or goes on where an interrupted run stopped, or reads what a finished run left.

    Writes ``<folder>/<name>.safetensors`` with graph, history and fingerprint in the metadata. While it trains,
    checkpoints of Lightning lie in ``<folder>/<name>.checkpoints``.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the next call goes on from the last checkpoint.
    """
    console.rule(f"[bold]{stage.title}[/bold] ({stage.graph.parameters:,} parameters)", align="left", style="dim")
    trained = _finished(stage, folder) or _trained(stage, folder, console)
    best = min(trained.history, key=lambda point: point["validation"])
    console.print(
        f"  {'trained before' if trained.reused else 'trained'} in {trained.seconds:.0f} s; "
        f"best validation {best['validation']:.3f} {stage.unit}, after epoch {best['epoch']}",
        highlight=False,
        soft_wrap=True,
    )
    return trained


def forget(folder: Path, *patterns: str) -> None:
    """Removes the files and folders in a folder whose names match one of the patterns, and nothing else there."""
    for path in {path for pattern in patterns for path in folder.glob(pattern)}:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _trained(stage: Stage, folder: Path, console: Console) -> Trained:
    begun, checkpoints = time.perf_counter(), folder / f"{stage.name}.checkpoints"
    resume, start = _resumable(stage, checkpoints)
    if start:
        console.print(f"  going on after epoch {start} of {stage.epochs}", highlight=False)
    with torch.random.fork_rng():
        torch.manual_seed(mixed(stage.seed))
        network = stage.graph.build()
        experiment = stage.experiment(network)
        with StageProgress(console, stage.epochs, stage.unit) as progress:
            progress.advance(start)
            stage.batches.epoch = start
            best = _fit(stage, experiment, _Reporter(progress, stage.batches, begun), checkpoints, resume)
    prefix = "network."
    state = weights.read_torch(best)["state_dict"]
    network.load_state_dict({key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)})
    notes = {"fingerprint": stage.fingerprint, "history": json.dumps(experiment.history)}
    weights.save(network, _file(stage, folder), notes)
    shutil.rmtree(checkpoints)
    return Trained(_frozen(network), experiment.history, stage.fingerprint, reused=False)


class _Reporter(lightning.Callback):
    """Feeds the history and the progress display, and tells the batches which epoch it is."""

    def __init__(self, progress: StageProgress, batches: Batches, begun: float) -> None:
        self.progress, self.batches, self.begun = progress, batches, begun

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Experiment)
        if pl_module.history:
            self.begun -= pl_module.history[-1]["seconds"]

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Experiment)
        point = pl_module.record(time.perf_counter() - self.begun)
        self.progress.measured(point["epoch"], point["train"], point["validation"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.batches.epoch = trainer.current_epoch + 1
        self.progress.advance(trainer.current_epoch + 1)


def _fit(stage: Stage, experiment: Experiment, reporter: _Reporter, checkpoints: Path, resume: Path | None) -> str:
    """Runs the trainer; returns the path of the best checkpoint."""
    keeper = ModelCheckpoint(
        checkpoints,
        "best",
        monitor="validation",
        save_last=True,
        every_n_epochs=stage.every,
        save_on_train_epoch_end=True,
    )
    validation = Batches(*stage.validation, size=len(stage.validation[0]), seed=stage.seed)
    with quiet(), keyboard_interrupt():
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=stage.epochs,
            check_val_every_n_epoch=stage.every,
            num_sanity_val_steps=0,
            gradient_clip_val=5.0,
            callbacks=[reporter, keeper],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(experiment, stage.batches, validation, ckpt_path=resume, weights_only=True)
    return keeper.best_model_path


def _file(stage: Stage, folder: Path) -> Path:
    return folder / f"{stage.name}.safetensors"


def _finished(stage: Stage, folder: Path) -> Trained | None:
    """What an earlier run of the same stage left, if there is one."""
    file = _file(stage, folder)
    if not file.is_file():
        return None
    notes: dict[str, Any] = weights.read(file)[1]
    if notes.get("fingerprint") != stage.fingerprint:
        return None
    return Trained(_frozen(weights.load(file)), json.loads(notes["history"]), stage.fingerprint, reused=True)


def _resumable(stage: Stage, checkpoints: Path) -> tuple[Path | None, int]:
    """The last checkpoint of an interrupted run of the same stage and the epochs it has done; others are removed."""
    mark, last = checkpoints / "fingerprint", checkpoints / "last.ckpt"
    if mark.is_file() and mark.read_text() == stage.fingerprint and last.is_file():
        with suppress(ValueError):  # a file that was being written when the run was killed
            return last, int(weights.read_torch(last)["epoch"]) + 1
    shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True)
    mark.write_text(stage.fingerprint)
    return None, 0


def _frozen(network: BuiltGraph) -> BuiltGraph:
    return network.eval().requires_grad_(False)
