"""The IIN's verbs on small networks: pictures of the shapes that they should have, figures, and clear refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from rich.console import Console
from torch import Tensor

import zoo
from zoo import verbs, weights
from zoo.iin import analysis, edits, show, work
from zoo.iin.first_stages import FirstStage
from zoo.iin.interpreter import Interpreter, interpreter
from zoo.iin.stylize import StoredPairs, colours, synthesise
from zoo.iin.work import test_images as images_of
from zoo.training.batches import seeded
from zoo.verbs import Context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context("iin/tiny-factors", tmp_path, Console(quiet=True), random=True)


@pytest.fixture
def lively(tmp_path: Path) -> Context:
    """Networks in the folder whose images depend on their factors; those of freshly drawn weights hardly do."""
    made = Context("iin/tiny-factors", tmp_path, Console(quiet=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in ("iin/tiny-ae", "iin/tiny-factors"):
            network = zoo.build(name)
            if name == "iin/tiny-ae":
                for weight in network.parameters():
                    weight.data.mul_(4 if weight.ndim > 1 else 1)
            weights.save(network, made.file(name))
    return made


def words(options: dict[str, object]) -> dict[str, str]:
    """Options as the command line gives them."""
    return {key: str(value) for key, value in options.items()}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def drawn_by(context: Context, drawn: list[Any], verb: str, file: str, **options: object) -> Any:
    """The images of the picture that a verb writes."""
    verbs.run(verb, context, words(options))
    assert (context.out / file).is_file()
    return drawn.pop()


def test_samples_are_decoded_noise(lively: Context, drawn: list[Any]) -> None:
    shown = drawn_by(lively, drawn, "sample", "samples.png", rows=2, columns=3)
    parts = interpreter(lively)
    noise = parts.noise(6, seeded(lively.seed, *b"samples"))
    close(shown.flatten(0, 1), parts.images(noise))
    assert (shown[0, 0] - shown[1, 2]).abs().max() > 0.05


def test_reconstructions_show_the_input_and_no_edit(lively: Context, drawn: list[Any]) -> None:
    shown = drawn_by(lively, drawn, "reconstruct", "reconstructions.png", count=3)
    images = images_of(lively, "", 3)["image"]
    close(shown[0], images)
    close(shown[1], interpreter(lively).first.decode(interpreter(lively).first.mode(images)))
    torch.testing.assert_close(shown[1], shown[2], atol=1e-3, rtol=1e-3)


def test_a_swap_exchanges_one_factor(lively: Context, drawn: list[Any]) -> None:
    shown = drawn_by(lively, drawn, "swap", "swap_digit.png", factor="digit", count=2)
    images, parts = images_of(lively, "", 4)["image"], interpreter(lively)
    a, b = parts.interpret(images[:2]), parts.interpret(images[2:])
    close(shown[0], parts.images(a))
    close(shown[1], parts.images(b))
    close(shown[2], parts.images([b[0], *a[1:]]))
    close(shown[3], parts.images([a[0], *b[1:]]))
    torch.testing.assert_close(shown[4], shown[0], atol=1e-3, rtol=1e-3)
    assert (shown[2] - shown[0]).abs().max() > 0.05


def test_a_cross_takes_the_factor_from_above(lively: Context, drawn: list[Any]) -> None:
    shown = drawn_by(lively, drawn, "cross", "cross_1.png", factor=1, count=2)
    parts = interpreter(lively)
    z = parts.interpret(images_of(lively, "", 2)["image"])
    close(torch.stack(shown[0][1:]), parts.images(z))
    for row in range(2):
        close(shown[row + 1][0], shown[0][row + 1])
        for column in range(2):
            mixed = [z[0][row], z[1][column], z[2][row]]
            close(shown[row + 1][column + 1], parts.images([factor[None] for factor in mixed])[0])


@pytest.mark.parametrize("factor", ["", "0"])
def test_lines_go_from_image_to_image(lively: Context, drawn: list[Any], factor: str) -> None:
    file = f"interpolate_{factor or 'all'}.png"
    shown = drawn_by(lively, drawn, "interpolate", file, factor=factor, count=1, steps=3)
    images, parts = images_of(lively, "", 2)["image"], interpreter(lively)
    a, b = parts.interpret(images[:1]), parts.interpret(images[1:])
    moved = [0] if factor else [0, 1, 2]
    for column, share in enumerate((0.0, 0.5, 1.0)):
        line = [torch.lerp(x, y, share) if k in moved else x for k, (x, y) in enumerate(zip(a, b, strict=True))]
        close(shown[-1][column], parts.images(line)[0])
    if not factor:
        z = parts.first.mode(images)
        close(shown[0][1], parts.first.decode(z.mean(0, keepdim=True))[0])


def test_a_walk_moves_one_factor(lively: Context, drawn: list[Any]) -> None:
    shown = drawn_by(lively, drawn, "walk", "walk_colour.png", factor="colour", count=2, steps=3)
    parts = interpreter(lively)
    z = parts.interpret(images_of(lively, "", 2)["image"])
    path = [*edits.walk(z[1], 3, 0.9, seeded(lively.seed, *b"walk"))]
    close(shown[:, 0], parts.images(z))
    close(shown[:, 2], parts.images([z[0], path[2], z[2]]))
    assert (shown[:, 2] - shown[:, 0]).abs().max() > 0.05


def test_pairs_are_drawn_as_they_are_stored(context: Context, drawn: list[Any]) -> None:
    shown = drawn_by(context, drawn, "pairs", "pairs_colour.png", count=3)
    stored = StoredPairs(context.out / "pairs_colour.safetensors").pairs
    assert len(shown[0]) == 2 and stored.factor.tolist() == [1, 1, 1]
    close(torch.stack(shown[2]), stored.first)
    close(torch.stack(shown[3]), stored.second)


def test_dims_and_responses_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = Context("iin/tiny-factors", tmp_path, Console(width=200), random=True)
    verbs.run("dims", loud, words({}))
    lines = capsys.readouterr().out.splitlines()
    sizes = [int(size) for size in lines[-1].removeprefix("sizes=").split(",")]
    assert [line.split()[0] for line in lines[:-1]] == ["digit", "colour", "residual"] and sum(sizes) == 8
    verbs.run("respond", loud, words({"steps": 20}))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["digit", "colour", "residual"]
    assert all(sum(int(part.split(": ")[1]) for part in line.split("   ")[-1].split(", ")) == 20 for line in lines[1:])


def test_sample_writes_a_grid_of_the_size_asked_for(context: Context) -> None:
    verbs.run("sample", context, words({"rows": 2, "columns": 5}))
    height, width = imread(context.out / "samples.png").shape[:2]
    assert width == 2 * 12 + 5 * (64 + 4) and height > 2 * (64 + 4)


@pytest.mark.parametrize("name", ["iin/tiny", "iin/tiny-ae", "iin/tiny-classifier"])
def test_figures_do_not_depend_on_how_many_images_are_read_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(name, tmp_path, Console(quiet=True), random=True)
    whole = work.figures(context, "", "", "auto", 250)
    monkeypatch.setattr(work, "ROWS", 100)
    parts = work.figures(context, "", "", "auto", 250)
    assert parts.pop("features", "") == whole.pop("features", "") and parts == pytest.approx(whole, rel=1e-4)


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
        ("iin/tiny-factors", "cross", {"count": 0}, "count: expected at least 1, got 0"),
        ("iin/tiny-factors", "dims", {"count": -1}, "count: expected at least 1, got -1"),
        ("iin/tiny-factors", "sample", {"rows": -1}, "rows: expected at least 1, got -1"),
        ("iin/tiny-factors", "swap", {"data": "folder"}, "data: expected none, the digits come with"),
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
