"""Published configurations on the command line: first stages and data in the published layouts, every verb."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.zoo.test_datasets import write_celeba, write_mnist
from zoo import cli, published, registry, weights
from zoo.iin import work
from zoo.iin.first_stages import FirstStage
from zoo.iin.interpreter import Interpreter
from zoo.verbs import Context

FLOW = {"depth": 2, "hidden": 8}
NAME = "iin/celeba-factors"
SIZES = [f"{key}={value}" for key, value in FLOW.items()]


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CelebA's folder, eight images a part."""
    write_celeba(tmp_path / "data")
    monkeypatch.setattr("torchvision.datasets.CelebA._check_integrity", lambda self: True)
    return tmp_path / "data"


@pytest.fixture(scope="session")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint("iin/celeba-ae", tmp_path_factory.mktemp("celeba") / "model-572968.ckpt")


def checkpoint(name: str, file: Path) -> Path:
    """A first stage as its authors' framework saves it: model, loss and optimiser, whose rate is a numpy number."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = registry.build(name)
    theirs = published.export(name, network, registry.entry(name).defaults)
    optimizer = {"state": {}, "param_groups": [{"lr": np.float64(0.0), "params": [0]}]}
    torch.save({"model": theirs, "loss": {"logvar": torch.zeros(())}, "optimizer": optimizer}, file)
    return file


def test_every_verb_works_on_celeba(faces: Path, autoencoder: Path, tmp_path: Path, drawn: list[Any]) -> None:
    out, data = ["--out", str(tmp_path)], f"data={faces}"
    steps = ["steps=2", "batch=2", "every=1", "validation=2"]
    assert cli.main(["train", NAME, data, f"first={autoencoder}", *steps, *SIZES, *out]) == 0
    assert cli.main(["dims", NAME, data, "count=60", *out]) == 0
    assert cli.main(["sample", NAME, "rows=1", "columns=2", *out]) == 0
    assert cli.main(["swap", NAME, "factor=smiling", data, "count=2", *out]) == 0
    assert cli.main(["interpolate", NAME, data, "count=1", "steps=2", *out]) == 0
    assert cli.main(["walk", NAME, "factor=eyeglasses", data, "count=1", "steps=2", *out]) == 0
    assert cli.main(["evaluate", NAME, data, "count=4", "features=none", *out]) == 0
    assert np.isfinite(json.loads((tmp_path / "evaluate.json").read_text())["loss"])

    first = FirstStage(registry.load("iin/celeba-ae", autoencoder))
    parts = Interpreter(weights.load(tmp_path / "iin-celeba-factors.safetensors"), first)
    assert parts.names == ["eyeglasses", "male", "no_beard", "smiling", "residual"]
    images = work.test_images(Context(NAME, tmp_path, Console(quiet=True)), str(faces), 4)["image"]
    swapped: Tensor = drawn[1]
    torch.testing.assert_close(swapped[0], parts.images(parts.interpret(images[:2])))
    factors, others = parts.interpret(images[:2]), parts.interpret(images[2:])
    factors[3] = others[3]
    torch.testing.assert_close(swapped[2], parts.images(factors), atol=1e-4, rtol=1e-4)
    walked: Tensor = drawn[3]
    fixed = parts.interpret(work.test_images(Context(NAME, tmp_path, Console(quiet=True)), str(faces), 1)["image"])
    torch.testing.assert_close(walked[:, 0], parts.images(fixed), atol=1e-4, rtol=1e-4)
    assert (walked[:, 1] - walked[:, 0]).abs().max() > 1e-4


def test_a_classifier_of_coloured_digits_is_interpreted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path)
    name, out = "iin/cmnist-classifier-factors", ["--out", str(tmp_path / "out")]
    data, file = f"data={tmp_path}", checkpoint("iin/cmnist-classifier", tmp_path / "model-120000.ckpt")
    steps = ["steps=2", "batch=4", "validation=4", *SIZES]
    assert cli.main(["train", name, data, f"first={file}", *steps, *out]) == 0
    assert cli.main(["dims", name, data, "count=30", *out]) == 0
    assert cli.main(["respond", name, data, "steps=5", *out]) == 0
    told = capsys.readouterr().out
    assert "sizes=" in told and told.count("sigma") == 3
    assert cli.main(["evaluate", "iin/cmnist-classifier", data, "--weights", str(file), *out]) == 0
    accuracy = json.loads((tmp_path / "out" / "evaluate.json").read_text())["accuracy"]
    images = work.test_images(Context("iin/cmnist-classifier", tmp_path, Console(quiet=True)), str(tmp_path), 0)
    stage = FirstStage(registry.load("iin/cmnist-classifier", file))
    answers = stage.classify(stage.mode(images["image"])).argmax(1)
    assert accuracy == pytest.approx(float((answers == images["class"]).double().mean()))


def test_factors_of_the_network_are_the_attributes_that_pairs_share(
    faces: Path, autoencoder: Path, tmp_path: Path
) -> None:
    factors, data = "factors=young,residual", f"data={faces}"
    given = ["sizes=32,32", *SIZES, f"first={autoencoder}", "--out", str(tmp_path)]
    assert cli.main(["train", NAME, data, factors, "steps=1", "batch=2", "validation=2", *given]) == 0
    evaluate = ["evaluate", NAME, data, "count=4", "features=none", "--out", str(tmp_path)]
    assert cli.main(evaluate) == 0, "the file knows its factors"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([NAME, "factors=handsome,residual", "sizes=32,32"], "attributes: handsome unknown; CelebA has 5_o_Clock"),
        (["iin/tiny-factors", "factors=shape,residual"], "factors: digits has digit, colour, residual, got shape"),
        ([NAME, "validation=10001"], "samples: expected 1 to 10000"),
        (["iin/tiny", "pairs=x.safetensors"], "pairs: iin/tiny is not trained on pairs"),
        (["iin/tiny-ae", "first=x.safetensors"], "first: iin/tiny-ae is a first stage"),
        (["iin/tiny-ae", "--weights", "x.safetensors"], "begins with weights of its own"),
    ],
)
def test_refusals(
    words: list[str], message: str, faces: Path, autoencoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [f"first={autoencoder}"] if words[0] == NAME else []
    small = SIZES if words[0] == NAME else []
    given = [f"data={faces}", "steps=1", "batch=2", *first, *small, "--out", str(tmp_path)]
    assert cli.main(["train", *words, *given]) == 1
    assert message in capsys.readouterr().err


def test_another_first_stage_than_the_folders_is_refused(
    faces: Path, autoencoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    weights.save(registry.build("iin/celeba-ae"), tmp_path / "iin-celeba-ae.safetensors")
    given = [f"data={faces}", f"first={autoencoder}", "steps=1", *SIZES, "--out", str(tmp_path)]
    assert cli.main(["train", NAME, *given]) == 1
    assert "holds other weights than" in capsys.readouterr().err


def test_a_flow_is_refused_beside_another_first_stage_than_it_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path)]
    assert cli.main(["train", "iin/tiny", "steps=1", "batch=4", "validation=4", *out]) == 0
    evaluate = ["evaluate", "iin/tiny", "count=4", "features=none", *out]
    assert cli.main(evaluate) == 0
    loss = json.loads((tmp_path / "evaluate.json").read_text())["loss"]
    assert cli.main(evaluate) == 0 and json.loads((tmp_path / "evaluate.json").read_text())["loss"] == loss
    weights.save(registry.build("iin/tiny-ae"), tmp_path / "iin-tiny-ae.safetensors")
    assert cli.main(evaluate) == 1
    assert "iin/tiny-ae has other weights than it was trained on" in capsys.readouterr().err


def test_pictures_are_read_when_they_are_needed(
    faces: Path, autoencoder: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = f"data={faces}", ["--out", str(tmp_path)]
    steps = ["steps=2", "every=2", "batch=3", "validation=4"]
    assert cli.main(["train", NAME, data, f"first={autoencoder}", *steps, *SIZES, *out]) == 0
    assert len(opened) == 2 * (2 * 3 + 4), "both of each pair, of two steps and of the validation"
    opened.clear()
    assert cli.main(["swap", NAME, data, "count=2", *out]) == 0
    assert len(opened) == 4

    at_once: list[int] = []
    encode = FirstStage._encode

    def encoded(self: FirstStage, images: Tensor) -> Tensor:
        at_once.append(len(opened))
        opened.clear()
        return encode(self, images)

    opened.clear()
    monkeypatch.setattr(FirstStage, "_encode", encoded)
    monkeypatch.setattr(work, "ROWS", 3)
    assert cli.main(["evaluate", NAME, data, "count=8", "features=none", *out]) == 0
    assert at_once == [6, 0, 6, 0, 4, 0], "pairs of two batches of three and one of two"
    at_once.clear()
    assert cli.main(["evaluate", "iin/celeba-ae", data, "count=8", "features=none", *out]) == 0
    assert at_once == [3, 3, 2]
