"""Latents and classes of BigGAN as data: the test sets of Net2Net's text to image, and training samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODE, CLASSES, TRUNCATION, SEED = 140, 1000, 2.5, 1
"""Numbers of a code of BigGAN-256, classes of ImageNet, largest absolute value, seed of the test sets."""
TRAINING, TEST = 100_000, 10_000
"""Samples of the authors' sets."""
_COCO = """
11 14 15 17 21 22 77 105 153 200 230 235 238 239 248 251 252 256 275 281-285 294-297 340 344 349 383 385-388 409 414 423
436 440 444 451 457 466 475 479 508 512 515 526 530 537 544 555 559 565 569 603 620 623 647 651 659 672 693 703 705 717
720 729 737 751 760 761 765 770 779 788 795 799 809 817 829 831 850 859 861 864 867 878 879 883 892 895 898 904-907 910
917 921 923 934 937 950 954 956 963 966 968 990 999
"""
Codes = NDArray[np.float32]
Classes = NDArray[np.int64]


def _ids(text: str) -> list[int]:
    ranges = [[int(end) for end in word.split("-")] for word in text.split()]
    return [number for ends in ranges for number in range(ends[0], ends[-1] + 1)]


COCO = _ids(_COCO)
"""The 114 classes of ImageNet that COCO has too."""


def codes(random: np.random.RandomState, count: int, size: int = CODE, truncation: float = TRUNCATION) -> Codes:
    """``count`` codes (N, size) of N(0, 1); every number beyond the truncation is drawn anew until it is not.

    Raises:
        ValueError: for a truncation that is not positive.
    """
    if truncation <= 0:
        raise ValueError(f"truncation: expected a positive number, got {truncation}")
    z = random.standard_normal((count, size))
    for place in zip(*np.nonzero(np.abs(z) > truncation), strict=True):
        while abs(z[place]) > truncation:
            z[place] = random.standard_normal()
    return z.astype(np.float32)


@dataclass(frozen=True)
class Training:
    """Codes and classes without end, for :class:`zoo.training.draws.Data`.

    Unlike the authors' set, whose loading processes were seeded anew, a run with the same seed sees the same samples.

    Arguments:
        count: samples that make a pass.
        classes: that are drawn from, those that COCO has by default.
    """

    count: int = TRAINING
    size: int = CODE
    classes: tuple[int, ...] = tuple(COCO)
    truncation: float = TRUNCATION

    def __len__(self) -> int:
        return self.count

    def draw(self, index: int, random: np.random.RandomState) -> dict[str, NDArray[Any]]:
        """A code "z" (size,) and its "class", a scalar."""
        drawn = np.asarray(random.choice(self.classes), np.int64)
        return {"z": codes(random, 1, self.size, self.truncation)[0], "class": drawn}


def test_samples(
    count: int = TEST, size: int = CODE, classes: int = CLASSES, truncation: float = TRUNCATION
) -> tuple[Codes, Classes]:
    """The authors' test set: codes (N, size) and classes (N,)."""
    random = np.random.RandomState(SEED)
    z = codes(random, count, size, truncation)
    return z, random.choice(classes, count).astype(np.int64)


def restricted_test_samples(
    count: int = TEST, size: int = CODE, truncation: float = TRUNCATION
) -> tuple[Codes, Classes]:
    """The authors' test set of the classes that COCO has."""
    random = np.random.RandomState(SEED)
    drawn = random.choice(COCO, count).astype(np.int64)
    return codes(random, count, size, truncation), drawn


def training_of(classes: int, size: int) -> Training:
    """Training samples for a generator: of the classes that COCO has, or of all if it knows fewer than ImageNet's."""
    return Training(size=size, classes=tuple(COCO) if classes == CLASSES else tuple(range(classes)))


def held_out_of(classes: int, size: int, count: int = TEST) -> tuple[Codes, Classes]:
    """The authors' test set for the same classes; another count gives another set, not the beginning of theirs."""
    if classes == CLASSES:
        return restricted_test_samples(count, size)
    return test_samples(count, size, classes)
