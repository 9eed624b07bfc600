"""Every verb runs offline, with fresh weights, and writes what it says; a tiny training does what the demo does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import cli
from zoo.data.colours import large_digits
from zoo.data.digits import Split
from zoo.invariances import demo, opening, runs, tasks, video
from zoo.invariances.cuts import Choice
from zoo.invariances.small import CONCEPTS, CUTS
from zoo.verbs import Context

VERBS = {
    "encode": "encoded.safetensors",
    "visualize": "visualize.png",
    "sample": "sample_dense.png",
    "reconstruct": "reconstruct.png",
    "swap": "swap.png",
    "mix": "mix.png",
    "interpolate": "interpolate.png",
    "attack": "attack.png",
    "texture": "texture.png",
    "edit": "edit_ink.png",
    "video": "video.gif",
    "explain": "explained_concepts.png",
    "evaluate": "evaluate.json",
}
SMALL = {
    "edit": "concept=ink",
    "sample": "count=2",
    "explain": "count=6",
    "evaluate": "sets=2",
    "attack": "count=4",
    "swap": "count=2",
}


@pytest.mark.parametrize("word", VERBS)
def test_verbs_run_with_fresh_weights(word: str, tmp_path: Path) -> None:
    options = [SMALL[word]] if word in SMALL else []
    words = [word, "invariances/digits", *options, "--random", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert (tmp_path / VERBS[word]).stat().st_size > 0


def test_reconstructions_are_exact_and_the_cut_of_a_name_is_taken(tmp_path: Path) -> None:
    assert cli.main(["reconstruct", "invariances/digits-dense", "count=2", "--random", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "reconstruct.json").read_text())
    assert list(figures) == ["dense_round_trip"] and figures["dense_round_trip"] < 1e-4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "invariances/digits", "--random", "layer=fc7"], "conv, dense, logits"),
        (["sample", "invariances/digits", "first=400", "--random"], "of the 359 images"),
        (["edit", "invariances/digits", "concept=hair", "--random"], "digit, ink, paper, residual"),
        (["sample", "invariances/animalfaces", "--random"], "data=FOLDER"),
        (["sample", "invariances/animalfaces", "data=nowhere", "--random"], "no folder 'nowhere'"),
        (["interpolate", "invariances/digits", "steps=1", "--random"], "2 or more"),
        (["sample", "invariances/digits", "draws=1", "--random"], "2 samples of an image or more"),
        (["attack", "invariances/digits", "epsilon=0", "--random"], "more than 0"),
        (["evaluate", "invariances/digits", "sets=1", "--random"], "2 or more"),
        (["demo", "invariances/digits", "draws=1"], "2 draws or more"),
        (["video", "invariances/digits", "frames=none.mp4", "--random"], "no film"),
        (["sample", "invariances/digits"], "train it first"),
    ],
)
def test_refusals_say_what_is_expected(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_fresh_demo_forgets_its_own_files_alone(tmp_path: Path) -> None:
    own = ["layers.png", "swap_dense.png", "edit_ink.png", "invariances-digits-dense.safetensors"]
    others = ["holiday.png", "edit_mine.png", "invariances-alexnet-fc8.safetensors"]
    for name in [*own, *others]:
        (tmp_path / name).touch()
    demo._forget(tmp_path, "digits")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_film_comes_back_from_its_file(tmp_path: Path) -> None:
    frames = torch.rand(5, 1, 1, 1).expand(-1, 3, 16, 16) * 2 - 1
    video.write(frames, tmp_path / "film.gif")
    again = video.read(tmp_path / "film.gif", 16)
    assert again.shape == frames.shape
    assert (again - frames).abs().max() <= 2 / 127.5
    for index, frame in enumerate(again):
        Image.fromarray(((frame.movedim(0, 2).numpy() + 1) * 127.5).round().astype(np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    (tmp_path / "film.gif").unlink()
    assert torch.allclose(video.read(tmp_path, 16), again, atol=1e-6)
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        video.write(frames, tmp_path / "film.txt")


def test_pairs_share_what_they_say() -> None:
    torch.manual_seed(0)
    images = torch.cat([torch.full((6, 1, 16, 16), -1.0), torch.full((6, 1, 16, 16), 1.0)])
    labels = torch.arange(2).repeat_interleave(6)
    first, second, shared = tasks.DigitPairs(images, labels)(images, labels)
    assert first.shape == second.shape == (12, 3, 16, 16)
    # images of label 0 are all paper, those of label 1 all ink: one pixel tells the colour
    colour, other = first[:, :, 8, 8], second[:, :, 8, 8]
    for k, concept in enumerate(shared.tolist()):
        same = torch.allclose(colour[k], other[k], atol=1e-5)
        if CONCEPTS[concept] == "paper" and labels[k] == 0 and same:
            break
    else:
        pytest.fail("no pair shares the paper")
    assert set(shared.tolist()) <= {0, 1, 2}


def test_a_tiny_run_trains_measures_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tasks.Plan(*[tasks.Schedule(2, 3e-3, 32)] * 3, every=2)
    monkeypatch.setitem(tasks.PLANS, "digits", plan)
    few = {name: Split(part.images[::9], part.labels[::9]) for name, part in large_digits().items()}
    for module in (tasks, runs):
        monkeypatch.setattr(module, "large_digits", lambda seed: dict(few))
    assert cli.main(["demo", "invariances/digits", "draws=2", "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["cuts"]) == list(CUTS) and set(metrics["edit"]) == set(CONCEPTS)
    assert all(values["final"] < values["initial"] for values in metrics["nll"].values())
    assert capsys.readouterr().out.count("trained before") == 0
    assert cli.main(["train", "invariances/digits", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("trained before") == 8


def test_animal_faces_are_read_from_the_users_folder(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(10):
            array = np.random.RandomState(index).randint(0, 256, (70, 80, 3), dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / label / f"{index}.png")
    task = tasks.task("animalfaces", str(tmp_path))
    assert {name: len(part) for name, part in task.parts.items()} == {"train": 16, "validation": 2, "test": 2}
    assert tasks.faces_view(*vars(task.parts["train"]).values()).shape == (16, 3, 64, 64)


def test_names_lead_to_systems() -> None:
    assert opening.small("invariances/digits-biased-dense") == "digits"
    assert opening.small("invariances/alexnet-fc7") is None
    assert opening.cut("invariances/digits-logits") == "logits" and opening.cut("invariances/digits") == ""
    assert tasks.task("digits").parts["test"].images.shape[1:] == (3, 16, 16)
    context = Context("invariances/digits", Path("nowhere"), None, random=True)  # type: ignore[arg-type]
    system = opening.system(context, Choice())
    assert torch.equal(
        system.encode(system.images[:4], torch.Generator().manual_seed(1)).isfinite(),
        torch.ones(4, 32, dtype=torch.bool),
    )
