"""Every verb runs offline, with fresh weights, and writes what it says; a tiny training does what the demo does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

import zoo
from tests.zoo.invariances.panels import panels, same
from zoo import cli, registry, weights
from zoo.data import video
from zoo.data.colours import large_digits
from zoo.data.digits import Split
from zoo.invariances import attack, demo, evaluation, opening, runs, tasks
from zoo.invariances.analysis import variance_explained
from zoo.invariances.cuts import Choice
from zoo.invariances.small import CONCEPTS, CUTS
from zoo.invariances.system import System
from zoo.pictures import COLOURS
from zoo.training.batches import seeded
from zoo.verbs import Context

NAME, SIDE = "invariances/digits", 16


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of all networks that make unlike images of unlike numbers, as trained ones do."""
    folder = tmp_path_factory.mktemp("digits")
    images = tasks.task("digits").parts["test"].images[:64]
    torch.manual_seed(0)
    for name in registry.list(f"{NAME}*"):
        network = zoo.build(name)
        inputs = {key: torch.randn(len(images), *shape) for key, shape in network.graph.input_shapes.items()}  # type: ignore[misc]
        with torch.no_grad():
            for key, value in network.named_parameters():
                if value.ndim == 2 and ("_net" in key or "linear" in key):
                    value *= 2
            for _ in range(20):
                network(**inputs | ({"image": images} if "image" in inputs else {}))
        weights.save(network, folder / f"{name.replace('/', '-')}.safetensors")
    return folder


@pytest.fixture(scope="module")
def system(out: Path) -> System:
    return opening.system(Context(NAME, out, Console()), Choice())


def run(out: Path, word: str, *options: str) -> dict[str, Any]:
    assert cli.main([word, NAME, *options, "--out", str(out)]) == 0
    file = out / f"{word}.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def test_the_system_tells_images_numbers_and_layers_apart(system: System) -> None:
    images = system.images[:2]
    decoded = system.decode(system.mean(images))
    assert not same(decoded[0], decoded[1])
    for layer in [*system.layers.values(), *system.biases.values()]:
        z = system.represent(layer, images)
        v = system.invariances(layer, system.mean(images), z)
        crossed = system.render(layer, v, z.flip(0))
        assert (
            not same(crossed[0], decoded[0]) and not same(crossed[1], decoded[1]) and not same(crossed[0], crossed[1])
        )


def noise() -> torch.Generator:
    return seeded(0, *b"verbs")


def test_encode_writes_z_v_and_logdet_of_every_layer(system: System, out: Path) -> None:
    run(out, "encode", "count=3")
    found, images = load_file(out / "encoded.safetensors"), system.images[:3]
    assert torch.equal(found["image"], images) and torch.allclose(found["latent"], system.mean(images), atol=1e-6)
    for name, layer in system.layers.items():
        v, logdet = layer.flow(system.mean(images), system.represent(layer, images))
        assert torch.allclose(found[f"{name}.v"], v, atol=1e-4) and torch.allclose(
            found[f"{name}.logdet"], logdet, atol=1e-4
        )


def test_visualize_has_a_row_for_every_layer(system: System, out: Path) -> None:
    run(out, "visualize", "image=3", "draws=2")
    found, drawn = panels(out / "visualize.png", 3, 5, SIDE), noise()
    for row, layer in zip(found, system.layers.values(), strict=True):
        samples = system.samples(layer, system.represent(layer, system.images[3:4]), 2, drawn)[:, 0]
        assert same(row[0], system.images[3]) and same(row[1], samples.mean(0))
        assert same(row[3], samples[0]) and same(row[4], samples[1])


def test_sample_draws_what_a_layer_does_not_see(system: System, out: Path) -> None:
    run(out, "sample", "count=2", "draws=2", "layer=dense")
    found, layer, images = panels(out / "sample_dense.png", 2, 6, SIDE), system.layer("dense"), system.images[:2]
    drawn = system.samples(layer, system.represent(layer, images), 2, noise())
    for k, decoded in enumerate(system.decode(system.mean(images))):
        assert same(found[k, 0], images[k]) and same(found[k, 1], decoded)
        assert same(found[k, 4], drawn[0, k]) and same(found[k, 5], drawn[1, k])


def test_swap_mix_and_interpolate_recombine_v_and_z(system: System, out: Path) -> None:
    images, layer = system.images[:2], system.layer("logits")
    z = system.represent(layer, images)
    v = system.invariances(layer, system.mean(images), z)
    own, crossed = system.render(layer, v, z), system.render(layer, v, z.flip(0))
    run(out, "swap", "count=2")
    found = panels(out / "swap.png", 3, 3, SIDE)
    assert all(same(found[k + 1, k + 1], own[k]) and same(found[2 - k, k + 1], crossed[k]) for k in range(2))
    run(out, "mix")
    assert all(map(same, panels(out / "mix.png", 3, 4, SIDE)[2], [*images, *crossed]))
    run(out, "interpolate", "steps=3")
    middle = system.render(layer, v.mean(0, keepdim=True), z[:1])[0]
    found = panels(out / "interpolate.png", 3, 5, SIDE)[2]
    assert all(map(same, found, [images[0], own[0], middle, crossed[1], images[1]]))


def test_attack_shows_the_attacked_image_and_what_layers_see_of_it(system: System, out: Path) -> None:
    run(out, "attack", "count=4", "shown=1", "epsilon=0.2", "layer=dense")
    found = panels(out / "attack.png", 1, 10, SIDE)[0]
    attacked = attack.fgsm(system.logits, system.images[:4], 0.2)  # type: ignore[arg-type]
    (which,) = [k for k in range(4) if same(found[0], system.images[k])]
    assert same(found[1], (attacked[which] - system.images[which]) / 0.2) and same(found[2], attacked[which])
    assert same(found[3], system.decode(system.mean(attacked[which : which + 1]))[0])
    layer, drawn = system.layer("dense"), noise()
    control = attack.random_control(system.images[:4], 0.2)
    for first, x in ((4, system.images), (6, attacked), (8, control)):
        samples = system.samples(layer, system.represent(layer, x[which : which + 1]), 2, drawn)[:, 0]
        assert same(found[first], samples[0]) and same(found[first + 1], samples[1])


def test_texture_shows_two_classifiers_beside_one_another(system: System, out: Path) -> None:
    figures = run(out, "texture", "count=2", "draws=1")
    assert set(figures) == {"shapes_class_kept", "colours_class_kept"}
    found, images, drawn = panels(out / "texture.png", 2, 3, SIDE), system.images[:2], noise()
    for column, layer in enumerate(system.biases.values(), 1):
        samples = system.samples(layer, system.represent(layer, images), 1, drawn)[0]
        assert all(same(found[k, column], samples[k]) and same(found[k, 0], images[k]) for k in range(2))
    assert not same(found[0, 1], found[0, 2])


def test_edit_replaces_one_concept(system: System, out: Path) -> None:
    run(out, "edit", "concept=ink", "count=2")
    found, latents = panels(out / "edit_ink.png", 4, 2, SIDE), system.mean(system.images[:2])
    assert system.concepts is not None
    with torch.no_grad():
        digit, ink, paper, rest, _ = system.concepts(latents)
        edited = system.decode(system.concepts.inverse(digit, ink.flip(0), paper, rest)[0])
    before = system.decode(latents)
    for k in range(2):
        assert same(found[0, k], system.images[k]) and same(found[1, k], system.images[1 - k])
        assert same(found[2, k], before[k]) and same(found[3, k], edited[k])


def test_explain_tells_of_every_layer_and_concept(system: System, out: Path) -> None:
    figures = run(out, "explain", "count=5", "draws=2", "repeats=1")
    drawn = noise()
    for name, layer in system.layers.items():
        latents = system.draw(layer, system.represent(layer, system.images[:5]), 2, drawn)
        assert figures["latent"][name][0] == pytest.approx(variance_explained(latents).by_v, abs=1e-4)
        assert set(figures["concepts"][name]) == set(CONCEPTS)
    picture = torch.from_numpy(imread(out / "explained_concepts.png")[..., :3].copy())
    for colour in COLOURS[: len(CONCEPTS)]:  # a bar of each concept
        ink = torch.tensor([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        assert ((picture - ink).abs().amax(2) < 0.01).sum() > 100


def test_video_takes_v_of_each_frame(system: System, out: Path) -> None:
    run(out, "video", "still=4", "layer=dense")
    moving, layer = opening.frames(system, ""), system.layer("dense")
    v = system.invariances(layer, system.mean(moving), system.represent(layer, moving))
    translated = system.render(layer, v, system.represent(layer, system.images[4:5]))
    found = video.read(out / "video.gif", SIDE)  # left half of the film: its frames in the middle, cropped
    assert found.shape == (24, 3, SIDE, SIDE)
    grid = panels(out / "video.png", 2, 13, SIDE)
    assert all(same(grid[0, k + 1], moving[i]) and same(grid[1, k + 1], translated[i]) for k, i in ((0, 0), (11, 23)))


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
        (["sample", "invariances/digits", "draws=0", "--random"], "draws: expected at least 1, got 0"),
        (["explain", "invariances/digits", "repeats=0", "--random"], "repeats: expected at least 1, got 0"),
        (["sample", "invariances/digits", "data=nowhere", "--random"], "data: expected none, the digits come with"),
        (["attack", "invariances/digits", "epsilon=0", "--random"], "more than 0"),
        (["evaluate", "invariances/digits", "sets=1", "--random"], "2 or more"),
        (["demo", "invariances/digits", "draws=1"], "2 draws or more"),
        (["sample", "invariances/digits", "autoencoder=x", "--random"], "expected no autoencoder"),
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
    own = ["layers.png", "swap_dense.png", "edit_ink.png"]
    own += ["invariances-digits.safetensors", "invariances-digits-dense.safetensors"]
    others = ["holiday.png", "edit_mine.png", "invariances-alexnet-fc8.safetensors"]
    for name in [*own, *others]:
        (tmp_path / name).touch()
    demo._forget(tmp_path, "digits")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_figures_hardly_depend_on_how_many_images_are_measured_at_a_time(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = system.layer("dense")
    whole = evaluation.measure(system, layer, system.features, 2, noise())
    monkeypatch.setattr(evaluation, "PIXELS", 100 * SIDE**2)
    parts = evaluation.measure(system, layer, system.features, 2, noise())
    assert parts.variance != whole.variance and parts.variance == pytest.approx(whole.variance, rel=0.05)
    assert parts.distance == pytest.approx(whole.distance, rel=0.05)
    assert parts.class_kept == pytest.approx(whole.class_kept, abs=0.05)
    assert parts.similarity.samples.mean == pytest.approx(whole.similarity.samples.mean, abs=0.02)
    assert parts.frechet.mean == pytest.approx(whole.frechet.mean, rel=0.1)


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
    assert system.mean(system.images[:4]).shape == (4, 32)
