"""A published cut is trained on a folder of images with experts of the user's, and its verbs find them again."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import cli, weights

NAME = "invariances/alexnet-fc8"
SMALL = ["dim=8", "depth=1", "hidden=8", "embedder_depth=2"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        array = np.random.RandomState(index).randint(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{index}.png")
    return folder


def test_a_cut_is_trained_and_shown(images: Path, tmp_path: Path) -> None:
    autoencoder, out = tmp_path / "autoencoder.safetensors", tmp_path / "out"
    weights.save(zoo.build("invariances/digits-autoencoder", latent=8), autoencoder)
    steps = ["steps=2", "batch=8", "every=1", "classifier=random", f"autoencoder={autoencoder}"]
    assert cli.main(["train", NAME, *SMALL, *steps, f"data={images}", "--out", str(out)]) == 0
    assert cli.main(["sample", NAME, f"data={images}", "count=2", "draws=2", "--out", str(out)]) == 0
    assert set(json.loads((out / "sample.json").read_text())) == {"fc8_distance", "fc8_class_kept"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", NAME], "autoencoder=FILE"),
        (["sample", NAME, *SMALL, "--random"], "data=FOLDER"),
        (["train", "invariances/facenet-conv4a", "autoencoder=x"], "cut of a classifier"),
        (["sample", "invariances/tiny", "--random"], "cut of a classifier"),
        (["train", "invariances/stylized-resnet50-avgpool", "autoencoder=x"], "none of the published files"),
        (["train", "invariances/resnet101-fc", "autoencoder=x"], "resnet101_animalfaces_10"),
        (["demo", NAME], "invariances/digits or invariances/animalfaces"),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_the_latent_has_to_be_the_autoencoders(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    autoencoder = tmp_path / "autoencoder.safetensors"
    weights.save(zoo.build("invariances/digits-autoencoder", latent=6), autoencoder)
    words = ["train", NAME, *SMALL, f"autoencoder={autoencoder}", "classifier=random", f"data={images}"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert "dim=6" in capsys.readouterr().err
