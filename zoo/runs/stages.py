"""A training stage of a run, from its options: seeds and fingerprint follow from what is trained on what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from flowkit.graph import Graph
from zoo.training.batches import Batches, mixed
from zoo.training.experiment import Experiment
from zoo.training.stage import Stage


def stage(
    name: str,
    title: str,
    unit: str,
    graph: Graph,
    experiment: Callable[..., Experiment],
    *,
    training: tuple[Tensor, ...],
    validation: tuple[Tensor, ...],
    epochs: int,
    every: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    options: Mapping[str, Any],
    data: str,
    earlier: tuple[str, ...] = (),
) -> Stage:
    """A stage on tensors.

    Arguments:
        experiment: called with the network, ``options`` and what every :class:`Experiment` takes.
        training, validation: what a batch consists of, for the loss and for the score.
        batch: samples a step; all of them if there are fewer.
        data: changes with the data; with ``earlier``, the fingerprints of the stages before, part of the fingerprint.
    """
    seed = mixed(seed, *name.encode())
    batches = Batches(*training, size=min(batch, len(training[0])), seed=seed)
    schedule = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "steps": epochs * len(batches),
        "seed": seed,
    }
    facts = [graph.to_yaml(), epochs, every, batches.size, schedule, dict(options), data, earlier]
    return Stage(
        name=name,
        title=title,
        unit=unit,
        graph=graph,
        experiment=partial(experiment, **options, **schedule),
        batches=batches,
        validation=validation,
        epochs=epochs,
        every=every,
        seed=seed,
        fingerprint=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16],
    )
