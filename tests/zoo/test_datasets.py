"""Image folders and the papers' data sets: fixed labels, splits and pairs, and errors that say what belongs where."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from zoo.data import folders, images, pairs, standard
from zoo.data.folders import Concatenated, folder, listed, split


def noise(*shape: int, seed: int = 0) -> images.U8:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def write(path: Path, height: int, width: int, seed: int = 0) -> images.U8:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = noise(height, width, 3, seed=seed)
    Image.fromarray(image).save(path)
    return image


def random(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    for index in range(12):
        write(tmp_path / ("zebra" if index % 3 == 0 else "ape") / f"{index:02d}.png", 20, 24, index)
    (tmp_path / "empty").mkdir()
    (tmp_path / "zebra" / "notes.txt").write_text("no image")
    return tmp_path


def test_sub_folders_are_classes_in_the_order_of_their_names(animals: Path) -> None:
    files = folder(animals, 8)
    assert files.classes == ["ape", "zebra"] and files.labels == [0] * 8 + [1] * 4
    assert files.names[:2] == ["ape/01.png", "ape/02.png"] and files.names[-1] == "zebra/09.png"
    sample = files[8]
    expected = images.smallest_centre(noise(20, 24, 3, seed=0), 8)
    assert sample["class"] == 1 and torch.equal(sample["image"], images.nchw(expected))
    batch, labels = files.tensors()
    assert batch.shape == (12, 3, 8, 8) and labels.tolist() == files.labels and -1 <= batch.min() < batch.max() <= 1
    assert folder(animals / "ape", 8).classes == ["ape"]


def test_images_are_decoded_once_if_they_fit(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, read_anew = folder(animals, 8), folder(animals, 8)
    read_anew._cache = None
    first = kept[0]["image"], read_anew[0]["image"]
    monkeypatch.setattr(folders, "read_image", lambda path: noise(20, 24, 3, seed=99))
    assert torch.equal(first[0], kept[0]["image"]) and not torch.equal(first[1], read_anew[0]["image"])
    assert folders.ImageFiles(animals, ["a"] * 400_000, [0] * 400_000, ["a"], 64, "centre")._cache is None


def test_random_crops_are_drawn_and_central_ones_are_not(animals: Path) -> None:
    drawn = folder(animals, 8, "random")
    crops = {drawn.draw(0, random(seed))["image"].numpy().tobytes() for seed in range(20)}
    assert 1 < len(crops) <= 3  # 24 columns become 10, which leaves three places
    assert torch.equal(drawn.draw(0, random(4))["image"], drawn.draw(0, random(4))["image"])
    fixed = drawn.subset(range(12), crop="centre")
    assert all(torch.equal(fixed.draw(0, random(seed))["image"], drawn[0]["image"]) for seed in range(5))


@pytest.mark.parametrize("by", ["ratio", "hash"])
def test_parts_are_disjoint_fixed_and_together_all(animals: Path, by: Any) -> None:
    files, shares = folder(animals, 8), {"train": 0.5, "validation": 0.25, "test": 0.25}
    parts, again, other = split(files, shares, 1, by), split(files, shares, 1, by), split(files, shares, 2, by)
    assert sorted(name for part in parts.values() for name in part.names) == sorted(files.names)
    assert [part.names for part in parts.values()] == [part.names for part in again.values()]
    assert [part.names for part in parts.values()] != [part.names for part in other.values()]
    for part in parts.values():
        assert all(
            part.classes[label] == name.split("/")[0] for label, name in zip(part.labels, part.names, strict=True)
        )
    if by == "ratio":
        assert [part.labels.count(0) for part in parts.values()] == [4, 2, 2]
        assert [part.labels.count(1) for part in parts.values()] == [2, 1, 1]
    else:
        fewer = split(files.subset(range(0, 12, 2)), shares, 1, by)
        assert all(set(fewer[name].names) <= set(parts[name].names) for name in shares)
    with pytest.raises(ValueError, match="sum to 1, got"):
        split(files, {"train": 0.5})


def test_what_is_missing_empty_or_broken_is_named(animals: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere.*one sub-folder for each class"):
        folder(animals / "nowhere", 8)
    with pytest.raises(FileNotFoundError, match=r"no images \(.jpg.*empty"):
        folder(animals / "empty", 8)
    write(animals / "stray.png", 9, 9)
    with pytest.raises(ValueError, match="of its own and in its sub-folders ape, zebra"):
        folder(animals, 8)
    (animals / "ape" / "00.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="cannot read the image .*ape/00.jpg"):
        folder(animals / "ape", 8)[0]
    with pytest.raises(ValueError, match="'centre' or 'random', got 'left'"):
        folder(animals / "zebra", 8, "left")  # type: ignore[arg-type]


def test_lists_and_arrays_are_read_and_concatenated(tmp_path: Path) -> None:
    face = write(tmp_path / "ffhq" / "a" / "1.png", 20, 20, 3)
    np.save(tmp_path / "hq.npy", np.moveaxis(noise(16, 16, 3, seed=5), 2, 0)[None])
    (tmp_path / "ffhq.txt").write_text("a/1.png\n\n")
    (tmp_path / "hq.txt").write_text("hq.npy\n")
    ffhq, hq = listed(tmp_path / "ffhq.txt", tmp_path / "ffhq", 8), listed(tmp_path / "hq.txt", tmp_path, 8)
    assert ffhq.classes == ["ffhq"] and len(ffhq) == 1
    both = Concatenated((0, ffhq), (0, hq), (1, ffhq))
    assert len(both) == 3 and [both[index]["class"] for index in range(3)] == [0, 0, 1]
    assert torch.equal(both[0]["image"], images.nchw(images.smallest_centre(face, 8)))
    assert torch.equal(
        both.draw(1, random())["image"], images.nchw(images.smallest_centre(noise(16, 16, 3, seed=5), 8))
    )
    with pytest.raises(IndexError):
        both[3]
    (tmp_path / "ffhq.txt").write_text("a/1.png\na/2.png\n")
    with pytest.raises(FileNotFoundError, match="lacks 1 of its 2 images, the first is 'a/2.png'"):
        listed(tmp_path / "ffhq.txt", tmp_path / "ffhq", 8)
    with pytest.raises(FileNotFoundError, match="no list"):
        listed(tmp_path / "other.txt", tmp_path, 8)


def write_mnist(root: Path, kind: str = "MNIST", count: int = 30) -> tuple[images.U8, Any]:
    raw = root / kind / "raw"
    raw.mkdir(parents=True)
    pixels, labels = noise(count, 28, 28), (np.arange(count) % 4).astype(np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return pixels, labels


def test_mnist_is_prepared_with_noise_of_its_own(tmp_path: Path) -> None:
    pixels, labels = write_mnist(tmp_path)
    digits = standard.mnist(tmp_path, "train")
    sample = digits.draw(5, random(3))
    expected = images.iin_image(pixels[5][..., None], random(3).uniform())
    assert len(digits) == 30 and sample["class"] == labels[5] and sample["image"].shape == (1, 32, 32)
    assert torch.equal(sample["image"], images.nchw(expected))
    write_mnist(tmp_path, "FashionMNIST")
    assert len(standard.mnist(tmp_path, "test", fashion=True)) == 30
    with pytest.raises(FileNotFoundError, match="elsewhere/MNIST/raw/train-images-idx3-ubyte(.|\n)*get them from http"):
        standard.mnist(tmp_path / "elsewhere", "train")
    with pytest.raises(ValueError, match="expected 'train' or 'test', got 'validation'"):
        standard.mnist(tmp_path, "validation")  # type: ignore[arg-type]


def test_coloured_pairs_are_fixed_in_the_test_part_and_drawn_in_the_training_part(tmp_path: Path) -> None:
    pixels, labels = write_mnist(tmp_path)
    test = standard.ColouredMNIST(standard.mnist(tmp_path, "test"), "test")
    table = pairs.coloured_test_pairs(labels.astype(np.int64))
    batch = default_collate([test.draw(index, random(index)) for index in range(30)])
    assert batch["factor"].tolist() == table.factor.tolist()
    assert batch["example2"]["class"].tolist() == [labels[table[index].second] for index in range(30)]
    assert batch["example1"]["image"].shape == (30, 3, 32, 32)
    first = images.iin_image(pixels[0][..., None], random(0).uniform())
    assert torch.equal(batch["example1"]["image"][0], images.nchw(pairs.coloured(first, table.colour[0])))
    train = standard.ColouredMNIST(standard.mnist(tmp_path, "train"), "train")
    drawn = [train.draw(7, random(seed)) for seed in range(20)]
    assert {pair["factor"] for pair in drawn} == {0, 1}
    assert all(pair["example2"]["class"] == labels[7] for pair in drawn if pair["factor"] == 0)
    single = standard.ColouredMNIST(standard.mnist(tmp_path, "train"), "train", single=True).draw(7, random(1))
    assert torch.equal(single["image"], drawn[1]["example1"]["image"])


def test_cifar_is_read_from_the_published_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="cifar-10-batches-py/data_batch_1(.|\n)*cifar-10-python.tar.gz"):
        standard.cifar10(tmp_path, "train")
    base, pixels = tmp_path / "cifar-10-batches-py", noise(4, 32, 32, 3)
    base.mkdir()
    batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(4, -1), "labels": [3, 1, 0, 9]}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (base / name).write_bytes(pickle.dumps(batch))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(FileNotFoundError, match=r"data_batch_1 \(whole\?\)"):
        standard.cifar10(tmp_path, "train")
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *given: True)
    train, test = standard.cifar10(tmp_path, "train"), standard.cifar10(tmp_path, "test")
    assert (len(train), len(test)) == (20, 4) and test.draw(3, random())["class"] == 9
    expected = images.iin_image(pixels[2], random(8).uniform())
    assert torch.equal(test.draw(2, random(8))["image"], images.nchw(expected))


def write_celeba(root: Path) -> Any:
    base, count = root / "celeba", 24
    attributes = np.random.RandomState(0).choice([-1, 1], (count, 40))
    names = [f"{index:06d}.jpg" for index in range(1, count + 1)]
    for index, name in enumerate(names):
        write(base / "img_align_celeba" / name, 218, 178, index)
    table = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, attributes, strict=True)]
    (base / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(pairs.CELEBA_COLUMNS), *table]) + "\n")
    (base / "list_eval_partition.txt").write_text("".join(f"{n} {i // 8}\n" for i, n in enumerate(names)))
    (base / "identity_CelebA.txt").write_text("".join(f"{name} 1\n" for name in names))
    for file in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (base / file).write_text(f"{count}\nx y\n" + "".join(f"{name} 1 2\n" for name in names))
    return attributes


def test_celeba_and_its_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="celeba/list_attr_celeba.txt(.|\n)*img_align_celeba(.|\n)*mmlab"):
        standard.CelebA(tmp_path, "train")
    attributes = write_celeba(tmp_path)
    monkeypatch.setattr("torchvision.datasets.CelebA._check_integrity", lambda self: True)
    train, test = standard.CelebA(tmp_path, "train"), standard.CelebA(tmp_path, "test")
    assert (len(train), len(test)) == (8, 10_000)
    table = pairs.attribute_test_pairs(attributes[16:, pairs.attribute_columns()].astype(np.int8))
    sample = test.draw(3, random(2))
    assert sample["image"].shape == (3, 64, 64)
    assert sample["attributes"].tolist() == attributes[16 + table.subset[3]].tolist()
    chosen = standard.CelebAPairs(test, "test").draw(3, random())
    assert chosen["factor"] == table.factor[3]
    second = 16 + table.subset[table.second[3]]
    assert chosen["example2"]["attributes"].tolist() == attributes[second].tolist()
    whole_part = pairs.attribute_test_pairs(train.attributes, count=None)
    assert whole_part.subset.tolist() == list(range(8)) and len(whole_part) == 8
    for index in range(8):
        pair = whole_part[index]
        same = train.attributes[pair.first] == train.attributes[pair.second]
        assert pair.first == index and same[pair.factor]
    assert pairs.attribute_columns(["no_beard"]) == [pairs.CELEBA_COLUMNS.index("No_Beard")]
    drawn = standard.CelebAPairs(train, "train", ["Male", "Young"])
    assert drawn.factors == ("Male", "Young", "residual") and len(drawn) == 8
    for seed in range(10):
        pair = drawn.draw(seed % 8, random(seed))
        column = pairs.CELEBA_COLUMNS.index(drawn.factors[pair["factor"]])
        assert pair["example1"]["attributes"][column] == pair["example2"]["attributes"][column]
    whole = standard.CelebA(tmp_path, "test", 32, "net2net")
    pixels = folders.read_image(whole.root / whole.files[1])
    expected = images.dequantise(images.celeba(pixels, 32), random(4).uniform())
    assert len(whole) == 8 and torch.equal(whole.draw(1, random(4))["image"], images.nchw(expected))


def test_captions_are_one_of_several(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="annotations/captions_train2017.json(.|\n)*train2017(.|\n)*cocodataset"
    ):
        standard.Captions(tmp_path, "train")
    for part in ("train", "val"):
        facts: dict[str, Any] = {"images": [], "annotations": []}
        for number in (9, 4):
            write(tmp_path / f"{part}2017" / f"{number}.png", 20, 30, number)
            facts["images"].append({"id": number, "file_name": f"{number}.png"})
            facts["annotations"] += [{"image_id": number, "caption": f"{number}{letter}"} for letter in "abc"]
        facts["images"].append({"id": 1, "file_name": "without.png"})
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(facts))
    train, validation = (standard.Captions(tmp_path, part, 16) for part in ("train", "val"))  # type: ignore[arg-type]
    assert len(train) == 2
    assert {train.draw(0, random(seed))["caption"] for seed in range(20)} == {"4a", "4b", "4c"}
    assert {validation.draw(1, random(seed))["caption"] for seed in range(20)} == {"9a", "9b", "9c"}
    crops = [[data.draw(0, random(seed))["image"] for seed in range(6)] for data in (train, validation)]
    assert any(not torch.equal(crops[0][0], crop) for crop in crops[0])
    expected = images.nchw(images.smallest_centre(noise(20, 30, 3, seed=4), 16))
    assert all(torch.equal(expected, crop) for crop in crops[1])
    batch = default_collate([train.draw(index, random()) for index in range(2)])
    assert batch["image"].shape == (2, 3, 16, 16) and batch["caption"][1][0] == "9"


def test_data_sets_go_to_other_processes(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    pair = standard.ColouredMNIST(standard.mnist(tmp_path, "train"), "train")
    again = pickle.loads(pickle.dumps(pair))
    assert torch.equal(again.draw(2, random())["example2"]["image"], pair.draw(2, random())["example2"]["image"])
