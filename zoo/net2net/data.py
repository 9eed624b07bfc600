"""The examples of Net2Net's configurations: the papers' data sets, a folder of one's own, BigGAN's codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import default_collate

from zoo.data import folders, zcodes
from zoo.data.folders import Concatenated
from zoo.data.standard import Captions, CelebA
from zoo.net2net.configurations import Sets
from zoo.training.batches import mixed
from zoo.training.draws import Data, Examples, RandomExamples

Part = Literal["train", "test"]
SHARES = {"ffhq": 6 / 7, "celebahq": 5 / 6}
"""Of the training part, as in the authors' lists."""
SHARE = 0.9
"""The same for portraits, anime, and every other folder."""
VALIDATION = 1000
"""Samples that a training is validated on at most, evenly spaced in the test part."""
CODES = "bigbigan_{}2017.npy"
"""In COCO's folder: what BigBiGAN's encoder makes of the pictures with captions, in the order of their numbers."""


def examples(sets: Sets, root: str, size: int, key: str = "image") -> Data:
    """Training and test part of some data sets; samples have "image" (3, size, size) in [-1, 1] and what goes with it.

    Arguments:
        key: what is needed beside: "class", "caption", "attributes" or no more than "image".
        sets: see :class:`zoo.net2net.configurations.Configuration`; "class" is the place in it.
        root: has a folder called like each of the sets (``celeba`` and ``coco`` as published, the others with images or
            sub-folders of images; lists ``train.txt`` and ``validation.txt`` there, folders ``train`` and ``val`` or
            ``test``, or else fixed shares are the parts), or none of them but images of one's own: a sub-folder for
            each domain.

    Raises:
        FileNotFoundError: naming the sets that are missing.
        ValueError: for images of one's own in another number of sub-folders than there are domains.
    """
    names = [name for group in sets for name in group]
    there = [name for name in names if (Path(root) / name).is_dir() or (name == "coco" and _coco(root).is_dir())]
    if not there and key in ("image", "class"):
        return _own(folders.folder(root, size), len(sets) if key == "class" else 1)
    absent = [str(Path(root) / name) for name in names if name not in there]
    if absent:
        raise FileNotFoundError(f"data: expected the folders {', '.join(names)} in {root!r}, without {absent[0]!r}")
    if len(names) == 1:
        return Data(*(_set(root, names[0], size, part) for part in ("train", "test")))
    found = [
        Concatenated(*((k, _set(root, name, size, part)) for k, group in enumerate(sets) for name in group))
        for part in ("train", "test")
    ]
    return Data(*found)


def _own(files: folders.ImageFiles, domains: int) -> Data:
    if domains > 1 and len(files.classes) != domains:
        raise ValueError(
            f"data: expected {domains} sub-folders of images, one for each domain, got {len(files.classes)} in "
            f"{str(files.root)!r}"
        )
    parts = folders.split(files, {"train": SHARE, "test": 1 - SHARE})
    return Data(parts["train"], parts["test"])


def _set(root: str, name: str, size: int, part: Part) -> Examples | RandomExamples:
    place = Path(root) / name
    if name == "coco":
        return Captions(_coco(root).parent, "train" if part == "train" else "val", size)
    if name == "celeba":
        return CelebA(root, part, size, "net2net")
    file = place / {"train": "train.txt", "test": "validation.txt"}[part]
    if file.is_file():
        return folders.listed(file, place, size)
    for test in ("val", "test"):  # as AFHQ is published, with a folder for each kind of animal below
        if (place / "train").is_dir() and (place / test).is_dir():
            return folders.folder(place / {"train": "train", "test": test}[part], size)
    share = SHARES.get(name, SHARE)
    return folders.split(folders.folder(place, size), {"train": share, "test": 1 - share})[part]


def _coco(root: str) -> Path:
    """COCO's folder of annotations, in the folder ``coco`` or in ``root`` itself."""
    inside = Path(root) / "coco" / "annotations"
    return inside if inside.is_dir() else Path(root) / "annotations"


@dataclass(frozen=True)
class CodedCaptions:
    """COCO's captions with latents in the place of pictures: "latent" (D,) and "caption"."""

    captions: Sequence[Sequence[str]]
    codes: np.ndarray[Any, np.dtype[np.float32]]

    def __len__(self) -> int:
        return len(self.captions)

    def draw(self, index: int, random: np.random.RandomState) -> dict[str, Any]:
        """A sample with one of its captions."""
        choices = self.captions[index]
        return {"latent": torch.from_numpy(self.codes[index]), "caption": choices[int(random.choice(len(choices)))]}


def captions(root: str, size: int) -> Captions:
    """COCO's validation part, the pictures of ``size`` pixels a side; FileNotFoundError for what is missing."""
    return Captions(_coco(root).parent, "val", size)


def coded_captions(root: str, dim: int) -> Data:
    """COCO with the latents (N, dim) that BigBiGAN's encoder, which does not run here, made elsewhere.

    Raises:
        FileNotFoundError: for a file that is missing; ValueError for latents of another shape.
    """
    parts: list[CodedCaptions] = []
    for part in ("train", "val"):
        base = _coco(root).parent
        texts, file = Captions(base, part).captions, base / CODES.format(part)
        if not file.is_file():
            raise FileNotFoundError(
                f"data: no file {str(file)!r}: BigBiGAN's encoder was only published as a TensorFlow Hub module "
                f"(deepmind/bigbigan-resnet50/1); encode the {len(texts)} pictures with captions, in the order of "
                f"their numbers, there, and save 'z_sample' as float32 ({len(texts)}, {dim})"
            )
        codes = np.load(file, allow_pickle=False)
        if codes.shape != (len(texts), dim):
            raise ValueError(f"data: expected latents ({len(texts)}, {dim}) in {str(file)!r}, got {codes.shape}")
        parts.append(CodedCaptions(texts, codes.astype(np.float32)))
    return Data(*parts)


class Arrays:
    """Codes "z" (D,) and their "class"."""

    def __init__(self, z: zcodes.Codes, classes: zcodes.Classes) -> None:
        self.z, self.classes = z, classes

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"z": self.z[index], "class": self.classes[index]}


def biggan_codes(size: int, classes: int, count: int = zcodes.TEST) -> Data:
    """Codes of a BigGAN, ``count`` of them to test with; see :func:`zoo.data.zcodes.held_out_of`."""
    return Data(zcodes.training_of(classes, size), Arrays(*zcodes.held_out_of(classes, size, count)))


class Some:
    """``count`` evenly spaced examples at most."""

    def __init__(self, parts: Examples | RandomExamples, count: int) -> None:
        self.parts, self.places = parts, np.linspace(0, len(parts) - 1, min(count, len(parts))).astype(int).tolist()

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, random: np.random.RandomState) -> Any:
        """The example, drawn if its data set draws."""
        return _drawn(self.parts, self.places[index], random)


def batch(parts: Examples | RandomExamples, count: int, seed: int) -> dict[str, Any]:
    """``count`` examples as a batch, one from each of as many equal stretches, so that every domain has some.

    Raises:
        ValueError: for more than there are.
    """
    if not 1 <= count <= len(parts):
        raise ValueError(f"count: expected 1 to {len(parts)}, got {count}")
    random = np.random.RandomState(mixed(seed, *b"shown") % 2**32)
    ends = np.linspace(0, len(parts), count + 1).astype(int)
    places = [int(random.randint(first, last)) for first, last in zip(ends, ends[1:], strict=False)]
    found: dict[str, Any] = default_collate([_drawn(parts, place, random) for place in places])
    return found


def stretch(parts: Examples | RandomExamples, count: int, first: int, size: int, seed: int) -> dict[str, Any]:
    """Of ``count`` evenly spaced examples those from ``first`` on, ``size`` at most, as a batch."""
    random, some = np.random.RandomState(mixed(seed, first, *b"stretch") % 2**32), Some(parts, count)
    found: dict[str, Any] = default_collate([some.draw(k, random) for k in range(first, min(first + size, len(some)))])
    return found


def _drawn(parts: Examples | RandomExamples, index: int, random: np.random.RandomState) -> Any:
    return parts.draw(index, random) if isinstance(parts, RandomExamples) else parts[index]
