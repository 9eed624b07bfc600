"""Which sample of a data set a training step sees, and its randomness: functions of (seed, position) alone.

Positions count the samples of a run: step, part of the accumulated batch, rank, place in the batch. So the order does
not depend on how many processes share a step, nor on where the run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.training.batches import mixed, seeded


class Examples(Protocol):
    """A map-style data set: ``len(examples)`` and ``examples[index]``, a dict, tuple or tensor that torch collates."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class RandomExamples(Protocol):
    """A data set whose samples are random (crops, partners, captions): ``draw`` is used in place of indexing."""

    def __len__(self) -> int: ...

    def draw(self, index: int, random: np.random.RandomState) -> Any: ...


@dataclass(frozen=True)
class Data:
    """What a run sees.

    Arguments:
        train: shuffled, wrapped around its end without a partial batch.
        validation: all of it, in order, on every rank; random ones are drawn alike each time. None: no validation.
    """

    train: Examples | RandomExamples
    validation: Examples | RandomExamples | None = None


@dataclass(frozen=True)
class First:
    """The first ``count`` samples of a data set with random ones.

    Raises:
        ValueError: unless there are as many.
    """

    examples: RandomExamples
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.examples):
            raise ValueError(f"samples: expected 1 to {len(self.examples)}, the samples there are, got {self.count}")

    def __len__(self) -> int:
        return self.count

    def draw(self, index: int, random: np.random.RandomState) -> Any:
        """A sample."""
        return self.examples.draw(index, random)


class Positions(Sampler[list[tuple[int, int]]]):
    """The batches of one chunk of a run: lists of (index, position).

    Arguments:
        count: samples there are.
        batch: samples a batch, of one rank.
        batches: of a chunk, on one rank.
        seed: pass ``k`` through the data is in an order that depends on (seed, k).
        rank, ranks: this process among those that share a step.
    """

    def __init__(self, count: int, batch: int, batches: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        if count < 1:
            raise ValueError("data: expected at least one training sample, got none")
        self.count, self.batch, self.batches, self.seed = count, batch, batches, seed
        self.rank, self.ranks, self.chunk = rank, ranks, 0
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for index in range(self.chunk * self.batches, (self.chunk + 1) * self.batches):
            first = (index * self.ranks + self.rank) * self.batch
            yield [(self._index(position), position) for position in range(first, first + self.batch)]

    def _index(self, position: int) -> int:
        number, place = divmod(position, self.count)
        if number != self._pass:
            self._pass, self._order = number, torch.randperm(self.count, generator=seeded(self.seed, number))
        return int(self._order[place])


class Drawn(Dataset[Any]):
    """Samples by (index, position); random ones draw from a generator of their own.

    Arguments:
        examples: where they come from.
        seed: of the generators, together with the position.
    """

    def __init__(self, examples: Examples | RandomExamples, seed: int) -> None:
        self.examples, self.seed = examples, seed
        self._random = np.random.RandomState(0)  # seeded anew for each sample: making one takes 100 times as long

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        index, position = place
        if isinstance(self.examples, RandomExamples):
            self._random.seed(mixed(self.seed, position) % 2**32)
            return self.examples.draw(index, self._random)
        return self.examples[index]


class Loaders(lightning.LightningDataModule):
    """The loaders of a run; made in the process that uses them, since they depend on its rank.

    Arguments:
        data: what is loaded.
        batch: samples a batch, of one rank.
        batches: of a chunk, on one rank.
        seed: of order and draws.
        workers: processes that load; 0 loads in the training process.
    """

    def __init__(self, data: Data, batch: int, batches: int, seed: int, workers: int) -> None:
        super().__init__()
        self.data, self.batch, self.batches, self.seed, self.workers = data, batch, batches, seed, workers
        self.positions: Positions | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        self.positions = Positions(len(self.data.train), self.batch, self.batches, self.seed, rank, ranks)
        self.positions.chunk = self.trainer.current_epoch
        return self._loader(self.data.train, mixed(self.seed, 1), self.positions)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if self.data.validation is None:
            return []
        every = range(len(self.data.validation))
        batches = [[(i, i) for i in every[first : first + self.batch]] for first in every[:: self.batch]]
        return self._loader(self.data.validation, mixed(self.seed, 2), batches)

    def _loader(self, examples: Examples | RandomExamples, seed: int, batches: Any) -> DataLoader[Any]:
        return DataLoader(
            Drawn(examples, seed),
            batch_sampler=batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )
