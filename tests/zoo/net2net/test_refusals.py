"""What cannot be done is said, before anything is drawn or trained."""

from pathlib import Path

import pytest

from tests.zoo.net2net import layouts
from tests.zoo.net2net.layouts import run

LESS = ["--random", "depth=2", "hidden=8"]
FACES, SENTENCES = "net2net/anime-photography", "net2net/sbert-to-coco-ae256"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", FACES, "samples=0", *LESS], "samples: expected at least 1, got 0"),
        (["sample", FACES, "samples=-2", *LESS], "samples: expected at least 1, got -2"),
        (["sample-all-labels", FACES, "count=-3", *LESS], "count: expected at least 1, got -3"),
        (["diagnose", "net2net/layers-early", "samples=0", *LESS], "samples: expected at least 1, got 0"),
        (["diagnose", "net2net/tiny-pictures", "samples=-1", "--random"], "samples: expected at least 1, got -1"),
        (["text2img", SENTENCES, "samples=0", *LESS], "samples: expected at least 1, got 0"),
        (["text2img", FACES, *LESS], "anime-photography is not conditioned on texts\n"),
        (["train", FACES, "steps=1", "batch=1", *LESS], "batch: expected at least 2"),
        (["train", "net2net/ae-faces32", "size=30", "--random"], "size: expected a multiple of 2 ** down = 16, got 30"),
        (["train-ae", "net2net/tiny-pictures", "autoencoder_epochs=-1"], "autoencoder_epochs: expected at least 1"),
        (["train", "net2net/tiny-pictures", "flow_epochs=-1"], "flow_epochs: expected at least 1"),
        (["train", "net2net/layers-early", "source=resnet50 random classes=x", *LESS], "classes expects an integer"),
        (["train", "net2net/tiny-pictures", "data=x"], "has pictures of its own; leave data= out"),
        (["train", "net2net/tiny-pictures", "steps=3"], "expected autoencoder_epochs= and flow_epochs="),
        (["train", "net2net/biggan256", "steps=3"], "the verb does not know it"),
        (["train", "net2net/ae-faces32", "source=x"], "leave them out"),
        (["train", "net2net/sbert-to-biggan256", "data=x", *LESS], "leave data= out"),
    ],
)
def test_numbers_and_options_that_make_no_sense(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, out=tmp_path) == 1
    assert message in capsys.readouterr().err


def test_a_folder_with_one_picture_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.colours(tmp_path / "data" / "cats", 1)
    assert run("demo", "net2net/animalfaces", f"data={tmp_path / 'data'}", out=tmp_path) == 1
    assert "too few pictures" in capsys.readouterr().err
