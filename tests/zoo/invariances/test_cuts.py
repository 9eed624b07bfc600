"""What the verbs of a published cut refuse, and what they say then."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import cli, weights

NAME = "invariances/alexnet-fc8"
AUTOENCODER = "autoencoder=animalfaces-autoencoder"
SMALL = ["dim=8", "depth=1", "hidden=8", "embedder_depth=2"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        array = np.random.RandomState(index).randint(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", NAME, "autoencoder=x"], "neither a file nor a registered network"),
        (["train", NAME, "autoencoder=tiny:random"], "expected parts encoder and decoder"),
        (["sample", NAME, "dim=64", AUTOENCODER, "--random"], "data=FOLDER"),
        (["sample", NAME, "dim=32", AUTOENCODER, "--random"], "dim=64"),
        (["sample", NAME, AUTOENCODER], "train it first"),
        (
            ["sample", NAME, "dim=64", AUTOENCODER, "others=resnet50-avgpool", "data=here", "--random"],
            "no folder 'here'",
        ),
        (["train", "invariances/facenet-conv4a"], "none was published"),
        (["sample", "invariances/tiny", "--random"], "cut of a classifier"),
        (
            ["train", "invariances/stylized-resnet50-avgpool", "autoencoder=biggan-tiny:random", "dim=248"],
            "none of the published files",
        ),
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
