"""Scikit-learn's digits as the paper's coloured MNIST: single images, and pairs that share their digit or colour."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data import digits, pairs
from zoo.iin.first_stages import SIZE
from zoo.training.batches import mixed, seeded

COPIES, AUGMENTATION = 16, 1.5


class ColouredDigits:
    """Digits of 16 x 16 pixels in random colours; samples as those of :class:`zoo.data.standard.ColouredMNIST`.

    Training images come in 16 slightly turned, scaled and shifted copies. The pairs of the other parts are fixed.

    Arguments:
        part: "train", "validation" or "test" of :func:`zoo.data.digits.digits`.
        single: the first examples alone.
        seed: of the split, the copies and the fixed pairs.
    """

    factors = pairs.CMNIST_FACTORS

    def __init__(self, part: Literal["train", "validation", "test"], single: bool = False, seed: int = 0) -> None:
        split = digits.digits(seed)[part]
        generator = seeded(seed, *b"copies")
        copies = [split.images]
        if part == "train":
            copies += [digits.augment(split.images, AUGMENTATION, generator) for _ in range(COPIES - 1)]
        self.grey = enlarged(torch.stack(copies)).numpy()
        self.labels, self.single = split.labels.numpy(), single
        self.classes = pairs.members(self.labels)
        self.table = None if part == "train" else pairs.coloured_test_pairs(self.labels, mixed(seed) % 2**32)

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, index: int, random: np.random.RandomState) -> dict[str, Any]:
        """A single image, or a pair."""
        pair = self.table[index] if self.table else pairs.coloured_pair(index, self.labels, self.classes, random)
        assert pair.colours is not None
        first = self._example(pair.first, pair.colours[0], random)
        if self.single:
            return first
        return {
            "factor": pair.factor,
            "example1": first,
            "example2": self._example(pair.second, pair.colours[1], random),
        }

    def _example(self, index: int, colour: np.ndarray, random: np.random.RandomState) -> dict[str, Any]:
        grey = self.grey[random.randint(len(self.grey)), index]
        return {"image": grey * colour[:, None, None], "class": int(self.labels[index]), "colour": colour}


def enlarged(images: Tensor) -> Tensor:
    """Digits (..., 1, 8, 8) as (..., 1, 16, 16), smoothly, in [-1, 1]."""
    flat = images.flatten(0, -4)
    large = F.interpolate(flat, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(-1, 1)
    return large.unflatten(0, images.shape[:-3])
