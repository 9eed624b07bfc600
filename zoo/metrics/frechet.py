"""Fréchet distance between sets of features (arXiv 1706.08500), such as the FID between sets of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.extras import require

Features = Callable[[Tensor], Tensor]
EPSILON = 1e-6
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


class Moments(NamedTuple):
    """Mean (D,) and covariance (D, D) of features, float64."""

    mean: NDArray[Any]
    covariance: NDArray[Any]


class Spread(NamedTuple):
    """Mean and standard deviation (N - 1; 0 of a single value) of a figure over repetitions."""

    mean: float
    std: float


def moments(features: Tensor) -> Moments:
    """Mean and covariance (N - 1) of features (N, D).

    Raises:
        ValueError: for another shape or fewer than two samples.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features: expected (N, D) with N of 2 or more, got {tuple(features.shape)}")
    values = features.detach().cpu().double().numpy()
    return Moments(values.mean(0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); 1e-6 is added to both diagonals if the root is not finite.

    Raises:
        ModuleNotFoundError: without scipy.
        ValueError: for features of different width.
    """
    require("scipy")
    from scipy.linalg import LinAlgWarning, sqrtm

    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features: expected two sets of one width, got {first.mean.size} and {second.mean.size}")
    with warnings.catch_warnings():  # that the product is singular: what the next lines are for
        warnings.simplefilter("ignore", LinAlgWarning)
        root = sqrtm(first.covariance @ second.covariance)
    if not np.isfinite(root).all():
        offset = EPSILON * np.eye(first.mean.size)
        root = sqrtm((first.covariance + offset) @ (second.covariance + offset))
    apart = first.mean - second.mean
    traces = np.trace(first.covariance) + np.trace(second.covariance) - 2 * np.trace(root).real
    return float(apart @ apart + traces)


def frechet_spread(reference: Tensor, sets: Iterable[Tensor]) -> Spread:
    """Fréchet distances of several sets of features (N, D) to those of a reference: their mean and deviation.

    Raises:
        ValueError: if there are no sets.
    """
    known = moments(reference)
    return spread([frechet_distance(known, moments(features)) for features in sets])


def spread(values: Iterable[float]) -> Spread:
    """Mean and deviation of a figure over repetitions; ValueError if there are none."""
    found = list(values)
    if not found:
        raise ValueError("spread: expected one value or more, got none")
    return Spread(float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0)


def inception(output: Literal["2048", "logits_unbiased"] = "2048") -> Features:
    """The FID's network (Inception of 2015-12-05): images (B, 3, H, W) in [-1, 1] -> an output of it.

    Arguments:
        output: "2048", pool 3 (B, 2048), of the FID; or "logits_unbiased" (B, 1008), of the inception score.

    Raises:
        ModuleNotFoundError: without torchmetrics and torch-fidelity.
        FileNotFoundError: if its weights are not there and cannot be fetched.
    """
    require("torchmetrics")
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3("inception-v3-compat", [output]).eval()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("inception: needs torch-fidelity, run: pip install torch-fidelity") from error
    except OSError as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise FileNotFoundError(
            f"inception: its weights could not be fetched ({error}); put {INCEPTION} into {folder}, "
            "or measure with features of another network (features=)"
        ) from error

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        found: Tensor = network(((images.clamp(-1, 1) + 1) * 127.5).to(torch.uint8))
        return found

    return features


def inception_score(logits: Tensor, splits: int = 10) -> Spread:
    """exp of the mean divergence KL(p(y | x) || p(y)) of classes (arXiv 1606.03498), over random parts of the images.

    Arguments:
        logits: (N, K), of the images.
        splits: number of parts; the score's mean and deviation are over these.

    Raises:
        ModuleNotFoundError: without torchmetrics.
        ValueError: for fewer images than parts.
    """
    require("torchmetrics")
    from torchmetrics.image.inception import InceptionScore

    if logits.ndim != 2 or len(logits) < splits:
        raise ValueError(f"logits: expected (N, K) with N of {splits} or more, got {tuple(logits.shape)}")
    with warnings.catch_warnings():  # that it keeps all logits
        warnings.simplefilter("ignore", UserWarning)
        score = InceptionScore(torch.nn.Identity(), splits)
    score.update(logits)
    mean, std = score.compute()
    return Spread(float(mean), float(std))
