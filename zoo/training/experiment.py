"""What the stages' Lightning modules share: optimiser, history, and randomness that survives an interruption."""

from __future__ import annotations

from typing import Any, TypedDict

import lightning
import torch
from torch import Tensor, nn

from zoo.training.batches import mixed


class Point(TypedDict):
    """One line of a training history.

    Keys:
        epoch: epochs done.
        train: mean loss over the batches since the last point.
        validation: mean score on the validation part.
        seconds: time spent in the stage so far, interruptions left out.
    """

    epoch: int
    train: float
    validation: float
    seconds: float


class Experiment(lightning.LightningModule):
    """A network, its loss and AdamW with a one-cycle learning rate.

    Every training step seeds torch with (seed, step) first: augmentation, noise and dropout do not depend on whether
    the run was interrupted before.

    A subclass defines ``loss(batch)`` and ``score(batch)``; the lower the score, the better.

    Arguments:
        network: what is trained and saved.
        learning_rate: the peak of the cycle.
        weight_decay: of AdamW.
        steps: optimiser steps in all.
        seed: of the training's randomness.
    """

    def __init__(self, network: nn.Module, *, learning_rate: float, weight_decay: float, steps: int, seed: int) -> None:
        super().__init__()
        self.network, self.seed = network, seed
        self.learning_rate, self.weight_decay, self.steps = learning_rate, weight_decay, steps
        self.history: list[Point] = []
        self._losses: list[float] = []

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The training loss of a batch, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The validation score of a batch, a scalar; lower is better."""
        raise NotImplementedError(f"{type(self).__name__} defines no score")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(mixed(self.seed, self.global_step))

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self._losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.log("validation", self.score(batch), batch_size=len(batch[0]))

    def record(self, seconds: float) -> Point:
        """Appends a point to the history, with the losses since the last one."""
        point = Point(
            epoch=self.current_epoch + 1,
            train=sum(self._losses) / max(len(self._losses), 1),
            validation=float(self.trainer.callback_metrics["validation"]),
            seconds=seconds,
        )
        self._losses.clear()
        self.history.append(point)
        return point

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.steps, pct_start=0.15
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
