"""Whether a generated picture is found by what it was generated from: retrieval among a few candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.training.batches import seeded


def found_among(queries: Tensor, candidates: Tensor, among: int, seed: int, draws: int = 20) -> float:
    """Share of queries whose own candidate is the nearest of ``among``: chance is 1 / ``among``.

    Arguments:
        queries: (Q, S, F), features of S pictures for each of Q conditions.
        candidates: (Q, F), features of the real picture of each condition.
        among: how many candidates there are to choose from; all but one are drawn anew from the other conditions.
        draws: how often.

    Raises:
        ValueError: unless 2 <= among <= Q.
    """
    count, samples = queries.shape[:2]
    if not 2 <= among <= count:
        raise ValueError(f"among: expected 2 to {count} (the candidates there are), got {among}")
    distances = torch.cdist(queries.flatten(0, 1), candidates).unflatten(0, (count, samples))
    own = distances[torch.arange(count), :, torch.arange(count)]
    generator, hits = seeded(seed, *b"retrieval"), 0.0
    for _ in range(draws):
        order = torch.rand(count, count, generator=generator).fill_diagonal_(2.0).argsort(1)[:, : among - 1]
        others = distances.gather(2, order[:, None].expand(-1, samples, -1))
        hits += float((own < others.amin(2)).float().mean())
    return hits / draws
