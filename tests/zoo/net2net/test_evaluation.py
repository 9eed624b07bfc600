"""``zoo evaluate``: its figures are those of a plain computation, and stand in the paper's tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from tests.zoo.net2net import layouts
from tests.zoo.net2net.layouts import run
from tests.zoo.net2net.test_sentences import write_bert
from zoo import cli, weights
from zoo.data.pairs import CELEBA_COLUMNS
from zoo.metrics.frechet import frechet_distance, inception_score, moments
from zoo.net2net import cost, evaluation, losses, opening
from zoo.net2net.configurations import CONFIGURATIONS, LAYERS
from zoo.net2net.graph import RELEASED
from zoo.net2net.opening import Opened
from zoo.net2net.words import Given
from zoo.verbs import Context

LESS = ["depth=2", "hidden=8"]


@pytest.fixture(autouse=True)
def _uneven_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CHUNK", 3)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In the place of Inception, whose weights are not here: means of the pictures' parts, and what was asked for."""
    calls: list[str] = []

    def inception(output: str = "2048") -> Callable[[Tensor], Tensor]:
        calls.append(output)
        return lambda images: (9 if output == "logits_unbiased" else 1) * adaptive_avg_pool2d(images, 2).flatten(1)

    monkeypatch.setattr("zoo.metrics.frechet.inception", inception)
    return calls


def figures(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "evaluate.json").read_text())
    return found


def everything(name: str, out: Path, count: int = 8) -> Opened:
    """All held-out examples of a flow that was trained in ``out``."""
    return opening.opened(Context(f"net2net/{name}", out, Console(quiet=True)), Given(), count)


def between(opened: Opened, real: Tensor, drawn: Tensor) -> float:
    assert opened.encode is not None
    return frechet_distance(moments(opened.encode(real)), moments(opened.encode(drawn)))


def cells(printed: str, row: str) -> list[str]:
    """A row of a table."""
    (line,) = (line for line in printed.splitlines() if line.startswith(f"│ {row} "))
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def test_a_set_has_no_distance_from_itself(tmp_path: Path) -> None:
    opened = _trained("anime-photography", tmp_path)
    assert opened.encode is not None
    judge = evaluation.Judge("own", opened)  # type: ignore[arg-type]
    for images in opened.images.split(3):
        judge.compare(images, iter([("same", images, None), ("brighter", images + 0.1, None)]))
    found = judge.distances()
    assert abs(found["same"]) < 1e-4 and found["brighter"] > 0.1


def test_domains_are_compared_with_what_is_moved_into_them(tmp_path: Path) -> None:
    opened = _trained("anime-photography", tmp_path)
    assert run("evaluate", "net2net/anime-photography", out=tmp_path) == 0
    found = figures(tmp_path)
    x, known, labels = opened.latents, opened.known, opened.known.argmax(1)
    with torch.no_grad():
        v, logdet = opened.flow(x, known)
        for k in range(2):
            target = torch.eye(2)[[k] * 8]
            moved = opened.decode(opened.flow.inverse(v, target)[0])
            expected = between(opened, opened.images[labels == k], moved[labels != k])
            assert found[f"frechet_own, to domain {k}"] == pytest.approx(expected, rel=1e-3)
        nll = float(losses.likelihood(v, logdet)["total_loss"])
        error = float((opened.decode(x) - opened.images).abs().mean())
    assert found["nll"] == pytest.approx(nll, rel=1e-4) and found["reconstruction_error"] == pytest.approx(error)
    assert found["settings"] == {"features": "own", "count": 0, "seed": 0}


def test_figure_6_is_filled_by_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = _trained("attributes-celeba", tmp_path)
    capsys.readouterr()
    assert run("evaluate", "net2net/attributes-celeba", out=tmp_path) == 0
    found, printed = figures(tmp_path), capsys.readouterr().out
    assert cost.FLIPPED.keys() == cost.ATTRIBUTES.keys()
    for row, attribute in cost.FLIPPED.items():
        place, changed = CELEBA_COLUMNS.index(attribute), opened.known.clone()
        changed[:, place] = 1 - changed[:, place]
        with torch.no_grad():
            v = opened.flow(opened.latents, opened.known)[0]
            moved = opened.decode(opened.flow.inverse(v, changed)[0])
        value = found[f"frechet_own, {row}"]
        assert value == pytest.approx(between(opened, opened.images, moved), rel=1e-3)
        theirs = cost.ATTRIBUTES[row]
        assert cells(printed, row) == [f"{number:.2f}" for number in (theirs["ours"], theirs["StarGAN"], value)]
    assert "no FID" in printed and "30.63" not in printed and "272.16" in printed


def test_figure_12_has_a_row_for_each_flow_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    for layer in ("early", "last"):
        assert run("train", f"net2net/layers-{layer}", "--random", *LESS, "steps=2", "batch=4", out=tmp_path) == 0
    capsys.readouterr()
    assert run("evaluate", "net2net/layers-last", "features=inception", "count=7", out=tmp_path) == 0
    found, printed = figures(tmp_path), capsys.readouterr().out
    for layer in ("early", "last"):
        value = found[f"layers-{layer} frechet_inception, {layer}"]
        assert cells(printed, layer)[2] == f"{value:.2f}"
    assert cells(printed, "middle") == ["23.40", "25.60", "-"] and "FID here" in printed
    assert asked == ["2048", "2048"], "no inception score without texts"


def test_table_1_is_filled_by_captions_of_coco(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    net, out, texts = "net2net/sbert-to-coco-ae256", tmp_path / "out", [f"a roof {k}" for k in range(12)]
    layouts.coco(tmp_path / "coco", texts)
    write_bert(tmp_path / "bert", 64)
    words = [f"source={tmp_path / 'bert'}", f"data={tmp_path / 'coco'}", *LESS, "condition=64", "steps=2", "batch=4"]
    assert run("train", net, "--random", *words, out=out) == 0
    capsys.readouterr()
    assert run("evaluate", net, "features=inception", out=out) == 0
    found, printed = figures(out), capsys.readouterr().out
    assert asked == ["2048", "logits_unbiased"]
    drawn = ["34.70", "30.63", f"{found['inception_score']:.2f}", f"{found['frechet_inception, ours']:.2f}"]
    assert cells(printed, "ours") == drawn and cells(printed, "AttnGAN") == ["25.90", "35.49", "-", "-"]


@pytest.mark.parametrize("name", ["sbert-to-bigbigan", "sbert-to-biggan256"])
def test_generators_draw_for_captions_of_coco(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose pictures were never encoded: BigBiGAN's encoder is not needed."""
    layouts.coco(tmp_path / "coco", [f"a roof {k}" for k in range(11)])
    seen: list[tuple[Tensor, Tensor]] = []
    compare = evaluation.Judge.compare

    def remember(self: evaluation.Judge, images: Tensor, drawn: evaluation.Translated) -> None:
        every = list(drawn)
        seen.append((images, every[0][1]))
        compare(self, images, iter(every))

    monkeypatch.setattr(evaluation.Judge, "compare", remember)
    words = ["evaluate", f"net2net/{name}", "--random", *LESS, "features=inception"]
    assert run(*words, f"data={tmp_path / 'coco'}", out=tmp_path) == 0
    real, drawn = (torch.cat(side) for side in zip(*seen, strict=True))
    assert len(real) == 11 and real.shape == drawn.shape
    features = [adaptive_avg_pool2d(side, 2).flatten(1) for side in (real, drawn)]
    expected = frechet_distance(*(moments(side) for side in features))
    assert figures(tmp_path)["frechet_inception, ours"] == pytest.approx(expected)
    torch.manual_seed(0)
    assert figures(tmp_path)["inception_score"] == pytest.approx(inception_score(9 * features[1]).mean, rel=0.2)
    assert cells(capsys.readouterr().out, "ours")[3] == f"{expected:.2f}"
    assert "nll" not in figures(tmp_path)


def test_biggan_without_coco_fills_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.net2net.stand_ins.EXAMPLES", {"train": 16, "validation": 12})
    assert run("evaluate", "net2net/sbert-to-biggan256", "--random", *LESS, "features=inception", out=tmp_path) == 0
    found = figures(tmp_path)
    assert found["frechet_inception, samples"] > 0 and found["nll"] > 0
    assert "Table 1" not in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS.keys() - {*RELEASED, *LAYERS, "attributes-celeba"}))
def test_what_was_never_released_is_trained_drawn_and_measured(name: str, tmp_path: Path) -> None:
    net = f"net2net/{name}"
    assert run("train", net, "--random", *LESS, "steps=2", "batch=4", out=tmp_path) == 0
    assert run("sample", net, "count=2", "samples=2", out=tmp_path) == 0
    assert (tmp_path / "samples.png").stat().st_size > 1000
    assert run("evaluate", net, out=tmp_path) == 0
    found = [value for key, value in figures(tmp_path).items() if key.startswith("frechet_own")]
    assert len(found) == (2 if name == "humans-animals" else 1) and min(found) > 0


def test_an_autoencoder_alone(tmp_path: Path) -> None:
    words = ["evaluate", "net2net/ae-faces32", "--random", "size=16", "down=2", "width=4", "latent=8"]
    data = f"data={layouts.colours(tmp_path / 'own', 40)}"
    assert run(*words, data, out=tmp_path) == 0
    context = Context("net2net/ae-faces32", tmp_path, Console(quiet=True), random=True,
                      options={"size": 16, "down": 2, "width": 4, "latent": 8})  # fmt: skip
    images, restored = opening.autoencoded(context, str(tmp_path / "own"), 4)
    found = figures(tmp_path)
    assert found["reconstruction_error"] == pytest.approx(float((images - restored).abs().mean()), rel=1e-4)
    assert found["frechet_own, reconstructions"] > 0


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]) -> None:
    data = f"data={layouts.colours(tmp_path / 'own', 40)}"
    for words, message in [
        (["anime-photography"], "train it first"),
        (["anime-photography", "--random", *LESS, "count=1"], "count: expected 2 to 8, or 0 for all, got 1"),
        (["anime-photography", "--random", *LESS, "count=9"], "got 9"),
        (["anime-photography", "--random", *LESS, "count=2"], "expected two pictures or more on each side"),
        (["anime-photography", "--random", *LESS, "source=x"], "no weights of its own"),
        (["sbert-to-biggan256", "--random", *LESS], "generator without encoder; expected inception"),
        (["sbert-to-bigbigan", "--random", *LESS, data, "features=inception"], "captions_val2017.json"),
        (["ae-faces32", "--random"], "expected data=FOLDER"),
        (["ae-faces32", "--random", data, "target=x"], "leave source= and target= out"),
        (["anime-photography", "features=vgg"], "own, inception"),
    ]:
        assert cli.main(["evaluate", f"net2net/{words[0]}", *words[1:], "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err


def _trained(name: str, out: Path) -> Opened:
    assert run("train", f"net2net/{name}", "--random", *LESS, "steps=2", "batch=4", out=out) == 0
    flow = weights.load(out / f"net2net-{name}.safetensors")
    torch.manual_seed(0)
    layouts.visible(flow)  # in two steps a flow learns to tell nothing apart
    weights.save(flow, out / f"net2net-{name}.safetensors")
    return everything(name, out)
