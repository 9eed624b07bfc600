"""Whole batches of an in-memory data set, in an order that depends on seed and epoch alone."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Batches:
    """Shuffled batches of equal size; the rest of an epoch that does not fill one is left out.

    Arguments:
        tensors: each (N, ...).
        size: samples a batch, at most N.
        seed: the order of epoch ``k`` is a function of (seed, k).
    """

    def __init__(self, *tensors: Tensor, size: int, seed: int) -> None:
        count = len(tensors[0])
        if not 1 <= size <= count:
            raise ValueError(f"size: expected 1 to {count} (the samples there are), got {size}")
        self.tensors, self.size, self.seed, self.epoch = tensors, size, seed, 0

    def __len__(self) -> int:
        return len(self.tensors[0]) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = torch.randperm(len(self.tensors[0]), generator=seeded(self.seed, self.epoch))
        for index in range(len(self)):
            chosen = order[index * self.size : (index + 1) * self.size]
            yield tuple(tensor[chosen] for tensor in self.tensors)


def seeded(*numbers: int) -> torch.Generator:
    """A generator that depends on all the numbers."""
    return torch.Generator().manual_seed(mixed(*numbers))


def mixed(*numbers: int) -> int:
    """One seed from several numbers; different numbers give unrelated seeds."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = ((state ^ number) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state % 2**63
