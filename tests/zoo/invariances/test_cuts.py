"""What the verbs of a published cut refuse, and what they say then."""

from pathlib import Path

import pytest

from zoo import cli

NAME = "invariances/alexnet-fc8"
AUTOENCODER = "autoencoder=animalfaces-autoencoder"
SMALL = ["depth=1", "hidden=8", "embedder_depth=2"]
RANDOM = ["sample", NAME, *SMALL, AUTOENCODER, "--random"]
TEXTURE = "invariances/stylized-resnet50-avgpool"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", NAME, *SMALL, "autoencoder=x"], "neither a file nor a registered network"),
        (["train", NAME, *SMALL, "autoencoder=tiny:random"], "expected parts encoder and decoder"),
        ([*RANDOM, "dim=64"], "data=FOLDER"),
        ([*RANDOM, "dim=64", "data=here"], "no folder 'here'"),
        ([*RANDOM, "dim=32"], "dim=64"),
        (["train", NAME, *SMALL, "dim=32", AUTOENCODER + ":random", "classifier=random"], "dim=64"),
        (["sample", NAME, *SMALL, AUTOENCODER], "train it first"),
        (["train", "invariances/facenet-conv4a"], "none was published"),
        (["sample", "invariances/tiny", "--random"], "cut of a classifier"),
        (["train", TEXTURE, *SMALL, "autoencoder=biggan-tiny:random", "dim=248"], "none of the published files"),
        (["train", "invariances/digits", "steps=5", "classifier=x"], "expected no classifier, steps"),
        (
            ["train", NAME, *SMALL, AUTOENCODER + ":random", "dim=64", "classifier=random", "dequantiser=x"],
            "no dequant",
        ),
        (["demo", NAME], "invariances/digits or invariances/animalfaces"),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
