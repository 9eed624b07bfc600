"""The paper's optimisation: Adam, and a learning rate that stays and then falls to 0 (iin, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter

BETAS = (0.5, 0.9)
BASE_RATE = 4.5e-6
"""Learning rate for each sample of a batch; published with 25 of them."""


def adam(parameters: Iterable[Parameter], rate: float) -> torch.optim.Adam:
    """Adam without weight decay."""
    return torch.optim.Adam(parameters, rate, betas=BETAS)


def decay(step: int, start: int, steps: int) -> float:
    """The factor of the learning rate that step ``step`` uses: 1 up to ``start``, then straight down to 0 at ``steps``.

    The authors set it after a step, so a step uses the factor of the one before.
    """
    return 1 - min(max((step - 1 - start) / (steps - start), 0.0), 1.0)


def schedule(optimizer: torch.optim.Optimizer, start: int, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """:func:`decay` for an optimiser; to be stepped after each of its steps.

    Raises:
        ValueError: unless 0 <= start < steps.
    """
    if not 0 <= start < steps:
        raise ValueError(f"decay_start: expected 0 to {steps - 1}, before the last of {steps} steps, got {start}")
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: decay(step, start, steps))
