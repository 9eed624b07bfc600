"""Data sets of the configurations: published layouts in one folder, lists, folders of one's own, codes of BigGAN."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zoo.net2net import layouts
from zoo.data import zcodes
from zoo.data.folders import read_image
from zoo.data.images import nchw, smallest_centre
from zoo.net2net import data
from zoo.net2net.words import Words, absolute

SETS = (("ffhq", "celebahq"), ("anime",))


def test_sets_are_labelled_by_their_group_and_split_as_published(tmp_path: Path) -> None:
    for k, (name, count) in enumerate((("ffhq", 14), ("celebahq", 12), ("anime", 10))):
        layouts.colours(tmp_path / name, count, k)
    found = data.examples(SETS, str(tmp_path), 16, "class")
    assert found.validation is not None and (len(found.train), len(found.validation)) == (12 + 10 + 9, 2 + 2 + 1)
    batch = data.batch(found.validation, 5, 0)
    assert batch["class"].tolist() == [0, 0, 0, 0, 1] and batch["image"].shape == (5, 3, 16, 16)
    assert len(data.Some(found.train, 7)) == 7 and len(data.Some(found.train, 99)) == 31
    with pytest.raises(ValueError, match="expected 1 to 5, got 6"):
        data.batch(found.validation, 6, 0)
    (tmp_path / "anime").rename(tmp_path / "cartoons")
    with pytest.raises(FileNotFoundError, match="without .*anime"):
        data.examples(SETS, str(tmp_path), 16, "class")


def test_lists_are_the_parts_where_there_are_any(tmp_path: Path) -> None:
    folder = layouts.colours(tmp_path / "portraits", 5)
    (folder / "train.txt").write_text("00.png\n03.png\n")
    (folder / "validation.txt").write_text("04.png\n")
    found = data.examples((("portraits",),), str(tmp_path), 16)
    assert found.validation is not None and (len(found.train), len(found.validation)) == (2, 1)
    expected = nchw(smallest_centre(read_image(folder / "03.png"), 16))
    assert torch.equal(found.train[1]["image"], expected)  # type: ignore[index]


def test_folders_are_the_parts_of_a_set_that_is_published_in_them(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 3)):
        for animal in ("cat", "dog"):
            layouts.colours(tmp_path / "afhq" / part / animal, count)
    found = data.examples((("afhq",),), str(tmp_path), 16)
    assert found.validation is not None and (len(found.train), len(found.validation)) == (8, 6)


def test_pictures_of_ones_own_need_a_folder_for_each_domain(tmp_path: Path) -> None:
    for name in ("cats", "dogs", "owls"):
        layouts.colours(tmp_path / name, 10)
    three = data.examples((("celeba",), ("celebahq",), ("ffhq",)), str(tmp_path), 16, "class")
    assert three.validation is not None and data.batch(three.validation, 3, 0)["class"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="expected 2 sub-folders of images, one for each domain, got 3"):
        data.examples((("ffhq",), ("portraits",)), str(tmp_path), 16, "class")
    assert len(data.examples((("coco",),), str(tmp_path), 16).train) == 27
    with pytest.raises(FileNotFoundError, match="coco"):
        data.examples((("coco",),), str(tmp_path), 16, "caption")


def test_codes_are_of_the_classes_that_coco_has_too() -> None:
    whole, small = data.biggan_codes(140, 1000, 6), data.biggan_codes(12, 10, 6)
    assert whole.validation is not None and len(whole.validation) == 6 and len(whole.train) == 100_000
    draws = [whole.train.draw(k, np.random.RandomState(k))["class"] for k in range(20)]  # type: ignore[union-attr]
    assert set(map(int, draws)) <= set(zcodes.COCO)
    assert 2.45 < np.abs(zcodes.test_samples(200)[0]).max() <= 2.5 and len(zcodes.COCO) == 114
    assert small.validation is not None and int(data.batch(small.validation, 6, 0)["class"].max()) < 10


def test_words_of_an_expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file.ckpt").write_text("")
    monkeypatch.chdir(tmp_path)
    text = "net2net/ae-faces32 'a file.ckpt' width=4 'other=a file.ckpt'"
    words = Words.of(text, lambda word: word.startswith("net2net/"))
    assert (words.name, words.file) == ("net2net/ae-faces32", "a file.ckpt")
    assert words.options == {"width": "4", "other": "a file.ckpt"}
    again = Words.of(absolute(text), lambda word: word.startswith("net2net/"))
    assert again.file == str(tmp_path / "a file.ckpt") and again.options["width"] == "4"
