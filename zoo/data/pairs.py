"""Pairs of images that share a named factor, for IIN: rules and the fixed tables of the test parts (iin, section 3.5).

Pure functions over labels and attributes; the images are ``zoo.data.images``' and ``zoo.data.standard``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.images import F32

Indices = NDArray[np.int64]

TEST_SEED = 1
CMNIST_FACTORS = ("digit", "colour", "residual")
CELEBA_ATTRIBUTES = ("Eyeglasses", "Male", "No_Beard", "Smiling")
# The columns of CelebA's list_attr_celeba.txt.
CELEBA_COLUMNS = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones "
    "Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline "
    "Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick "
    "Wearing_Necklace Wearing_Necktie Young"
).split()
CELEBA_TEST = 10_000  # drawn from the 19,962 images of the test part, with replacement


def coloured(image: F32, colour: F32) -> F32:
    """A grey image in a colour: the product, so that the background, about -1, becomes about -colour.

    Arguments:
        image: (H, W, 1) in [-1, 1].
        colour: (3,) in [0, 1].

    Returns:
        (H, W, 3).
    """
    return (image * colour.astype(np.float32)).astype(np.float32)


def members(labels: Indices) -> dict[int, Indices]:
    """For each label, the positions that have it, ascending."""
    return {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}


@dataclass(frozen=True)
class Pair:
    """Two examples, the factor they share, and a colour for each (None where there is none)."""

    factor: int
    first: int
    second: int
    colours: tuple[F32, F32] | None = None


@dataclass(frozen=True)
class ColouredPairs:
    """The test pairs of coloured MNIST, one for each image.

    Arguments:
        factor: (N,), 0 = same digit, 1 = same colour.
        same: (N,), an image of the same class.
        other: (N,), any image.
        colour: (N, 3), float32 in [0, 1], of each image when it comes first, and of the second of a pair that shares
            the digit.
    """

    factor: Indices
    same: Indices
    other: Indices
    colour: F32

    def __len__(self) -> int:
        return len(self.factor)

    def __getitem__(self, index: int) -> Pair:
        factor = int(self.factor[index])
        second = int((self.same, self.other)[factor][index])
        return Pair(factor, index, second, (self.colour[index], self.colour[index if factor else second]))


def coloured_test_pairs(labels: Indices, seed: int = TEST_SEED) -> ColouredPairs:
    """The fixed table of the test part: one generator draws, each for all images, factor, same, other and colour."""
    random, count, classes = np.random.RandomState(seed), len(labels), members(labels)
    factor = random.choice(2, size=count)
    same = np.array([random.choice(classes[int(label)]) for label in labels], dtype=np.int64)
    other = random.choice(count, size=count)
    return ColouredPairs(factor, same, other, random.uniform(size=(count, 3)).astype(np.float32))


def coloured_pair(index: int, labels: Indices, classes: dict[int, Indices], random: np.random.RandomState) -> Pair:
    """A random pair of the training part that begins with ``index``.

    Factor 0, same digit: the second is any image of the class, the first one included, in a colour of its own.
    Factor 1, same colour: the second is any image at all, in the colour of the first.

    Arguments:
        classes: ``members(labels)``.
    """
    factor = int(random.choice(2))
    colours = random.uniform(size=(2, 3)).astype(np.float32)
    second = random.choice(len(labels)) if factor else random.choice(classes[int(labels[index])])
    return Pair(factor, index, int(second), (colours[0], colours[0] if factor else colours[1]))


@dataclass(frozen=True)
class AttributePairs:
    """The test pairs of CelebA.

    Arguments:
        subset: (N,), positions in the test part; the same image may come up again, if it is drawn.
        factor: (N,), which of the attributes the two share.
        second: (N,), positions in ``subset``.
    """

    subset: Indices
    factor: Indices
    second: Indices

    def __len__(self) -> int:
        return len(self.factor)

    def __getitem__(self, index: int) -> Pair:
        return Pair(int(self.factor[index]), int(self.subset[index]), int(self.subset[self.second[index]]))


def attribute_test_pairs(
    attributes: NDArray[np.int8], count: int | None = CELEBA_TEST, seed: int = TEST_SEED
) -> AttributePairs:
    """The fixed table of the test part: images, then for each a factor and an image with the same value.

    Arguments:
        attributes: (M, K), -1 or +1, of the images of the test part; only the columns that are factors.
        count: images drawn from these, with replacement; None for all of them, in order.
    """
    subset = test_subset(len(attributes), count, seed)
    chosen = attributes[subset]
    groups = attribute_groups(chosen)
    random = np.random.RandomState(seed)
    drawn = [attribute_pair(index, chosen, groups, random) for index in range(len(subset))]
    factor, second = (np.array(values, dtype=np.int64) for values in zip(*drawn, strict=True))
    return AttributePairs(subset, factor, second)


def test_subset(images: int, count: int | None = CELEBA_TEST, seed: int = TEST_SEED) -> Indices:
    """Which of so many images the test part consists of; ``count`` as in :func:`attribute_test_pairs`."""
    return np.arange(images) if count is None else np.random.RandomState(seed).choice(images, size=count)


def attribute_columns(names: Sequence[str] = CELEBA_ATTRIBUTES) -> list[int]:
    """The columns of CelebA's table with these attributes.

    Capitals do not matter: a network's factor "no_beard" is the attribute "No_Beard".

    Raises:
        ValueError: naming unknown attributes and listing the 40 there are.
    """
    columns = [name.lower() for name in CELEBA_COLUMNS]
    unknown = [name for name in names if name.lower() not in columns]
    if unknown:
        raise ValueError(f"attributes: {', '.join(unknown)} unknown; CelebA has {', '.join(CELEBA_COLUMNS)}")
    return [columns.index(name.lower()) for name in names]


def attribute_groups(attributes: NDArray[np.int8]) -> list[dict[int, Indices]]:
    """For each attribute and each of its values, the images that have it."""
    return [members(column.astype(np.int64)) for column in attributes.T]


def attribute_pair(
    index: int, attributes: NDArray[np.int8], groups: list[dict[int, Indices]], random: np.random.RandomState
) -> tuple[int, int]:
    """A random factor, and a random image with the same value of that attribute (the image itself included).

    Arguments:
        groups: ``attribute_groups(attributes)``.
    """
    factor = int(random.choice(attributes.shape[1]))
    return factor, int(random.choice(groups[factor][int(attributes[index, factor])]))
