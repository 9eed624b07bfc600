"""From a verb's options to what it works on: the run, its networks, some held-out pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from zoo.net2net import runs
from zoo.runs.autoencoder import scaled
from zoo.runs.translator import Translation
from zoo.training.batches import seeded
from zoo.verbs import Context

NOTE = "OpenMoji, CC BY-SA 4.0; generated pictures derive from it"


def task(context: Context, data: str, autoencoder_epochs: int, flow_epochs: int) -> runs.Task:
    """The run that a registered name belongs to; epochs of 0 are the plan's.

    Raises:
        ValueError: for a network without a run.
    """
    name = context.name.partition("/")[2].removesuffix("-autoencoder")
    if name not in runs.PLANS:
        raise ValueError(
            f"{context.name}: expected one of {', '.join(f'net2net/{known}' for known in runs.PLANS)}; the published "
            "configurations know train, sample, reconstruct, swap and transfer with --random"
        )
    plan = runs.PLANS[name]
    plan = replace(plan, autoencoder=autoencoder_epochs or plan.autoencoder, flow=flow_epochs or plan.flow)
    size = runs.graphs(context, name)[0].input_shapes["image"][1] or 0
    if name == "animalfaces":
        return runs.faces_task(plan, size, data)
    return runs.emoji_task(plan, size) if name == "emoji" else runs.shapes_task(plan, size)


def system(context: Context) -> Translation:
    """The networks of the run: trained in the folder, or fresh ones with ``--random``."""
    return runs.translation(context, context.name.partition("/")[2].removesuffix("-autoencoder"))


@dataclass(frozen=True)
class Opened:
    """What the pictures are drawn from.

    Arguments:
        images: (N, 3, S, S) in [-1, 1], held out.
        known: (N, C), their conditions.
        labels: their texts; none if pictures are the condition.
    """

    context: Context
    task: runs.Task
    system: Translation
    images: Tensor
    known: Tensor
    labels: list[str]

    @property
    def note(self) -> str:
        """What is to be said below a picture."""
        return NOTE if self.task.name == "emoji" else ""

    def noise(self, count: int) -> Tensor:
        """(count, D), drawn by the seed."""
        return torch.randn(count, self.system.autoencoder.dim, generator=seeded(self.context.seed, *b"pictures"))

    def path(self, name: str) -> Path:
        """Of a picture."""
        return self.context.out / f"{name}.png"


def opened(context: Context, data: str, count: int) -> Opened:
    """The run's networks with ``count`` held-out pictures.

    Raises:
        ValueError: for a count that is not positive; FileNotFoundError if the networks have not been trained.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    made = task(context, data, 0, 0)
    return of(context, made, system(context), count)


def of(context: Context, made: runs.Task, system: Translation, count: int) -> Opened:
    """The same for networks that are there."""
    test = made.parts["test"]
    order = torch.randperm(len(test), generator=seeded(context.seed, *b"shown"))[:count]
    part = runs.Part(test.images[order], tuple(test.texts[i] for i in order.tolist()) if test.texts else ())
    labels = [said[0] for said in part.texts]
    return Opened(context, made, system, scaled(part.images), runs.conditions(made, part), labels)
