"""The loss of the autoencoders of Net2Net, the IIN and the invariances: likelihood, KL divergence, discriminator.

A reconstruction is scored by pixels and by LPIPS, scaled by a learned variance, and by a discriminator whose weight
balances the gradients at the decoder's last layer (arXiv 2005.13580 and 2004.13166; the sheets' section 3).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

STABLE = 1e-4
LARGEST_WEIGHT = 1e4


def reconstruction(
    x: Tensor, restored: Tensor, perceptual: Tensor, weight: float = 1.0, pixels: Literal["l1", "l2"] = "l1"
) -> Tensor:
    """Error of every value, (B, C, H, W): of the pixel, plus ``weight`` times that of its image.

    Arguments:
        x, restored: (B, C, H, W) in [-1, 1].
        perceptual: (B, 1, 1, 1), such as LPIPS.
        pixels: "l1" is the absolute difference, "l2" its square.
    """
    apart = (x - restored).abs() if pixels == "l1" else (x - restored).square()
    return apart + weight * perceptual


def negative_log_likelihood(errors: Tensor, logvar: Tensor) -> Tensor:
    """Sum over values of error / exp(logvar) + logvar, a sample; errors (B, C, H, W), logvar (), result ()."""
    return (errors / logvar.exp() + logvar).sum() / len(errors)


def calibration(errors: Tensor, logvar: Tensor) -> Tensor:
    """0 where the learned variance is right: sum over values of error / exp(logvar) - 1, a sample."""
    return (errors / logvar.exp() - 1).sum() / len(errors)


def adversarial_weight(nll: Tensor, generator: Tensor, last: Tensor) -> Tensor:
    """How much the generator's loss counts, (): |d nll / d last| / (|d generator / d last| + 1e-4), in 0 .. 1e4.

    Arguments:
        nll, generator: losses, (), whose graphs are kept.
        last: the weight of the decoder's last layer.
    """
    of_nll, of_generator = (torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (nll, generator))
    return (of_nll.norm() / (of_generator.norm() + STABLE)).clamp(0.0, LARGEST_WEIGHT).detach()


def generator(fake: Tensor) -> Tensor:
    """-mean of the discriminator's logits of reconstructions."""
    return -fake.mean()


def discriminator(real: Tensor, fake: Tensor, by: Literal["hinge", "softplus"] = "hinge") -> Tensor:
    """The discriminator's loss, (), from its logits of images and of reconstructions; "softplus" is the IIN's."""
    if by == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def started(step: int, start: int, factor: float = 1.0) -> float:
    """``factor`` from step ``start`` on, 0 before: the discriminator joins late."""
    return factor if step >= start else 0.0
