"""The IIN's verbs on small networks: pictures of the shapes that they should have, figures, and clear refusals."""

import json
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from rich.console import Console

from zoo import verbs
from zoo.iin import analysis, show
from zoo.iin.first_stages import FirstStage
from zoo.iin.interpreter import Interpreter, interpreter
from zoo.iin.stylize import StoredPairs, colours, synthesise
from zoo.iin.work import test_images as images_of
from zoo.verbs import Context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context("iin/tiny-factors", tmp_path, Console(quiet=True), random=True)


def words(options: dict[str, object]) -> dict[str, str]:
    """Options as the command line gives them."""
    return {key: str(value) for key, value in options.items()}


@pytest.mark.parametrize(
    ("verb", "options", "files"),
    [
        ("sample", {"rows": 2, "columns": 3}, ["samples.png"]),
        ("reconstruct", {"count": 3}, ["reconstructions.png"]),
        ("swap", {"factor": "digit", "count": 2}, ["swap_digit.png"]),
        ("cross", {"factor": 1, "count": 2}, ["cross_1.png"]),
        ("interpolate", {"count": 2, "steps": 3}, ["interpolate_all.png"]),
        ("interpolate", {"factor": 0, "count": 2, "steps": 3}, ["interpolate_0.png"]),
        ("walk", {"factor": "colour", "count": 2, "steps": 3}, ["walk_colour.png"]),
        ("pairs", {"count": 3}, ["pairs_colour.png", "pairs_colour.safetensors"]),
        ("dims", {}, []),
        ("evaluate", {"count": 60}, ["evaluate.json"]),
        ("respond", {"steps": 20}, []),
    ],
)
def test_runs(context: Context, verb: str, options: dict[str, object], files: list[str]) -> None:
    verbs.run(verb, context, words(options))
    for file in files:
        assert (context.out / file).stat().st_size > 100


def test_sample_writes_a_grid_of_the_size_asked_for(context: Context) -> None:
    verbs.run("sample", context, words({"rows": 2, "columns": 5}))
    height, width = imread(context.out / "samples.png").shape[:2]
    assert width == 2 * 12 + 5 * (64 + 4) and height > 2 * (64 + 4)


def test_evaluate_reports_four_distances(context: Context) -> None:
    verbs.run("evaluate", context, words({"count": 60}))
    figures = json.loads((context.out / "evaluate.json").read_text())
    assert sum(key.startswith("Fréchet distance") for key in figures) == 4


def test_nothing_changes_without_an_edit_and_swapping_twice_restores(context: Context, tmp_path: Path) -> None:
    parts, images = interpreter(context), images_of(context, "", 8)["image"]
    assert max(analysis.identity_errors(parts, images).values()) < 1e-4
    assert show.swaps(parts, images[:4], images[4:], 0, tmp_path / "a.png") < 1e-4


def test_a_classifier_answers_as_before_without_an_edit() -> None:
    """Section 9, item 4: logits to 1e-4 and the same classes on 1,000 latents."""
    import zoo

    torch.manual_seed(0)
    first = FirstStage(zoo.build("iin/digits-classifier"))
    parts = Interpreter(zoo.build("iin/digits-classifier-factors").eval(), first)
    images = torch.rand(1000, 3, 16, 16) * 2 - 1
    z = first.mode(images)
    before, after = first.classify(z), first.classify(parts.latents(parts.interpret(images)))
    assert (before - after).abs().max() < 1e-4 and torch.equal(before.argmax(1), after.argmax(1))


@pytest.mark.parametrize(
    ("name", "verb", "options", "message"),
    [
        (
            "iin/tiny-factors",
            "swap",
            {"factor": "shape"},
            "expected one of digit, colour, residual or a number below 3",
        ),
        ("iin/tiny-ae", "sample", {}, "expected a flow, such as iin/tiny or iin/tiny-factors"),
        ("iin/digits-classifier-factors", "sample", {"rows": 1}, "a classifier has no decoder"),
        ("iin/cmnist-factors", "dims", {}, "expected data=FOLDER"),
        ("iin/tiny-factors", "walk", {"rho": 1.0}, "rho: expected a number in"),
        ("iin/digits-ae", "demo", {}, "expected iin/digits"),
    ],
)
def test_refusals(context: Context, name: str, verb: str, options: dict[str, object], message: str) -> None:
    named = Context(**{**vars(context), "name": name})
    with pytest.raises(ValueError, match=message):
        verbs.run(verb, named, words(options))


def test_trains_and_goes_on(tmp_path: Path) -> None:
    context = Context("iin/tiny-factors", tmp_path, Console(quiet=True))
    with pytest.raises(FileNotFoundError, match="train it first"):
        verbs.run("sample", context, words({}))
    verbs.run("train", context, words({"steps": 4, "batch": 8}))
    before = context.network().state_dict()
    assert before["flow.0.norm.initialized"]
    verbs.run("train", context, words({"steps": 4, "batch": 8}))  # finished: nothing moves
    assert all(torch.equal(value, before[key]) for key, value in context.network().state_dict().items())
    verbs.run("sample", context, words({"rows": 1, "columns": 2}))


def test_stylizer_gives_contents_the_colours_of_the_style() -> None:
    torch.manual_seed(0)
    contents, style = torch.rand(6, 3, 9, 9) - 0.5, 0.2 * torch.randn(3, 7, 7)
    made = colours(contents, style)
    assert torch.allclose(made.flatten(2).mean(2), style.flatten(1).mean(1).expand(6, -1), atol=1e-2)
    other = 0.2 * torch.randn(3, 7, 7) + 0.4
    pairs = synthesise(contents, style, other, 1, torch.Generator().manual_seed(0))
    bright = [side.flatten(1).mean(1) > 0.2 for side in (pairs.first, pairs.second)]
    assert torch.equal(*bright) and bright[0].any() and not bright[0].all() and pairs.factor.tolist() == [1] * 6


def test_trains_on_sketched_pairs(tmp_path: Path) -> None:
    context = Context("iin/tiny-factors", tmp_path, Console(quiet=True))
    verbs.run("train", Context(**{**vars(context), "name": "iin/tiny-ae"}), words({"steps": 2, "batch": 4}))
    verbs.run("pairs", context, words({"count": 12}))
    file = str(tmp_path / "pairs_colour.safetensors")
    verbs.run("train", context, words({"steps": 2, "batch": 4, "pairs": file}))
    assert context.network().state_dict()["flow.0.norm.initialized"]
    with pytest.raises(ValueError, match="expected a file with first, second, factor"):
        StoredPairs(context.file("iin/tiny-ae"))


@pytest.mark.parametrize(
    ("verb", "options"), [("reconstruct", {"count": 360}), ("swap", {"count": 180}), ("respond", {"image": 359})]
)
def test_no_more_images_than_there_are(context: Context, verb: str, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected 1 to 359"):
        verbs.run(verb, context, words(options))
