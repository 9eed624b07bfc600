"""The data sets that the papers name, in their published folders and splits, prepared as the papers do.

Files are read by torchvision, which checks them; nothing is downloaded. Parts are "train" and "test"; what the papers'
configurations call validation is the test part. Samples are random (dequantisation, partners), so they are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.data import images, pairs
from zoo.data.folders import Sample, read_image
from zoo.data.images import F32, U8
from zoo.data.pairs import Indices
from zoo.extras import require

Part = Literal["train", "test"]
Random = np.random.RandomState


class Pixels(Protocol):
    """Images, uint8, (H, W) or (H, W, C), by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> U8: ...


class Dequantised:
    """Labelled images with one number of noise each; samples are ``image`` (C, H, W) and ``class``.

    Arguments:
        pixels: as published.
        labels: (N,).
        prepare: from pixels and noise to (H, W, C) in [-1, 1].
    """

    def __init__(self, pixels: Pixels, labels: Indices, prepare: Callable[[U8, float], F32]) -> None:
        self.pixels, self.labels, self.prepare = pixels, labels, prepare

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, index: int, random: Random) -> Sample:
        """A sample with fresh noise."""
        return {"image": images.nchw(self.array(index, random)), "class": int(self.labels[index])}

    def array(self, index: int, random: Random) -> F32:
        """The prepared image (H, W, C)."""
        return self.prepare(self.pixels[index], random.uniform())


def mnist(root: str | Path, part: Part, size: int = 32, fashion: bool = False) -> Dequantised:
    """MNIST or FashionMNIST, 60,000 and 10,000 images, as iin prepares them (section 3.5).

    Raises:
        FileNotFoundError: naming the files that are missing, and where they belong.
    """
    require("torchvision")
    from torchvision.datasets import MNIST, FashionMNIST

    kind = FashionMNIST if fashion else MNIST
    raw = Path(root) / kind.__name__ / "raw"
    files = [Path(url).name.removesuffix(".gz") for url, _ in kind.resources]
    data = _opened(lambda: kind(str(root), train=_is_train(part)), [raw / file for file in files], kind.mirrors[0])
    pixels = data.data.numpy()[..., None]
    return Dequantised(pixels, data.targets.numpy().astype(np.int64), partial(images.iin_image, size=size))


def cifar10(root: str | Path, part: Part, size: int = 32) -> Dequantised:
    """CIFAR10, 50,000 and 10,000 images, as iin prepares them (section 3.5).

    Raises:
        FileNotFoundError: naming the files that are missing or broken, and where they belong.
    """
    require("torchvision")
    from torchvision.datasets import CIFAR10

    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list] + [CIFAR10.meta["filename"]]
    files = [Path(root) / CIFAR10.base_folder / name for name in names]
    data = _opened(lambda: CIFAR10(str(root), train=_is_train(part)), files, CIFAR10.url)
    return Dequantised(data.data, np.array(data.targets, np.int64), partial(images.iin_image, size=size))


class ColouredMNIST:
    """Coloured MNIST (iin 3.5): single images, or pairs that share their digit (factor 0) or colour (factor 1).

    Pairs are ``factor``, ``example1`` and ``example2``; an example, like a single image, is ``image`` (3, H, W) and
    ``class``. The pairs of the test part are fixed; those of the training part are drawn.

    Arguments:
        digits: ``mnist(root, part)``.
        part: "train" or "test".
        single: the first examples alone, on which autoencoder and classifier are trained.
    """

    factors = pairs.CMNIST_FACTORS

    def __init__(self, digits: Dequantised, part: Part, single: bool = False) -> None:
        self.digits, self.single = digits, single
        self.classes = pairs.members(digits.labels)
        self.table = None if _is_train(part) else pairs.coloured_test_pairs(digits.labels)

    def __len__(self) -> int:
        return len(self.digits)

    def draw(self, index: int, random: Random) -> Any:
        """A single image, or a pair."""
        labels = self.digits.labels
        pair = self.table[index] if self.table else pairs.coloured_pair(index, labels, self.classes, random)
        assert pair.colours is not None
        first = self._example(pair.first, pair.colours[0], random)
        if self.single:
            return first
        second = self._example(pair.second, pair.colours[1], random)
        return {"factor": pair.factor, "example1": first, "example2": second}

    def _example(self, index: int, colour: F32, random: Random) -> Sample:
        image = pairs.coloured(self.digits.array(index, random), colour)
        return {"image": images.nchw(image), "class": int(self.digits.labels[index])}


class CelebA:
    """CelebA: ``image`` (3, size, size) in [-1, 1] and ``attributes`` (40,), int8, -1 or +1.

    The training part has 162,770 images. The test part has 19,962; iin takes 10,000 draws from it, with replacement.

    Arguments:
        root: holds the folder ``celeba`` with ``img_align_celeba`` and the five tables of annotations.
        part: "train" or "test".
        size: 64 in iin, 256 in net2net.
        preparation: "iin" loses grey levels by truncation and draws its test part, "net2net" does neither.

    Raises:
        FileNotFoundError: naming the files that are missing or broken, and where they belong.
    """

    def __init__(
        self, root: str | Path, part: Part, size: int = 64, preparation: Literal["iin", "net2net"] = "iin"
    ) -> None:
        require("torchvision")
        from torchvision.datasets import CelebA as Published

        base = Path(root) / Published.base_folder
        files = [base / name for *_, name in Published.file_list if name.endswith(".txt")] + [base / "img_align_celeba"]
        kind = "train" if _is_train(part) else "test"
        site = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        data = _opened(lambda: Published(str(root), split=kind, target_type="attr"), files, site)
        self.root, self.files = base / "img_align_celeba", list(data.filename)
        self.attributes: NDArray[np.int8] = (data.attr.numpy() * 2 - 1).astype(np.int8)
        self.prepare = partial(images.iin_celeba if preparation == "iin" else images.net2net_celeba, size=size)
        self.subset: Indices = np.arange(len(self.files))
        if preparation == "iin" and not _is_train(part):
            self.subset = pairs.test_subset(len(self.files))

    def __len__(self) -> int:
        return len(self.subset)

    def draw(self, index: int, random: Random) -> dict[str, Any]:
        """A sample with fresh noise."""
        return self.at(int(self.subset[index]), random)

    def at(self, place: int, random: Random) -> dict[str, Any]:
        """The image at a place of the part itself, not of the drawn test part."""
        image = self.prepare(read_image(self.root / self.files[place]), random.uniform())
        return {"image": images.nchw(image), "attributes": self.attributes[place]}


class CelebAPairs:
    """Pairs of faces with the same value of one of the attributes (iin 3.5): ``factor``, ``example1``, ``example2``.

    The pairs of the test part are fixed; those of the training part are drawn.

    Arguments:
        faces: ``CelebA(root, part)``.
        part: "train" or "test".
        names: the attributes that are factors.
    """

    def __init__(self, faces: CelebA, part: Part, names: Sequence[str] = pairs.CELEBA_ATTRIBUTES) -> None:
        self.faces, self.factors = faces, (*names, "residual")
        self.attributes = faces.attributes[:, pairs.attribute_columns(names)]
        self.groups = pairs.attribute_groups(self.attributes)
        self.table = None if _is_train(part) else pairs.attribute_test_pairs(self.attributes)

    def __len__(self) -> int:
        return len(self.table or self.faces)

    def draw(self, index: int, random: Random) -> dict[str, Any]:
        """A pair."""
        if self.table:
            pair = self.table[index]
        else:
            factor, second = pairs.attribute_pair(index, self.attributes, self.groups, random)
            pair = pairs.Pair(factor, index, second)
        first = self.faces.at(pair.first, random)
        return {"factor": pair.factor, "example1": first, "example2": self.faces.at(pair.second, random)}


class Captions:
    """COCO 2017 (net2net 3): ``image`` (3, size, size) in [-1, 1] and ``caption``, one of about five at random.

    Crops are random in the training part and central in the validation part; captions are random in both.

    Arguments:
        root: holds ``annotations/captions_<part>2017.json`` and the images in ``<part>2017``.
        part: "train" or "val".
        size: side in pixels.

    Raises:
        FileNotFoundError: naming what is missing, and where it belongs.
    """

    def __init__(self, root: str | Path, part: Literal["train", "val"], size: int = 256) -> None:
        self.root, table = Path(root) / f"{part}2017", Path(root) / "annotations" / f"captions_{part}2017.json"
        absent = [str(path) for path in (table, self.root) if not path.exists()]
        if absent:
            raise FileNotFoundError(_advice(absent, "https://cocodataset.org/#download"))
        facts = json.loads(table.read_text())
        captions: dict[int, list[str]] = {}
        for line in facts["annotations"]:
            captions.setdefault(line["image_id"], []).append(line["caption"])
        known = sorted((image["id"], image["file_name"]) for image in facts["images"] if image["id"] in captions)
        self.files, self.captions = [name for _, name in known], [captions[number] for number, _ in known]
        self.size, self.train = size, part == "train"

    def __len__(self) -> int:
        return len(self.files)

    def draw(self, index: int, random: Random) -> dict[str, Any]:
        """A sample with one of its captions."""
        image = images.resize_smallest(read_image(self.root / self.files[index]), self.size)
        if self.train:
            image = images.random_crop(image, self.size, random)
        cropped = images.centre_crop(image, self.size)
        choices = self.captions[index]
        return {"image": images.nchw(images.to_float(cropped)), "caption": choices[int(random.choice(len(choices)))]}


def _is_train(part: Part) -> bool:
    if part not in ("train", "test"):
        raise ValueError(f"part: expected 'train' or 'test', got {part!r}")
    return part == "train"


def _opened(make: Callable[[], Any], files: Sequence[Path], site: str) -> Any:
    """What torchvision reads; its refusal as an error that says what belongs where."""
    try:
        return make()
    except (RuntimeError, FileNotFoundError) as error:
        absent = [str(file) for file in files if not file.exists()]
        raise FileNotFoundError(_advice(absent or [f"{file} (whole?)" for file in files], site)) from error


def _advice(absent: Sequence[str], site: str) -> str:
    return "\n  ".join(["data: missing or broken:", *absent, f"get them from {site} and put them there"])
