"""Trains any Lightning module of the zoo: step by step, resumable to the bit, on one process or several."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from torch import nn

from flowkit.graph import BuiltGraph
from zoo import weights
from zoo.extras import require
from zoo.training.draws import Data, Loaders
from zoo.training.record import Mark, Record
from zoo.training.trainer import keyboard_interrupt, quiet

__all__ = ["Data", "Fit", "Fitted", "Mark", "fingerprint", "fit", "load_weights", "save_weights"]

RESTART = "--fresh on the command line, restart=True in Python"


@dataclass(frozen=True)
class Fit:
    """How long, on what and how a module is trained.

    Arguments:
        steps: optimiser steps in all (with several optimisers: batches), a multiple of ``every``.
        batch: samples a batch, of each device.
        every: steps between validations; each is followed by a checkpoint.
        accumulate: batches a step, their gradients averaged; for modules with automatic optimisation.
        precision: "32-true" or "bf16-mixed".
        devices: processes that share a step, each with a batch of its own.
        accelerator: "auto" takes a GPU if there is one.
        seed: of the order of the data and of the noise.
        workers: processes that load data, of each device; 0 loads in the training process. Results are the same.
        keep_best: whether the module ends with the weights that had the lowest "validation", not with the last.
    """

    steps: int
    batch: int
    every: int
    accumulate: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    devices: int = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    workers: int = 0
    keep_best: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "every", "accumulate", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.steps % self.every:
            raise ValueError(f"steps: expected a multiple of every = {self.every}, got {self.steps}")
        if self.workers < 0:
            raise ValueError(f"workers: expected at least 0, got {self.workers}")
        if self.precision not in ("32-true", "bf16-mixed"):
            raise ValueError(f"precision: expected '32-true' or 'bf16-mixed', got {self.precision!r}")


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    Arguments:
        history: a mark for every ``every`` steps.
        checkpoint: the file whose weights the module has now.
    """

    history: list[Mark]
    checkpoint: Path


def fit(
    experiment: lightning.LightningModule,
    data: Data,
    out: Path,
    settings: Fit,
    console: Console,
    *,
    identity: Mapping[str, str] | None = None,
    restart: bool = False,
) -> Fitted:
    """Trains ``experiment``, or goes on where an interrupted run in ``out`` stopped, and loads its weights.

    Writes ``checkpoints/last.ckpt`` and ``best.ckpt``, ``fit.json`` with the settings, and TensorBoard's files to
    ``logs``. The module logs its score as "validation" (lower is better) in ``validation_step`` if there is a
    validation part. An interrupted run ends with exactly the weights of an uninterrupted one. Schedules count steps
    (``interval: "step"``): an epoch of Lightning's is ``every`` steps here.

    Two devices with batch B give the loss curve of one with batch 2 B, to rounding, as far as noise is drawn in the
    data (see :class:`zoo.training.draws.RandomExamples`). What a step draws itself, such as posterior samples of an
    autoencoder and dropout, is drawn anew and independently on every device: there the curves agree in expectation, not
    number by number. Several devices are several processes, so the module and the data have to be picklable.

    Arguments:
        experiment: its ``hparams`` are settings as well, if it saved any, and so are the graphs of its networks.
        identity: further facts of the run, by name, such as a :func:`fingerprint` of a fixed network that it relies on.
        restart: removes the checkpoints and logs of an earlier run in ``out`` first.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the same call goes on from the last checkpoint.
        ValueError: if ``out`` holds a run with other settings or a broken checkpoint, or for settings that do not fit.
    """
    require("tensorboard")
    _check(experiment, data, settings)
    checkpoints, last = out / "checkpoints", out / "checkpoints" / "last.ckpt"
    if restart:
        for folder in (checkpoints, out / "logs"):
            shutil.rmtree(folder, ignore_errors=True)
        (out / "fit.json").unlink(missing_ok=True)
    _claim(out, _facts(experiment, data, settings) | {**(identity or {})})
    done = _steps_done(last, settings)
    if done:
        console.print(f"  going on after step {done} of {settings.steps}", highlight=False)
    if done < settings.steps:
        with torch.random.fork_rng(), quiet(), keyboard_interrupt():
            _train(experiment, data, out, settings, console, last if done else None)
    state = _read(last)
    record = _state(state, "Record")
    kept = last
    if settings.keep_best and data.validation is not None:
        kept = checkpoints / "best.ckpt"
        state = _read(kept)
    experiment.load_state_dict(state["state_dict"])
    return Fitted(record["history"], kept)


def fingerprint(network: nn.Module) -> str:
    """A hash of a network's weights, names and shapes included."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_weights(out: Path, name: str, network: BuiltGraph, notes: Mapping[str, Any]) -> Path:
    """Writes ``<out>/<name>.safetensors``, graph included; notes that are no text as JSON. Returns the path."""
    file = out / f"{name}.safetensors"
    weights.save(network, file, {k: v if isinstance(v, str) else json.dumps(v) for k, v in notes.items()})
    return file


def load_weights(out: Path, name: str) -> BuiltGraph:
    """What ``save_weights`` wrote, in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    return weights.load(out / f"{name}.safetensors")


def _train(
    experiment: lightning.LightningModule,
    data: Data,
    out: Path,
    settings: Fit,
    console: Console,
    resume: Path | None,
) -> None:
    chunks = settings.steps // settings.every
    batches = settings.every * settings.accumulate
    trainer = lightning.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=_strategy(experiment, settings),
        precision=settings.precision,
        max_epochs=chunks,
        accumulate_grad_batches=settings.accumulate,
        limit_val_batches=None if data.validation is not None else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, settings.every),
        use_distributed_sampler=False,
        callbacks=[
            Record(settings.every, chunks, settings.accumulate, settings.seed, console),
            *_keepers(out / "checkpoints", settings.keep_best and data.validation is not None),
        ],
        logger=TensorBoardLogger(out, name="", version="logs"),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = Loaders(data, settings.batch, batches, settings.seed, settings.workers)
    trainer.fit(experiment, datamodule=loaders, ckpt_path=resume, weights_only=True)


def _keepers(folder: Path, best: bool) -> list[lightning.Callback]:
    """The newest checkpoint and, before it, so that it knows of it, the best."""
    keeper = partial(ModelCheckpoint, folder, save_on_train_epoch_end=True, enable_version_counter=False)
    last = keeper(filename="last")
    return [keeper(filename="best", monitor="validation"), last] if best else [last]


def _strategy(experiment: lightning.LightningModule, settings: Fit) -> Any:
    if settings.devices == 1:
        return "auto"
    # With several optimisers a backward pass reaches one network and leaves the others' parameters alone.
    return DDPStrategy(start_method="spawn", find_unused_parameters=not experiment.automatic_optimization)


def _check(experiment: lightning.LightningModule, data: Data, settings: Fit) -> None:
    if settings.accumulate > 1 and not experiment.automatic_optimization:
        raise ValueError(
            f"accumulate: {type(experiment).__name__} steps its optimisers itself; expected 1, "
            f"got {settings.accumulate}; take a larger batch"
        )
    for part, examples in (("train", data.train), ("validation", data.validation)):
        if examples is not None and len(examples) == 0:
            raise ValueError(f"data: expected samples in the {part} part, got none")


def _facts(experiment: lightning.LightningModule, data: Data, settings: Fit) -> dict[str, str]:
    """All that changes the result and can be told from outside, as text by name."""
    shapes = {key: list(value.shape) for key, value in experiment.state_dict().items()}
    facts = {key: value for key, value in asdict(settings).items() if key != "workers"}
    facts |= {f"hparams.{key}": value for key, value in experiment.hparams.items()}
    for name, part in experiment.named_children():
        if isinstance(part, BuiltGraph):
            facts[f"graph of {name}"] = hashlib.sha256(part.graph.to_yaml().encode()).hexdigest()[:16]
    facts["experiment"] = type(experiment).__qualname__
    facts["tensors"] = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()[:16]
    facts["training samples"] = len(data.train)
    facts["validation samples"] = 0 if data.validation is None else len(data.validation)
    return {key: str(value) for key, value in facts.items()}


def _claim(out: Path, facts: dict[str, str]) -> None:
    """Writes down the settings of a new run; refuses others than those of the run that is there."""
    mark = out / "fit.json"
    if not (mark.is_file() and (out / "checkpoints" / "last.ckpt").is_file()):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(facts, indent=1) + "\n")
        return
    there = json.loads(mark.read_text())
    changed = [key for key in sorted(there.keys() | facts.keys()) if there.get(key) != facts.get(key)]
    if changed:
        lines = [f"  {key}: {there.get(key, 'none')} there, {facts.get(key, 'none')} asked" for key in changed]
        raise ValueError(
            f"fit: {str(out)!r} holds a run with other settings; take another folder, or remove its checkpoints: "
            f"{RESTART}\n" + "\n".join(lines)
        )


def _steps_done(last: Path, settings: Fit) -> int:
    if not last.is_file():
        return 0
    history: list[Mark] = _state(_read(last), "Record")["history"]
    return history[-1]["step"]


def _state(checkpoint: dict[str, Any], callback: str) -> dict[str, Any]:
    states: dict[str, dict[str, Any]] = checkpoint["callbacks"]
    return next(state for key, state in states.items() if key.startswith(callback))


def _read(file: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = weights.read_torch(file)
    except ValueError as error:
        raise ValueError(f"fit: {error}; to remove it and begin anew: {RESTART}") from error
    return checkpoint
