"""Figures of the invariances: variance explained, what samples have in common, how well they keep z (section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.metrics.frechet import Spread


class Explained(NamedTuple):
    """Shares of a variance, by the representation z and by its invariances v; they add up to 1."""

    by_z: float
    by_v: float


class Statistics(NamedTuple):
    """Pixelwise mean and variance (N, C, H, W) of samples, and the variance's mean over pixels and images."""

    mean: Tensor
    variance: Tensor
    spread: float


class Similarity(NamedTuple):
    """Cosine of representations: of samples with the image they were drawn for, and of random pairs of images."""

    samples: Spread
    random_pairs: Spread


def variance_explained(samples: Tensor) -> Explained:
    """Which share of the variance of samples is fixed by z, and which is left to v.

    Within = mean over images of the variance over their samples; total = variance over all; both summed over
    dimensions. By v = within / total. Variances are unbiased (an analysis of variance), so that few samples an image
    do not make independent ones look explained; by_z may thus fall a little below 0.

    Arguments:
        samples: (M, N, ...), M samples for each of N images: latents, concepts or pixels.

    Raises:
        ValueError: for fewer than two samples or images, or samples that do not vary at all.
    """
    if samples.ndim < 3 or min(samples.shape[:2]) < 2:
        raise ValueError(f"samples: expected (M, N, ...) with M, N of 2 or more, got {tuple(samples.shape)}")
    flat = samples.double().flatten(2)
    within = flat.var(0).mean(0).sum()
    total = (1 - 1 / len(flat)) * within + flat.mean(0).var(0).sum()
    if total == 0:
        raise ValueError("samples: expected some variance to explain, got equal ones")
    by_v = float(within / total)
    return Explained(1 - by_v, by_v)


def statistics(images: Tensor) -> Statistics:
    """What M samples (M, N, C, H, W) of each of N images have in common, pixel by pixel (Fig. 3).

    Raises:
        ValueError: for fewer than two samples.
    """
    if len(images) < 2:
        raise ValueError(f"draws: expected 2 samples of an image or more, to compare them, got {len(images)}")
    variance = images.var(0)
    return Statistics(images.mean(0), variance, float(variance.mean()))


def pairwise_distance(images: Tensor) -> float:
    """Mean Euclidean distance between two samples of the same image; samples (M, N, C, H, W), M of 2 or more."""
    flat = images.flatten(2).transpose(0, 1)
    apart = torch.cdist(flat, flat)
    return float(apart.sum() / (len(flat) * flat.shape[1] * (flat.shape[1] - 1)))


def cosines(z: Tensor, again: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Cosines of representations, of (M, N) samples with their images and of N random pairs of images, both flat.

    Arguments:
        z: (N, ...), representations of N different images.
        again: (M, N, ...), representations of M decoded samples of each.
        generator: shuffles the random pairs.

    Raises:
        ValueError: for fewer than two images.
    """
    if len(z) < 2:
        raise ValueError(f"similarity: expected two images or more, to pair them at random, got {len(z)}")
    known, found = z.flatten(1), again.flatten(2)
    own = torch.cosine_similarity(found, known[None], dim=-1).flatten()
    order = torch.randperm(len(z), generator=generator)
    others = torch.cosine_similarity(known[order], known[order.roll(1)], dim=-1)
    return own, others


def similarity(samples: Tensor, random_pairs: Tensor) -> Similarity:
    """Whether samples show what they were drawn for, by :func:`cosines`."""
    return Similarity(*(Spread(float(c.mean()), float(c.std())) for c in (samples, random_pairs)))
