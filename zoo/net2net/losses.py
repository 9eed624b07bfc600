"""Net2Net's loss of a flow, and its optimiser (arXiv 2005.13580, section 3; sheet: section 3)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = (0.5, 0.9)
"""Of Adam, in every training of the paper."""


def half_square(z: Tensor) -> Tensor:
    """-log p(z) of z (B, D) under N(0, 1) without its constant, (B,)."""
    return 0.5 * z.square().sum(1)


def likelihood(z: Tensor, logdet: Tensor) -> dict[str, Tensor]:
    """Terms of the negative log-likelihood, means over the batch without the constant D / 2 log(2 pi).

    Arguments:
        z: (B, D), what the flow makes of its input.
        logdet: (B,).

    Returns:
        "total_loss" = "nll_loss" + "nlogdet_loss", which is minimised, and "reference_nll_loss": what "nll_loss" is
        for noise of N(0, 1), drawn anew.
    """
    nll, nlogdet = half_square(z).mean(), -logdet.mean()
    with torch.no_grad():
        reference = half_square(torch.randn_like(z)).mean()
    return {"total_loss": nll + nlogdet, "reference_nll_loss": reference, "nlogdet_loss": nlogdet, "nll_loss": nll}


def optimizer(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Adam as the flows are trained with: amsgrad, no schedule, no clipping."""
    return torch.optim.Adam(parameters, learning_rate, BETAS, amsgrad=True)
