"""FaceNet's cuts, texture bias with BigGAN as decoder, and training of the flow to concepts, on the command line."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import zoo
from tests.zoo.invariances.panels import panels, same
from tests.zoo.test_datasets import write_celeba
from zoo import cli, published, registry, weights
from zoo.data.standard import CelebA
from zoo.experts import classifiers, facenet
from zoo.invariances import cuts, experts, opening, pairs, training
from zoo.invariances.autoencoders import Generator, SmallAutoencoder
from zoo.invariances.cuts import Choice
from zoo.invariances.experiment import TextureExperiment
from zoo.training.batches import seeded
from zoo.verbs import Context

FACES = ["dim=32", "depth=1", "hidden=8"]
BIGGAN = {"dim": 248, "depth": 1, "hidden": 8, "embedder_depth": 2}
TEXTURES = [f"{key}={value}" for key, value in BIGGAN.items()]
RESNET, STYLIZED = "invariances/resnet50-avgpool", "invariances/stylized-resnet50-avgpool"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images in two classes, dark and bright, an autoencoder of 16 pixels, BigGAN; FaceNet's network is made once."""
    root = tmp_path_factory.mktemp("experts")
    for index in range(20):
        place = root / "images" / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        array = np.random.RandomState(index).randint(0, 128, (20, 20, 3)) + 127 * (index % 2)
        Image.fromarray(array.astype(np.uint8)).save(place / f"{index}.png")
    torch.manual_seed(0)
    small = zoo.build("invariances/digits-autoencoder")
    for _ in range(20):  # so that its batch norms have seen images
        small(torch.randn(16, 3, 16, 16).tanh(), torch.randn(16, 32))
    weights.save(small, root / "small.safetensors")
    weights.save(zoo.build("invariances/dequantiser", hidden=8), root / "dequantiser.safetensors")
    model = zoo.build("invariances/biggan-tiny")
    theirs = published.export("invariances/biggan-tiny", model, registry.entry("invariances/biggan-tiny").defaults)
    torch.save(theirs, root / "biggan.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "classifier", functools.cache(classifiers.classifier))
        patch.setattr(registry, "load", functools.cache(registry.load))
        patch.setattr(opening, "FIRST", 3)
        patch.setattr(facenet, "InceptionResnetV1", functools.cache(facenet.InceptionResnetV1))
        yield root


def faces(folder: Path) -> list[str]:
    return [f"data={folder / 'images'}", f"autoencoder={folder / 'small.safetensors'}"]


@pytest.mark.parametrize("cut", ["conv4a", "embedding"])
def test_facenets_cuts_are_shown(cut: str, folder: Path, tmp_path: Path) -> None:
    words = [f"invariances/facenet-{cut}", *faces(folder), *FACES, "--random", "--out", str(tmp_path)]
    assert cli.main(["sample", *words, "count=2", "draws=2"]) == 0
    assert list(json.loads((tmp_path / "sample.json").read_text())) == [f"{cut}_distance"]  # it tells no classes
    found = panels(tmp_path / f"sample_{cut}.png", 2, 6, 16)
    system = opening.system(
        Context(words[0], tmp_path, Console(), random=True, options={"dim": 32, "depth": 1, "hidden": 8}),
        Choice(str(folder / "images"), str(folder / "small.safetensors")),
    )
    assert same(found[1, 0], system.images[:][1]) and not same(found[1, 4], found[1, 5])
    z, layer = system.represent(system.layer(cut), system.images[:2]), system.layer(cut)
    drawn = system.samples(layer, z, 2, seeded(0, *b"verbs"))
    assert same(found[0, 4], drawn[0, 0]) and same(found[1, 5], drawn[1, 1])


def test_facenet_attacked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["invariances/facenet-embedding", *faces(folder), *FACES, "--random", "--out", str(tmp_path)]
    assert cli.main(["attack", *words]) == 1
    assert "tells no classes" in capsys.readouterr().err


def test_concepts_are_trained_on_classes_and_edited_beside_a_cut(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    e = ["invariances/concepts", "concepts=kind,residual", "dim=32", "depth=2", "hidden=16"]
    steps = ["steps=30", "batch=16", "every=15", "--out", str(tmp_path)]
    assert cli.main(["train", *e, *faces(folder), *steps]) == 0
    file = tmp_path / "invariances-concepts.safetensors"
    history = json.loads(weights.notes(file)["history"])
    assert history[-1]["validation"] < history[0]["validation"]
    capsys.readouterr()

    cut = ["invariances/facenet-embedding", *faces(folder), *FACES, f"concepts_from={file}", "--random"]
    assert cli.main(["edit", *cut, "count=2", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "edit.json").read_text())
    assert set(figures) == {"change", "distance", "distance_deviation"} and figures["distance"] > 0
    found = panels(tmp_path / "edit_kind.png", 4, 2, 16)
    autoencoder = SmallAutoencoder(weights.load(folder / "small.safetensors"))
    flow, images = weights.load(file), pairs.folders.folder(folder / "images", 16).tensors()[0][[0, 10]]
    with torch.no_grad():
        latents = autoencoder.posterior(images)[0]
        own, rest, _ = flow(latents)
        edited = autoencoder.decode(flow.inverse(own.flip(0), rest)[0])
        before = autoencoder.decode(latents)
    for k in range(2):
        assert same(found[0, k], images[k]) and same(found[1, k], images[1 - k])
        assert same(found[2, k], before[k]) and same(found[3, k], edited[k]) and not same(found[3, k], before[k])

    assert cli.main(["explain", *cut, "count=4", "draws=2", "repeats=2", "--out", str(tmp_path)]) == 0
    assert set(json.loads((tmp_path / "explain.json").read_text())["concepts"]["embedding"]) == {"kind", "residual"}
    assert (
        cli.main(["edit", "invariances/concepts", f"data={folder / 'images'}", "--out", str(tmp_path), "count=2"]) == 0
    )
    held_out = pairs.folders.split(pairs.folders.folder(folder / "images", 16), {"train": 0.9, "test": 0.1})["test"]
    assert same(panels(tmp_path / "edit_kind.png", 4, 2, 16)[0, 1], held_out.tensors()[0][1])
    assert cli.main(["edit", "invariances/concepts", f"data={folder / 'images'}", "concept=age", "count=2",
                     "--out", str(tmp_path)]) == 1  # fmt: skip
    assert "kind, residual" in capsys.readouterr().err
    weights.save(zoo.build("invariances/digits-autoencoder"), tmp_path / "other.safetensors")
    beside = [word for word in cut if not word.startswith("autoencoder=")]
    assert cli.main(["edit", *beside, f"autoencoder={tmp_path / 'other.safetensors'}", "--out", str(tmp_path)]) == 1
    assert "latents of one with other weights" in capsys.readouterr().err


def test_concepts_are_trained_on_celeba(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    opened: list[str],
) -> None:
    attributes = write_celeba(tmp_path)
    monkeypatch.setattr("torchvision.datasets.CelebA._check_integrity", lambda self: True)
    data = pairs.of(str(tmp_path), 16, ["glasses", "Male", "residual"])
    train: Any = data.train
    assert train.pairs.factors == ("Eyeglasses", "Male", "residual") and len(train) < len(attributes)
    pair = train.draw(0, np.random.RandomState(0))
    assert pair["first"].shape == pair["second"].shape == (3, 16, 16) and pair["factor"] in (0, 1)
    e = ["invariances/concepts", "concepts=glasses,gender,residual", "sizes=4,4,24", "dim=32", "depth=1", "hidden=8"]
    options = [f"autoencoder={folder / 'small.safetensors'}", "steps=1", "batch=4", "every=1"]
    assert cli.main(["train", *e, f"data={tmp_path}", *options, "--out", str(tmp_path / "out")]) == 0
    edit = ["edit", "invariances/concepts", f"data={tmp_path}", "count=2", "--out", str(tmp_path / "out")]
    assert cli.main([*edit, "concept=age"]) == 1
    assert "glasses, gender, residual" in capsys.readouterr().err
    opened.clear()
    assert cli.main([*edit, "concept=glasses"]) == 0
    assert len(opened) == 2
    faces = CelebA(tmp_path, "test", 16, "net2net")
    shown = panels(tmp_path / "out" / "edit_glasses.png", 4, 2, 16)[0]
    assert all(same(shown[k], faces.draw(k, np.random.RandomState(k))["image"]) for k in range(2))
    with pytest.raises(ValueError, match="tells one concept"):
        pairs.of(str(folder / "images"), 16, ["hair", "age", "residual"])
    with pytest.raises(ValueError, match="hat unknown"):
        pairs.of(str(tmp_path), 16, ["hat", "residual"])


def test_two_texture_flows_are_trained_and_shown_side_by_side(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "DRAWN", 2)
    monkeypatch.setattr(training, "HELD_OUT", 1)
    monkeypatch.setattr(classifiers, "SIDE", 64)
    spec = f"autoencoder=biggan-tiny:{folder / 'biggan.pth'}"
    words = [*TEXTURES, spec, "classifier=random", f"dequantiser={folder / 'dequantiser.safetensors'}"]
    for name, seed in ((RESNET, "0"), (STYLIZED, "1")):
        steps = ["steps=1", "batch=2", "every=1", "--seed", seed]
        assert cli.main(["train", name, *words, *steps, "--out", str(tmp_path)]) == 0
    assert cli.main(["texture", RESNET, "count=2", "draws=2", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "texture.json").read_text())
    assert {"resnet50_distance", "stylized-resnet50_distance"} <= figures.keys()
    found = panels(tmp_path / "texture.png", 2, 5, 128)
    system = opening.system(Context(RESNET, tmp_path, Console()), Choice(rival=STYLIZED))
    assert isinstance(system.autoencoder, Generator) and [*system.biases] == ["resnet50", "stylized-resnet50"]
    noise = seeded(0, *b"verbs")
    for first, layer in zip((1, 3), system.biases.values(), strict=True):
        drawn = system.samples(layer, system.represent(layer, system.images[:2]), 2, noise)
        for k in range(2):
            assert same(found[k, 0], system.images[k])  # drawn by BigGAN: no folder was given
            assert same(found[k, first], drawn[0, k]) and same(found[k, first + 1], drawn[1, k])
    assert not same(found[0, 1], found[0, 3])
    assert cli.main(["swap", RESNET, "count=2", "--out", str(tmp_path)]) == 1


def test_the_texture_flow_learns_codes_and_dequantised_embeddings_of_biggans_images(folder: Path) -> None:
    generator = experts.autoencoder(RESNET, experts.Experts(f"biggan-tiny:{folder / 'biggan.pth'}"))
    assert isinstance(generator, Generator)
    dequantiser, flow = (
        weights.load(folder / "dequantiser.safetensors"),
        zoo.build(RESNET, **{**BIGGAN, "condition": 3}),
    )
    seen: list[torch.Tensor] = []

    class Represent(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean((2, 3))

    batch = {"z": torch.randn(3, 120), "class": torch.tensor([1, 4, 7])}
    experiment = TextureExperiment(flow, generator, dequantiser, Represent(), 16)
    experiment.loss(batch)
    flow.eval()
    torch.manual_seed(5)
    loss = experiment.loss(batch)
    torch.manual_seed(5)
    with torch.no_grad():
        image = generator.network(batch["z"], torch.nn.functional.one_hot(batch["class"], 10).float())
        assert torch.allclose(seen[-1], image, atol=1e-6)
        embedding = generator.network.embed.weight.T[batch["class"]]
        smooth = dequantiser(embedding, torch.randn(3, 128))[-1]
        v, logdet = flow(torch.cat([batch["z"], smooth], 1), image.mean((2, 3)))
    assert torch.allclose(loss, (0.5 * v.square().sum(1) - logdet).mean(), atol=1e-4)
