"""Whether a generated picture is found by what it was generated from: retrieval among a few candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

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
    distances = torch.cdist(queries.flatten(0, 1), candidates).unflatten(0, (count, samples))
    own = distances[torch.arange(count), :, torch.arange(count)]
    hits = [
        float((own < distances.gather(2, others[:, None].expand(-1, samples, -1)).amin(2)).float().mean())
        for others in _others(count, among, seed, draws)
    ]
    return sum(hits) / draws


def _others(count: int, among: int, seed: int, draws: int) -> Iterator[Tensor]:
    """For each of ``count`` examples ``among`` - 1 others (count, among - 1), drawn anew ``draws`` times."""
    if not 2 <= among <= count:
        raise ValueError(f"among: expected 2 to {count} (the candidates there are), got {among}")
    generator = seeded(seed, *b"retrieval")
    for _ in range(draws):
        yield torch.rand(count, count, generator=generator).fill_diagonal_(2.0).argsort(1)[:, : among - 1]


def linear_reader(features: Tensor, conditions: Tensor, ridge: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Reads from a picture what it was generated from: ridge regression, fitted to real pictures.

    Arguments:
        features: (N, F) of real pictures.
        conditions: (N, K), theirs.
        ridge: weight of the squared coefficients.

    Returns:
        A function from features (..., F) to conditions (..., K) of length 1, as :func:`directions` gives them.
    """
    centre, middle = features.mean(0), conditions.mean(0)
    x, y = features - centre, conditions - middle
    weight = torch.linalg.solve(x.mT @ x + ridge * torch.eye(x.shape[1]), x.mT @ y)
    return lambda found: F.normalize((found - centre) @ weight, dim=-1)


def directions(conditions: Tensor, fitted: Tensor) -> Tensor:
    """Conditions (Q, K) as directions of length 1 from the mean of those that a reader was fitted to, (N, K)."""
    return F.normalize(conditions - fitted.mean(0), dim=1)


def most_likely_among(log_probs: Tensor, among: int, seed: int, draws: int = 20) -> float:
    """Share of pictures whose own condition is the likeliest of ``among``: chance is 1 / ``among``.

    Arguments:
        log_probs: (Q, Q), of picture i (row) given condition j.
        among, seed, draws: as in :func:`found_among`.
    """
    own = log_probs.diagonal()[:, None]
    hits = [
        float((own > log_probs.gather(1, others)).all(1).float().mean())
        for others in _others(len(log_probs), among, seed, draws)
    ]
    return sum(hits) / draws
