"""Class labels as an expert: the condition of unpaired translation is which data set an image is of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Labelator(nn.Module):
    """Labels (B,) to vectors (B, K) that are 1 at the label and 0 elsewhere.

    Arguments:
        classes: K, 2 or more.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes: expected 2 or more, got {classes}")
        self.classes = classes

    def forward(self, labels: Tensor) -> Tensor:
        """float32 (B, K); ValueError for a label that is not in 0..K-1."""
        if (
            labels.is_floating_point()
            or labels.numel()
            and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes
        ):
            raise ValueError(f"labels: expected integers in 0..{self.classes - 1}, got {labels.tolist()}")
        return F.one_hot(labels.long(), self.classes).float()

    def other(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random different label for each, all others being equally likely."""
        step = torch.randint(1, self.classes, labels.shape, generator=generator).to(labels)
        return (labels + step) % self.classes


def flipped(attributes: Tensor, index: int) -> Tensor:
    """Attributes (B, K) with 0 or 1 in each place, that at ``index`` turned over."""
    if not 0 <= index < attributes.shape[1]:
        raise ValueError(f"attribute: expected a place in 0..{attributes.shape[1] - 1}, got {index}")
    changed = attributes.clone()
    changed[:, index] = 1 - changed[:, index]
    return changed
