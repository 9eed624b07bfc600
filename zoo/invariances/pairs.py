"""Pairs of images that share a concept, on which the flow to concepts is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from zoo.data import folders
from zoo.data.pairs import members
from zoo.data.standard import CelebA, CelebAPairs
from zoo.invariances.system import Unread
from zoo.training.draws import Data, Drawn

SHARES = {"train": 0.9, "test": 0.1}
"""Of a folder, for every network that is trained on it: what one trains with, another is not shown as held out."""
ATTRIBUTES = {"hair": "Black_Hair", "glasses": "Eyeglasses", "gender": "Male", "beard": "No_Beard", "age": "Young",
              "smiling": "Smiling"}  # fmt: skip
"""CelebA's column for each of the paper's concepts, our choice, since the paper does not tell.

Others have to be called as a column is.
"""
CELEBA = Path("celeba") / "list_attr_celeba.txt"
SHOWN = 1000  # faces of CelebA's test part that verbs work with at most


class ClassPairs:
    """Two images of one class, for one concept beside the residual: "first", "second" and "factor", which is 0.

    Arguments:
        files: with two classes or more.
    """

    def __init__(self, files: folders.ImageFiles) -> None:
        self.files = files
        self.members = members(np.asarray(files.labels))

    def __len__(self) -> int:
        return len(self.files)

    def draw(self, index: int, random: np.random.RandomState) -> dict[str, Any]:
        """A pair that begins with the image at ``index``; the second may be the same one."""
        second = int(random.choice(self.members[self.files.labels[index]]))
        return {"first": self._image(index), "second": self._image(second), "factor": 0}

    def _image(self, index: int) -> Tensor:
        image: Tensor = self.files[index]["image"]
        return image


class Faces:
    """Two faces of CelebA with the same value of an attribute: "first", "second" and "factor", which one."""

    def __init__(self, pairs: CelebAPairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs.faces)

    def draw(self, index: int, random: np.random.RandomState) -> dict[str, Any]:
        """A pair that begins with the face at ``index``."""
        pair = self.pairs.draw(index, random)
        return {"first": pair["example1"]["image"], "second": pair["example2"]["image"], "factor": pair["factor"]}


def told(files: folders.ImageFiles) -> str:
    """A hash of the files' names, classes included: by it a run knows the images that it was trained with."""
    return hashlib.sha256("\n".join(files.names).encode()).hexdigest()[:16]


def is_celeba(data: str) -> bool:
    """Whether a folder is CelebA's, as torchvision expects it."""
    return bool(data) and (Path(data) / CELEBA).is_file()


def held_out_faces(data: str, size: int) -> Unread:
    """The first images (3, size, size) of CelebA's test part, cropped as for training; errors as its data set."""
    drawn = Drawn(CelebA(data, "test", size, "net2net"), 0)
    return Unread(min(SHOWN, len(drawn)), lambda place: drawn[place, place]["image"])


def of(data: str, size: int, concepts: Sequence[str]) -> Data:
    """The pairs of a folder: CelebA's, where ``celeba/list_attr_celeba.txt`` lies below it, else those of its classes.

    Arguments:
        size: side of the images.
        concepts: the flow's, the residual last.

    Raises:
        ValueError: for concepts that the folder does not tell; FileNotFoundError for no images.
    """
    if not data:
        raise ValueError("data: expected data=FOLDER, that of CelebA or one with a sub-folder of images for each class")
    named = list(concepts[:-1])
    if is_celeba(data):
        columns = [ATTRIBUTES.get(name, name) for name in named]
        made = [CelebAPairs(CelebA(data, part, size, "net2net"), "train", columns) for part in ("train", "test")]
        return Data(*map(Faces, made))
    files = folders.folder(data, size)
    if len(named) != 1 or len(files.classes) < 2:
        raise ValueError(
            f"concepts: a folder with {len(files.classes)} classes tells one concept if there are two classes or more; "
            f"expected concepts=kind,residual and such a folder, or CelebA's, got concepts={','.join(concepts)}"
        )
    parts = folders.split(files, SHARES)
    return Data(ClassPairs(parts["train"]), ClassPairs(parts["test"]))
