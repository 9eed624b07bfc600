"""Adversarial images by the sign of the gradient (FGSM, arXiv 1412.6572) and the random control beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 0.02
"""Of the demo, at images in [-1, 1] (sheet: section 4)."""


def step(images: Tensor, direction: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Images (B, C, H, W) moved by ``epsilon`` along the signs of ``direction``, and kept in [-1, 1]."""
    return (images + epsilon * direction.sign()).clamp(-1, 1)


def fgsm(
    logits: Callable[[Tensor], Tensor], images: Tensor, epsilon: float = EPSILON, labels: Tensor | None = None
) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], attacked: a step up the classifier's cross-entropy.

    Arguments:
        logits: images -> (B, K).
        labels: (B,) the classes to move away from; by default those that the classifier sees.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        scores = logits(images)
        loss = F.cross_entropy(scores, scores.argmax(1) if labels is None else labels)
        (gradient,) = torch.autograd.grad(loss, images)
    return step(images.detach(), gradient, epsilon)


def random_control(images: Tensor, epsilon: float = EPSILON, seed: int = 1) -> Tensor:
    """The same step into a random direction: the signs of numpy's normal numbers from ``seed``."""
    noise = np.random.RandomState(seed).randn(*images.shape)
    return step(images, torch.from_numpy(noise).to(images), epsilon)
