"""The callback of a run: seeds every step, keeps the loss curve in the checkpoints, shows progress."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypedDict

import lightning
import torch
from rich.console import Console
from torch import Tensor

from zoo.training.batches import mixed
from zoo.training.draws import Loaders
from zoo.training.progress import StageProgress
from zoo.training.trainer import silence

TRAINING, VALIDATION = 3, 4  # tell the seeds of the two apart


class Mark(TypedDict):
    """One line of a run's curve.

    Keys:
        step: optimiser steps done.
        train: mean loss since the last mark over all ranks; nan if the experiment's training_step returns none.
        validation: mean of what was logged as "validation"; None without a validation part.
        seconds: time spent so far, interruptions left out.
    """

    step: int
    train: float
    validation: float | None
    seconds: float


class Record(lightning.Callback):
    """Makes the steps of a run independent of its interruptions, and remembers them.

    Every batch begins with torch seeded by (seed, batches done, rank), so that noise, dropout and posterior samples are
    the same whether or not the run was interrupted before, and independent on different ranks.

    Arguments:
        every: steps a chunk; a chunk is an epoch of Lightning's.
        chunks: of the run.
        accumulate: batches a step.
        seed: of the run.
        console: where progress is shown.
    """

    def __init__(self, every: int, chunks: int, accumulate: int, seed: int, console: Console) -> None:
        self.every, self.chunks, self.accumulate, self.seed = every, chunks, accumulate, seed
        self.history: list[Mark] = []
        self._console: Console | None = console
        self._progress: StageProgress | None = None
        self._losses: list[Tensor] = []
        self._begun = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # A console cannot go to another process; that one has its own.
        return {**self.__dict__, "_console": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        silence()

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._begun = time.perf_counter() - (self.history[-1]["seconds"] if self.history else 0.0)
        if trainer.is_global_zero:
            self._progress = StageProgress(self._console or Console(), self.chunks * self.every, "", "step")
            self._progress.__enter__()
            self._progress.advance(trainer.current_epoch * self.every)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        loaders = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(loaders, Loaders) and loaders.positions is not None
        loaders.positions.chunk = trainer.current_epoch

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.current_epoch * self.every * self.accumulate + batch_idx
        torch.manual_seed(mixed(self.seed, TRAINING, done, trainer.global_rank))

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        torch.manual_seed(mixed(self.seed, VALIDATION, batch_idx))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(outputs, Mapping) and "loss" in outputs:
            # Lightning has divided it by the batches a step.
            self._losses.append(outputs["loss"].detach().float() * trainer.accumulate_grad_batches)
        if self._progress:
            self._progress.advance(trainer.current_epoch * self.every + (batch_idx + 1) // self.accumulate)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        mean = torch.stack(self._losses).mean() if self._losses else torch.tensor(torch.nan, device=pl_module.device)
        validation = trainer.callback_metrics.get("validation")
        mark = Mark(
            step=(trainer.current_epoch + 1) * self.every,
            train=float(trainer.strategy.reduce(mean, reduce_op="mean")),
            validation=None if validation is None else float(validation),
            seconds=time.perf_counter() - self._begun,
        )
        self._losses.clear()
        self.history.append(mark)
        if self._progress:
            self._progress.measured(mark["step"], mark["train"], mark["validation"])

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._progress:
            self._progress.__exit__(None, None, None)
            self._progress = None
