"""Net2Net's verbs on tiny networks: trained in seconds, or with random weights; pictures and figures are written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from zoo import cli, registry, weights
from zoo.data.emoji import Emoji
from zoo.net2net import demo, opening, runs, small, views
from zoo.net2net.words import Given
from zoo.verbs import Context

NAME = "net2net/tiny-pictures"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny demo has run."""
    folder = tmp_path_factory.mktemp("net2net")
    assert cli.main(["demo", NAME, "--out", str(folder)]) == 0
    return folder


def test_the_demo_writes_figures_and_pictures(trained: Path) -> None:
    figures = json.loads((trained / "metrics.json").read_text())
    assert figures["nll_bits_per_dim"] < figures["nll_bits_per_dim_untrained"]
    assert figures["round_trip_error"] < 1e-3 and figures["chance"] == 0.05
    for name in ("samples", "reconstruct", "swap", "interpolate", "curves"):
        assert (trained / f"{name}.png").stat().st_size > 1000


def test_a_second_run_reuses_the_networks(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", NAME, "--out", str(trained)]) == 0
    assert capsys.readouterr().out.count("trained before") == 2


def test_fresh_forgets_the_networks_of_the_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", NAME, "autoencoder_epochs=1", "flow_epochs=1", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    other = tmp_path / "net2net-emoji.safetensors"
    other.write_bytes(b"another run's")
    capsys.readouterr()
    assert cli.main([*words, "--fresh"]) == 0
    assert "trained before" not in capsys.readouterr().out and other.is_file()
    assert cli.main(["train-ae", NAME, "autoencoder_epochs=1", "--fresh", "--out", str(tmp_path)]) == 0
    assert "trained before" not in capsys.readouterr().out


def test_options_of_the_network_are_trained_with_and_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path)]
    assert cli.main(["train", NAME, "depth=3", "autoencoder_epochs=1", "flow_epochs=1", *out]) == 0
    flow = weights.load(tmp_path / "net2net-tiny-pictures.safetensors")
    assert flow.graph.to_yaml() == registry.graph(NAME, depth=3).to_yaml() != registry.graph(NAME).to_yaml()
    assert cli.main(["sample", NAME, "count=2", "depth=3", *out]) == 0
    assert cli.main(["sample", NAME, "count=2", *out]) == 0
    assert cli.main(["sample", NAME, "count=2", "depth=2", *out]) == 1
    assert "was not trained with depth=2" in capsys.readouterr().err
    assert cli.main(["train", NAME, "dim=6", *out]) == 1
    assert "expected the shape (8,) of the input 'x'" in capsys.readouterr().err


def test_the_parts_do_not_depend_on_the_seed(tmp_path: Path) -> None:
    first, second = (
        opening.task(Context(NAME, tmp_path, Console(quiet=True), seed=seed), "", 0, 0).parts for seed in (0, 7)
    )
    assert all(torch.equal(first[name].images, second[name].images) for name in first)


@pytest.mark.parametrize(
    ("verb", "picture"),
    [
        ("sample", "samples"),
        ("reconstruct", "reconstruct"),
        ("swap", "swap"),
        ("interpolate", "interpolate"),
        ("superres", "samples"),
    ],
)
def test_verbs_draw_with_random_weights(verb: str, picture: str, tmp_path: Path) -> None:
    assert cli.main([verb, NAME, "count=3", "--random", "--out", str(tmp_path)]) == 0
    assert (tmp_path / f"{picture}.png").stat().st_size > 1000


def test_diagnosis_draws_with_random_weights(tmp_path: Path) -> None:
    assert cli.main(["diagnose", NAME, "samples=2", "--random", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "diagnose.png").stat().st_size > 1000


def test_evaluate_repeats_the_demos_figures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", NAME, "--out", str(trained)]) == 0
    found, told = (json.loads((trained / f"{name}.json").read_text()) for name in ("evaluate", "metrics"))
    assert found["nll_bits_per_dim"] == pytest.approx(told["nll_bits_per_dim"], rel=1e-4)
    assert found["frechet_own"] > 0
    printed = capsys.readouterr().out
    assert "272.16" in printed and "30.63" not in printed, "no text to image"


def test_show_prints_the_papers_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    for name, line in (("sbert-to-biggan256", "FID 30.63"), ("attributes-celeba", "of glasses: 37.32, StarGAN 41.27"),
                       ("layers-last", "last layer: 27.6, an MLP 264.0")):  # fmt: skip
        assert cli.main(["show", f"net2net/{name}"]) == 0
        assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", NAME, "count=3", "--random"], "leave count= out"),
        (["evaluate", NAME, "source=x", "--random"], "its experts are those of the run"),
        (["sample", NAME, "target=x", "--random"], "its experts are those of the run"),
        (["train", NAME, "steps=3"], "autoencoder_epochs="),
        (["sample", NAME], "train it first"),
        (["sample", NAME, "--random", "count=0"], "count: expected at least 1"),
        (["text2img", NAME, "--random"], "conditioned on pictures"),
        (["train", "net2net/animalfaces"], "expected data=FOLDER"),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_texts_to_pictures_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emoji run on squares whose names are their numbers, with a table of vectors as sentence encoder."""
    count = 120
    names = tuple((f"square {k}", f"a square, {k}") for k in range(count))
    found = Emoji(runs.squares(count, 16, 0), names, torch.ones(count, dtype=torch.bool), torch.arange(count))
    table = torch.randn(1000, 3 * small.LOW * small.LOW, generator=torch.Generator().manual_seed(0))
    encode: Callable[[list[str]], torch.Tensor] = lambda texts: table[[len(t) * 7 % 1000 for t in texts]]  # noqa: E731
    task = runs.text_task("tiny-pictures", found, encode, runs.PLANS["tiny-pictures"])
    assert sum(map(len, task.parts.values())) == count
    context = Context(NAME, tmp_path, Console(quiet=True))
    figures = demo.run(context, task)
    assert figures["nll_bits_per_dim"] < figures["nll_bits_per_dim_untrained"]
    assert (tmp_path / "prompts.png").is_file()
    views.diagnosis(opening.of(context, task, opening.trained(context), 1), 2)
    assert (tmp_path / "diagnose.png").stat().st_size > 1000
    opened = opening.of(context, task, opening.trained(context), 4)
    with pytest.raises(ValueError, match="at least one text"):
        views.prompts(opened, [], 2)


def test_swapping_with_its_own_condition_gives_the_picture_back(trained: Path) -> None:
    context = Context(NAME, trained, Console(quiet=True))
    opened = opening.opened(context, Given(), 5)
    v = opened.flow(opened.latents, opened.known)[0]
    expected = opened.decode(opened.latents)
    assert (opened.picture(v, opened.known) - expected).abs().max() < 1e-4
