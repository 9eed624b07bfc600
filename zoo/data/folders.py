"""Image files of a folder or a list as data sets: float32 in [-1, 1], labels by class folder, fixed splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from zoo.data import images
from zoo.data.images import U8
from zoo.extras import require

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy")
CACHE_BYTES = 1 << 30  # sets whose resized images fit are decoded once

Sample = TypedDict("Sample", {"image": Tensor, "class": int})
Crop = Literal["centre", "random"]


def read_image(path: Path) -> U8:
    """(H, W, 3), uint8, of an image file, or of a CelebA-HQ array (1, 3, H, W) in a .npy file.

    Raises:
        FileNotFoundError: with the path.
        ValueError: naming the file that cannot be decoded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data: no image {str(path)!r}")
    require("torchvision")
    from PIL import Image

    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.shape[:2] != (1, 3) or array.ndim != 4 or array.dtype != np.uint8:
                raise ValueError(f"expected uint8 of shape (1, 3, H, W), got {array.dtype} {array.shape}")
            return np.ascontiguousarray(np.moveaxis(array[0], 0, 2))
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise ValueError(f"data: cannot read the image {str(path)!r} ({error})") from error


class ImageFiles:
    """Labelled image files: the smaller side resized to ``size``, cropped to a square.

    Samples are ``image`` (3, size, size), float32 in [-1, 1], and ``class``, an int. Resized images are kept in memory
    if those of the whole set take less than a gibibyte.

    Arguments:
        root: the files' folder.
        names: their paths below it.
        labels: an index into ``classes`` for each.
        classes: names.
        size: side in pixels.
        crop: "centre", or "random" for training (drawn by ``draw``; indexing takes the centre).
    """

    def __init__(
        self, root: Path, names: Sequence[str], labels: Sequence[int], classes: Sequence[str], size: int, crop: Crop
    ) -> None:
        if size < 1:
            raise ValueError(f"size: expected at least 1 pixel, got {size}")
        if crop not in ("centre", "random"):
            raise ValueError(f"crop: expected 'centre' or 'random', got {crop!r}")
        self.root, self.names, self.labels, self.classes = root, list(names), list(labels), list(classes)
        self.size, self.crop = size, crop
        self._cache: dict[int, U8] | None = {} if 3 * size**2 * len(self.names) < CACHE_BYTES else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return self._sample(index, images.centre_crop(self.resized(index), self.size))

    def draw(self, index: int, random: np.random.RandomState) -> Sample:
        """The sample, with a random crop if the set has them."""
        if self.crop == "centre":
            return self[index]
        return self._sample(index, images.random_crop(self.resized(index), self.size, random))

    def resized(self, index: int) -> U8:
        """(H, W, 3), uint8; the smaller side is ``size``."""
        if self._cache is None:
            return images.resize_smallest(read_image(self.root / self.names[index]), self.size)
        if index not in self._cache:
            self._cache[index] = images.resize_smallest(read_image(self.root / self.names[index]), self.size)
        return self._cache[index]

    def subset(self, indices: Sequence[int], crop: Crop | None = None) -> ImageFiles:
        """The files at these places, with the same classes; ``crop`` as before if None."""
        names, labels = [self.names[i] for i in indices], [self.labels[i] for i in indices]
        return ImageFiles(self.root, names, labels, self.classes, self.size, crop or self.crop)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """All images (N, 3, size, size), cropped at the centre, and all labels (N,), int64."""
        stacked = torch.stack([self[index]["image"] for index in range(len(self))])
        return stacked, torch.tensor(self.labels, dtype=torch.int64)

    def _sample(self, index: int, image: U8) -> Sample:
        return {"image": images.nchw(images.to_float(image)), "class": self.labels[index]}


def folder(path: str | Path, size: int, crop: Crop = "centre") -> ImageFiles:
    """The images of a folder: those of its sub-folders, which are the classes in the order of their names, or its own.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if images lie both in the folder and in its sub-folders.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"data: no folder {str(path)!r}; expected images ({', '.join(SUFFIXES)}), or one sub-folder for each class"
        )
    own = _images(path)
    groups = {below.name: _images(below) for below in sorted(path.iterdir()) if below.is_dir()}
    groups = {name: files for name, files in groups.items() if files}
    if own and groups:
        raise ValueError(
            f"data: {str(path)!r} has images of its own and in its sub-folders {', '.join(groups)}; expected one or "
            "the other, since sub-folders are classes"
        )
    if not own and not groups:
        raise FileNotFoundError(f"data: no images ({', '.join(SUFFIXES)}) in {str(path)!r} or its sub-folders")
    groups = groups or {path.name: own}
    names = [file.relative_to(path).as_posix() for files in groups.values() for file in files]
    labels = [label for label, files in enumerate(groups.values()) for _ in files]
    return ImageFiles(path, names, labels, list(groups), size, crop)


def listed(file: str | Path, root: str | Path, size: int, crop: Crop = "centre") -> ImageFiles:
    """The images that a list file names, one path below ``root`` on each line; one class, called as the list is.

    The published splits of FFHQ, CelebA-HQ, the portraits and the anime faces are such lists (net2net, section 3).

    Raises:
        FileNotFoundError: if the list is missing or empty, or naming how many of its images are.
    """
    file, root = Path(file), Path(root)
    if not file.is_file():
        raise FileNotFoundError(f"data: no list {str(file)!r}; expected a text file with one path of an image a line")
    names = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    missing = [name for name in names if not (root / name).is_file()]
    if missing or not names:
        what = (
            f"{len(missing)} of its {len(names)} images, the first is {missing[0]!r}" if names else "any image at all"
        )
        raise FileNotFoundError(f"data: the list {str(file)!r} lacks {what}; put them below {str(root)!r}")
    return ImageFiles(root, names, [0] * len(names), [file.stem], size, crop)


def split(
    files: ImageFiles, shares: Mapping[str, float], seed: int = 0, by: Literal["ratio", "hash"] = "ratio"
) -> dict[str, ImageFiles]:
    """Named parts of a set, disjoint, together all of it.

    Arguments:
        shares: of each part; they sum to 1.
        by: "ratio" gives every class its exact shares, in an order drawn by the seed; "hash" decides for each file by
            its name and the seed, so that a file stays in its part when others come.

    Raises:
        ValueError: if the shares do not sum to 1.
    """
    if min(shares.values(), default=-1) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares: expected numbers from 0 that sum to 1, got {dict(shares)}")
    if by == "hash":
        places = [_unit(f"{seed}/{name}") for name in files.names]
    else:
        places = _ranks(files.labels, seed)
    ends = np.cumsum(list(shares.values()))
    part = np.searchsorted(ends[:-1], places, side="right")
    return {name: files.subset(np.flatnonzero(part == index).tolist()) for index, name in enumerate(shares)}


def _ranks(labels: Sequence[int], seed: int) -> list[float]:
    """For each sample its random place among those of its class, from 0 to below 1, evenly spaced."""
    random, places = np.random.RandomState(seed), np.zeros(len(labels))
    for label in sorted(set(labels)):
        members = random.permutation(np.flatnonzero(np.asarray(labels) == label))
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return [float(place) for place in places]


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _images(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


class Concatenated:
    """Several data sets one after the other, each with a class of its own.

    Source: net2net 3: 0 CelebA, 1 CelebA-HQ, 2 FFHQ; 0 FFHQ and CelebA-HQ, 1 anime; 0 FFHQ, 1 portraits.

    Arguments:
        parts: pairs of class and data set; only ``image`` is taken from its samples.
    """

    def __init__(self, *parts: tuple[int, Any]) -> None:
        self.parts = parts
        self._ends = np.cumsum([len(examples) for _, examples in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        label, examples, place = self._at(index)
        return {"image": examples[place]["image"], "class": label}

    def draw(self, index: int, random: np.random.RandomState) -> Sample:
        """The sample, drawn if its data set draws."""
        label, examples, place = self._at(index)
        drawn = examples.draw(place, random) if hasattr(examples, "draw") else examples[place]
        return {"image": drawn["image"], "class": label}

    def _at(self, index: int) -> tuple[int, Any, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        which = int(np.searchsorted(self._ends, index, side="right"))
        label, examples = self.parts[which]
        return label, examples, index - int(self._ends[which] - len(examples))
