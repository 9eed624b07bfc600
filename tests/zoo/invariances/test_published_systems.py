"""Published flows with BigAE and a classifier, from files in the authors' layouts: every verb, and what it shows."""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from torchvision import models

import zoo
from tests.zoo.invariances.panels import panels, same
from zoo import cli, published, registry, weights
from zoo.experts import classifiers
from zoo.invariances import evaluation, experts, opening
from zoo.invariances.cuts import Choice
from zoo.invariances.published import FILES
from zoo.invariances.system import System
from zoo.verbs import Context

NAME, OTHER, SIDE = "invariances/alexnet-conv5", "invariances/alexnet-fc7", 128
OPTIONS = {"dim": 104, "depth": 2, "hidden": 8, "embedder_depth": 2}
SMALL = [f"{key}={value}" for key, value in OPTIONS.items()]


def written(name: str, path: Path, **options: int) -> Path:
    """A file of the authors' layout with random weights, norms initialised."""
    torch.manual_seed(len(name))
    model = zoo.build(name, **options)
    inputs = {key: torch.randn(4, *shape) for key, shape in model.graph.input_shapes.items()}
    model.train()(**{key: value.tanh() if key == "image" else value for key, value in inputs.items()})
    given = {**published.published(name).options, **options}
    entries = {**registry.entry(name).defaults, **given}
    torch.save({"model": published.export(name, model, entries)}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images in two classes, and the authors' files; AlexNet is made once."""
    root = tmp_path_factory.mktemp("published")
    for index in range(13):
        place = root / "few" if index > 9 else root / "images" / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        array = np.random.RandomState(index).randint(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(array).resize((140, 130)).save(place / f"{index}.png")
    written(NAME, root / "conv5.ckpt", **OPTIONS)
    written(OTHER, root / "fc7.ckpt", **OPTIONS)
    written("invariances/bigae-tiny", root / "bigae.ckpt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "classifier", functools.cache(classifiers.classifier))
        patch.setattr(registry, "load", functools.cache(registry.load))
        yield root


def words(folder: Path, data: str = "images") -> list[str]:
    """Which experts, on the command line."""
    return [
        f"data={folder / data}",
        f"autoencoder=bigae-tiny:{folder / 'bigae.ckpt'}",
        "classifier=random",
        *SMALL,
        "--weights",
        str(folder / "conv5.ckpt"),
    ]


@pytest.fixture(scope="module")
def system(folder: Path) -> System:
    context = Context(NAME, folder, Console(), weights=str(folder / "conv5.ckpt"), options=OPTIONS)
    choice = Choice(str(folder / "images"), f"bigae-tiny:{folder / 'bigae.ckpt'}", "random")
    system = opening.system(context, choice)
    return replace(system, images=system.images[:])


def run(folder: Path, out: Path, word: str, *options: str, data: str = "images") -> dict[str, float]:
    assert cli.main([word, NAME, *words(folder, data), *options, "--out", str(out)]) == 0
    file = out / f"{word}.json"
    return json.loads(file.read_text()) if file.is_file() else {}


@torch.no_grad()
def test_bigae_is_mean_and_deviation_of_its_moments_and_the_first_output_of_its_decoder(
    folder: Path, system: System
) -> None:
    bigae: Any = zoo.load("invariances/bigae-tiny", folder / "bigae.ckpt")
    assert next(n for n in bigae.encoder.graph.nodes if n.name == "normalise").options["times"] == 2
    images = system.images
    assert images.shape == (10, 3, SIDE, SIDE)  # all: the flow was not trained here
    moments, _ = bigae.encoder(images)
    mean, logvar = moments.split(104, 1)
    assert torch.allclose(system.mean(images), mean, atol=1e-6)
    deviation = system.autoencoder.posterior(images)[1]
    assert torch.allclose(deviation, logvar.clamp(-30, 10).mul(0.5).exp(), rtol=1e-4)
    image, classes = bigae.decoder(mean)
    assert torch.allclose(system.decode(mean), image, atol=1e-6) and classes.shape == (10, 10)


@torch.no_grad()
def test_samples_for_many_images_are_those_of_each_and_z_is_embedded_once(system: System) -> None:
    layer, images = system.layer(""), system.images[:3]
    z = system.represent(layer, images)
    calls: list[Tensor] = []
    embedder: Any = layer.flow.embedder
    handle = embedder.register_forward_hook(lambda module, given, h: calls.append(h))
    latents = system.draw(layer, z, 5, torch.Generator().manual_seed(1))
    assert [len(h) for h in calls] == [3]
    noise = torch.randn(5, 3, 104, generator=torch.Generator().manual_seed(1))
    for i in range(3):
        calls.clear()
        assert torch.allclose(system.latents(layer, noise[:, i], z[i : i + 1]), latents[:, i], atol=1e-4)
        assert [len(h) for h in calls] == [1]
    handle.remove()


def test_encode(folder: Path, system: System, tmp_path: Path) -> None:
    run(folder, tmp_path, "encode", "count=3")
    found = load_file(tmp_path / "encoded.safetensors")
    layer = system.layer("conv5")
    z = system.represent(layer, system.images[:3])
    assert torch.allclose(found["conv5.z"], z, atol=1e-5) and found["conv5.z"].shape == (3, 256, 13, 13)
    latents = system.latents(layer, found["conv5.v"], z)
    assert torch.allclose(latents, found["latent"], atol=1e-4)


def test_visualize_draws_a_row_for_each_cut(folder: Path, system: System, tmp_path: Path) -> None:
    figures = run(folder, tmp_path, "visualize", "image=1", "draws=3", f"others=alexnet-fc7:{folder / 'fc7.ckpt'}")
    assert list(figures) == ["fc7_variance", "conv5_variance"] and min(figures.values()) > 0
    found = panels(tmp_path / "visualize.png", 2, 6, SIDE)
    for row, variance in zip(found, figures.values(), strict=True):
        assert same(row[0], system.images[1])
        assert torch.allclose(row[1], row[3:].mean(0), atol=0.02)
        assert row[3:].var(0).mean() == pytest.approx(variance, rel=0.02)
    assert not same(found[0, 3], found[1, 3])


def test_sample(folder: Path, system: System, tmp_path: Path) -> None:
    figures = run(folder, tmp_path, "sample", "count=2", "draws=2", "first=3")
    found = panels(tmp_path / "sample_conv5.png", 2, 6, SIDE)
    seen = system.decode(system.mean(system.images[3:5]))
    for row, image, decoded in zip(found, system.images[3:5], seen, strict=True):
        assert same(row[0], image) and same(row[1], decoded)
        assert not same(row[4], row[5])
    distance = (found[:, 4] - found[:, 5]).flatten(1).norm(dim=1).mean()
    assert figures["conv5_distance"] == pytest.approx(float(distance), rel=0.02)
    assert 0 <= figures["conv5_class_kept"] <= 1


def test_reconstruct_swap_mix_and_interpolate(folder: Path, system: System, tmp_path: Path) -> None:
    images = system.images[:2]
    seen, layer = system.decode(system.mean(images)), system.layer("")
    figures = run(folder, tmp_path, "reconstruct", "count=2")
    found = panels(tmp_path / "reconstruct.png", 3, 2, SIDE)
    for k in range(2):
        assert same(found[0, k], images[k]) and same(found[1, k], seen[k]) and same(found[2, k], seen[k])
    assert figures["conv5_round_trip"] < 1e-4

    z = system.represent(layer, images)
    v = system.invariances(layer, system.mean(images), z)
    crossed = system.render(layer, v, z.flip(0))
    run(folder, tmp_path, "swap", "count=2")
    found = panels(tmp_path / "swap.png", 3, 3, SIDE)
    assert all(same(found[0, k + 1], images[k]) and same(found[k + 1, 0], images[k]) for k in range(2))
    assert all(same(found[k + 1, k + 1], seen[k]) for k in range(2))
    assert same(found[2, 1], crossed[0]) and same(found[1, 2], crossed[1]) and not same(found[1, 2], found[1, 1])

    run(folder, tmp_path, "mix")
    found = panels(tmp_path / "mix.png", 1, 4, SIDE)[0]
    assert all(same(panel, image) for panel, image in zip(found, [*images, *crossed], strict=True))

    run(folder, tmp_path, "interpolate", "steps=3")
    found = panels(tmp_path / "interpolate.png", 1, 5, SIDE)[0]
    middle = system.render(layer, v.mean(0, keepdim=True), z[:1])[0]
    expected = [images[0], seen[0], middle, crossed[1], images[1]]
    assert all(same(panel, image) for panel, image in zip(found, expected, strict=True))


def test_attack(folder: Path, system: System, tmp_path: Path) -> None:
    figures = run(folder, tmp_path, "attack", "count=2", "shown=1", "epsilon=0.1")
    found = panels(tmp_path / "attack.png", 1, 10, SIDE)[0]
    image, direction, attacked = found[:3]
    assert any(same(image, x) for x in system.images[:2])
    assert torch.allclose(attacked, (image + 0.1 * direction).clamp(-1, 1), atol=0.02)
    assert system.labels is None  # two folders are not the classifier's thousand classes
    assert set(figures) == {"epsilon", "unchanged_attacked", "unchanged_random_control", "conv5_shows_attacked_class"}


def test_explain_evaluate_and_video(folder: Path, system: System, tmp_path: Path) -> None:
    run(folder, tmp_path, "explain", "draws=2", "repeats=2", data="few")
    share = json.loads((tmp_path / "explain.json").read_text())["latent"]["conv5"][0]
    assert 0 < share < 1.5  # unbiased, so not bounded by 1
    run(folder, tmp_path, "evaluate", "sets=2", data="few")
    figures = json.loads((tmp_path / "evaluate.json").read_text())["conv5"]
    assert figures["frechet"][0] > 0 and figures["variance"] > 0 and 0 <= figures["class_kept"] <= 1
    frames, still = folder / "few", folder / "images" / "b" / "3.png"
    run(folder, tmp_path, "video", f"frames={frames}", f"still={still}", data="few")
    found = panels(tmp_path / "video.png", 2, 4, SIDE)
    moving, one, layer = opening.frames(system, str(frames)), opening.still(system, str(still)), system.layer("")
    v = system.invariances(layer, system.mean(moving), system.represent(layer, moving))
    translated = system.render(layer, v, system.represent(layer, one))
    for k in range(3):
        assert same(found[0, k + 1], moving[k]) and same(found[1, k + 1], translated[k])
    assert same(found[0, 0], one[0]) and same(found[1, 0], one[0])


def test_the_same_path_with_random_experts(folder: Path, tmp_path: Path) -> None:
    options = [f"data={folder / 'images'}", "autoencoder=bigae-tiny", *SMALL, "--random", "--out", str(tmp_path)]
    assert cli.main(["sample", NAME, *options, "count=1", "draws=2"]) == 0
    found = panels(tmp_path / "sample_conv5.png", 1, 6, SIDE)[0]
    assert not same(found[4], found[5])


def test_a_trained_cut_knows_its_experts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = f"bigae-tiny:{folder / 'bigae.ckpt'}"
    words = [NAME, *SMALL, f"autoencoder={spec}", "classifier=random", f"data={folder / 'images'}"]
    assert cli.main(["train", *words, "steps=2", "batch=4", "every=1", "--out", str(tmp_path)]) == 0
    file = tmp_path / "invariances-alexnet-conv5.safetensors"
    assert json.loads(weights.notes(file)["experts"]) == {"autoencoder": spec, "classifier": "random", "seed": 0}
    sample = ["sample", NAME, f"data={folder / 'images'}", "count=2", "draws=2", "--out", str(tmp_path)]
    assert cli.main(sample) == 0  # of the two images held out
    assert cli.main([*sample, "first=1"]) == 1
    told = capsys.readouterr()
    assert "of the 2 images" in told.err and "other images" not in told.out
    assert (
        cli.main(["sample", NAME, f"data={folder / 'images' / 'a'}", "count=1", "draws=2", "--out", str(tmp_path)]) == 0
    )
    assert "trained on other images than this folder's" in " ".join(capsys.readouterr().out.split())

    weights.save(weights.load(file), file, {"experts": json.dumps({"autoencoder": spec, "classifier": "random"})})
    assert cli.main(sample) == 1
    assert "expected autoencoder, classifier, seed" in capsys.readouterr().err
    weights.save(weights.load(file), file)
    assert cli.main(sample) == 1
    assert "give autoencoder= and classifier=" in capsys.readouterr().err
    assert cli.main([*sample, f"autoencoder={spec}", "classifier=random"]) == 0


def test_images_are_read_when_they_are_needed(
    folder: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path, "sample", "count=2", "draws=2", "first=3")
    assert opened == ["3.png", "4.png"], "one of each class after the other"
    opened.clear()
    run(folder, tmp_path, "mix", "first=0", "second=9")
    assert len(opened) == 2

    at_once: list[int] = []
    represent = System.represent

    def represented(self: System, layer: Any, images: Tensor) -> Tensor:
        at_once.append(len(opened))
        opened.clear()
        return represent(self, layer, images)

    opened.clear()
    with monkeypatch.context() as patch:
        patch.setattr(System, "represent", represented)
        patch.setattr(evaluation, "PIXELS", 4 * SIDE**2)
        run(folder, tmp_path, "evaluate", "sets=2")
    assert at_once == [4, 0, 0, 3, 0, 0, 3, 0, 0], "a batch, then two sets of samples of it"

    opened.clear()
    words = [OTHER, *SMALL, f"autoencoder=bigae-tiny:{folder / 'bigae.ckpt'}", "classifier=random"]
    data = [f"data={folder / 'images'}", "--out", str(tmp_path)]
    assert cli.main(["train", *words, *data, "steps=2", "batch=2", "every=2"]) == 0
    assert len(opened) == 2 * 2 + 2, "two steps, the validation part"
    opened.clear()
    assert cli.main(["sample", OTHER, *data, "count=1", "draws=2"]) == 0
    assert len(opened) == 1


def test_a_trained_flow_is_refused_beside_another_cut_or_classifier(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"data={folder / 'images'}"
    spec = [data, f"autoencoder=bigae-tiny:{folder / 'bigae.ckpt'}", *SMALL, "classifier=random"]
    assert cli.main(["train", OTHER, *spec, "steps=1", "batch=4", "every=1", "--out", str(tmp_path)]) == 0
    file = tmp_path / "invariances-alexnet-fc7.safetensors"
    show = [data, "count=1", "draws=2", "--out", str(tmp_path), "--weights", str(file)]
    assert cli.main(["sample", OTHER, *show]) == 0
    capsys.readouterr()
    assert cli.main(["sample", "invariances/alexnet-fc6", *show]) == 1  # its representations are as large
    assert "the flow of invariances/alexnet-fc7, expected invariances/alexnet-fc6" in capsys.readouterr().err
    told = weights.notes(file) | {"representations": "of another classifier"}
    weights.save(weights.load(file), file, {key: told[key] for key in ("experts", "network", "representations")})
    assert cli.main(["sample", OTHER, *show]) == 1
    assert "representations of one with other weights" in capsys.readouterr().err


@pytest.mark.parametrize("note", ["none", "[1]", '{"autoencoder": 5, "classifier": "random", "seed": 0}'])
def test_a_broken_note_of_experts_is_refused(note: str, tmp_path: Path) -> None:
    weights.save(zoo.build("invariances/tiny"), tmp_path / "flow.safetensors", {"experts": note})
    with pytest.raises(ValueError, match="expected autoencoder, classifier, seed in the note"):
        experts.of_file(tmp_path / "flow.safetensors", experts.Experts("", ""))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Path]:
    """Puts a file where a published one is kept, under its published hash."""
    monkeypatch.setenv("FLOWKIT_ZOO_CACHE", str(tmp_path / "cache"))

    def put(key: str, file: Path) -> Path:
        source = replace(FILES[key], md5=hashlib.md5(file.read_bytes()).hexdigest())
        monkeypatch.setitem(FILES, key, source)
        target = tmp_path / "cache" / source.file
        target.parent.mkdir(parents=True)
        return Path(shutil.copy(file, target))

    return put


def test_published_files_are_found_by_their_keys_and_checked(
    folder: Path, tmp_path: Path, cached: Callable[[str, Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = cached("cinn_alexnet_aae_conv5", folder / "conv5.ckpt")
    out = ["--weights", "cinn_alexnet_aae_conv5", "count=1", "draws=2", "--out", str(tmp_path)]
    assert cli.main(["sample", NAME, *words(folder)[:-2], *out]) == 0
    by_file = panels(tmp_path / "sample_conv5.png", 1, 6, SIDE)
    run(folder, tmp_path, "sample", "count=1", "draws=2")
    assert torch.equal(panels(tmp_path / "sample_conv5.png", 1, 6, SIDE), by_file)
    kept.write_bytes(kept.read_bytes() + b"1")
    registry.load.cache_clear()  # type: ignore[attr-defined]  the fixture's
    capsys.readouterr()
    assert cli.main(["sample", NAME, *words(folder)[:-2], *out]) == 1
    assert "expected md5" in capsys.readouterr().err


def test_the_published_classifier_of_animal_faces_is_taken_from_its_file(
    tmp_path: Path, cached: Callable[[str, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def smaller(name: str, weights: None, num_classes: int) -> torch.nn.Module:
        assert name == "resnet101" and num_classes == 10
        return models.resnet18(num_classes=num_classes)

    monkeypatch.setattr("torchvision.models.get_model", smaller)
    theirs = models.resnet18(num_classes=10).eval()
    torch.save({f"model.{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "theirs.ckpt")
    cached("resnet101_animalfaces_10", tmp_path / "theirs.ckpt")
    box = experts.classifier("invariances/resnet101-fc", experts.Experts())
    images = torch.randn(2, 3, 128, 128).tanh()
    with torch.no_grad():
        assert torch.allclose(box.logits(images), theirs(box.preprocess(images)), atol=1e-5)
        assert torch.equal(box.encode(images), box.logits(images))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet-fc7", "bigae_animals/animals-1672855.ckpt"),
        ("resnet101-layer3", "bigae_animalfaces/animalfaces-631606.ckpt"),
        ("resnet101-animals149-fc", "bigae_animalfaces/animalfaces-631606.ckpt"),
        ("resnet50-avgpool", "biggan_256/biggan-256.pth"),
        ("stylized-resnet50-avgpool", "biggan_256/biggan-256.pth"),
    ],
)
def test_every_published_flow_has_its_autoencoder(
    name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWKIT_ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr("zoo.downloads._download", no_network)
    with pytest.raises(FileNotFoundError, match=expected):
        experts.autoencoder(f"invariances/{name}", experts.Experts())


def no_network(*_: object) -> None:
    raise OSError("no network")
