"""Trainings of flows between experts, and what trained flows can be asked, on synthetic data at reduced width."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import Dataset

import zoo
from zoo.experts.biggan import BigGAN
from zoo.experts.classifiers import Greybox, Hooked
from zoo.experts.labels import Labelator
from zoo.net2net import experts, translate
from zoo.net2net.configurations import AUTOENCODERS, CONFIGURATIONS
from zoo.net2net.experiment import RUNS, FlowExperiment, Net2BigGANFlow, Net2NetFlow, latents
from zoo.net2net.graph import OURS, RELEASED, SPATIAL
from zoo.training.fit import Data, Fit, fit


class ToyAutoencoder(nn.Module):
    """Latents of any size of images of any size."""

    def __init__(self, dim: int, size: int = 4) -> None:
        super().__init__()
        self.code, self.size = nn.Linear(3 * size * size, dim), size

    def encode(self, images: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(images, self.size).flatten(1)
        mean: Tensor = self.code(small)
        return mean + 0.1 * torch.randn_like(mean)

    def decode(self, latents: Tensor) -> Tensor:
        return (latents @ self.code.weight).reshape(-1, 3, self.size, self.size).tanh()


class ToySentences(nn.Module):
    """Texts to vectors."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, texts: list[str]) -> Tensor:
        return torch.stack([torch.randn(self.dim, generator=torch.Generator().manual_seed(len(t))) for t in texts])


def source(name: str, options: dict[str, Any]) -> tuple[nn.Module, str]:
    """A first expert of the kind that a configuration has, and what it reads."""
    if name.startswith("sbert"):
        return ToySentences(options["condition"]), "caption"
    if name.startswith("attributes"):
        return nn.Identity(), "attributes"
    if name.startswith(("segmentation", "layers-last")):
        network = nn.Sequential(nn.Conv2d(3, options["channels"], 1), nn.Conv2d(options["channels"], 2, 1))
        made = experts.Classes if "argmax" in name else experts.Features
        return made(Hooked(network, "0"), options["size"]), "image"
    if "size" in options:
        network = nn.Sequential(nn.Conv2d(3, options["channels"], 8, 8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        network(torch.zeros(1, 3, 8 * options["size"], 8 * options["size"]))
        made = experts.Inpainting if "inpainting" in name else experts.Features
        return made(Greybox(network, "1", 8 * options["size"])), "image"
    if name == "shape-appearance":
        return experts.Warped(ToyAutoencoder(options["condition"])), "image"
    if name.startswith(("superresolution", "tiny")):
        return experts.SmallImages(ToyAutoencoder(options["condition"]), 8), "image"
    return Labelator(options["condition"]), "class"


def batch_of(count: int, options: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "image": torch.rand(count, 3, 64, 64) * 2 - 1,
        "class": torch.arange(count) % 2,
        "attributes": torch.rand(count, options.get("condition", 1)).round(),
        "caption": ["a word" * (1 + i) for i in range(count)],
    }


@pytest.mark.parametrize("name", [*RELEASED, *OURS, *SPATIAL])
def test_every_configuration_trains_samples_swaps_and_reconstructs(name: str) -> None:
    less: dict[str, Any] = {"hidden": 8, "depth": 2}
    if name in SPATIAL:
        less |= {"channels": 4, "size": 2 ** SPATIAL[name]["down"]}
    torch.manual_seed(0)
    flow = zoo.build(f"net2net/{name}", **less)
    options = {**zoo.registry.entry(f"net2net/{name}").defaults, **less}
    given, key = source(name, options)
    rate = RUNS[name].learning_rate() if name in RUNS else 1e-4
    experiment = Net2NetFlow(flow, ToyAutoencoder(options["dim"]), given, rate, source_key=key).train()
    batch, optimizer = batch_of(4, options), experiment.configure_optimizers()
    frozen = {k: v.clone() for k, v in experiment.experts.state_dict().items()}
    with pytest.warns(UserWarning, match="self.log"):  # there is no trainer
        loss = experiment.training_step(batch, 0)
    loss.backward()
    before = [p.clone() for p in flow.parameters()]
    optimizer.step()
    assert torch.isfinite(loss) and all(int(v) for k, v in flow.state_dict().items() if k.endswith("initialized"))
    assert any(not torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True))
    assert all(torch.equal(v, frozen[k]) for k, v in experiment.experts.state_dict().items())
    assert all(p.grad is None for p in experiment.experts.parameters()) and not experiment.experts.training
    flow.eval()
    with torch.no_grad():
        x, condition = experiment.encodings(batch)
    assert translate.sample(flow, condition).shape == x.shape
    assert experiment.experts.target.decode(translate.shift(flow, x, condition)).shape == (4, 3, 4, 4)
    torch.testing.assert_close(translate.reconstruct(flow, x, condition), x, atol=1e-4, rtol=1e-4)


def test_transfers_blend_and_return() -> None:
    torch.manual_seed(0)
    flow = zoo.build("net2net/tiny").eval()
    x, first, second = torch.randn(5, 8), torch.randn(5, 6), torch.randn(5, 6)
    moved = translate.transfer(flow, x, first, second)
    assert (moved - x).abs().max() > 1e-3
    torch.testing.assert_close(translate.transfer(flow, moved, second, first), x, atol=1e-5, rtol=0)
    half = translate.transfer(flow, x, first, second, alpha=0.25)
    torch.testing.assert_close(half, 0.75 * x + 0.25 * moved)
    torch.testing.assert_close(
        translate.shift(flow, x, first)[-1:], translate.transfer(flow, x[-1:], first[-1:], first[:1])
    )
    every = translate.sample_all(flow, x, second)
    torch.testing.assert_close(every[2, 3], translate.backward(flow, x[2:3], second[3:4])[0])
    same = [translate.sample(flow, first, torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*same)


class ToyCaptioner(nn.Module):
    """Images to texts."""

    def forward(self, images: Tensor) -> list[str]:
        return ["x" * (int(image.argmax()) % 50) for image in images]


def test_a_generator_is_captioned_and_its_embedding_dequantised() -> None:
    torch.manual_seed(0)
    flow = zoo.build("net2net/sbert-to-biggan256", dim=120 + 128, condition=6, depth=2, hidden=8)
    generator = BigGAN(zoo.build("net2net/tiny-biggan"))
    dequantiser = experts.Dequantiser(zoo.build("net2net/dequantiser-tiny", channels=128))
    experiment = Net2BigGANFlow(flow, generator, ToyCaptioner(), ToySentences(6), dequantiser, 1e-4).train()
    fixed = {key: value.clone() for key, value in experiment.experts.state_dict().items()}
    assert any(key.startswith("target.net.painter") for key in fixed) and not generator.net.training
    batch = {"z": torch.randn(4, 120), "class": torch.tensor([0, 1, 2, 0])}
    x, condition = experiment.encodings(batch)
    assert x.shape == (4, 248) and condition.shape == (4, 6)
    z, embedding = latents(x, (120, 128))
    assert torch.equal(z, batch["z"]) and (embedding[0] - embedding[3]).abs().max() > 0
    painted = generator.generate_from_embedding(z, generator.embed(batch["class"]))
    torch.testing.assert_close(painted, generator.generate(z, batch["class"]))
    with pytest.warns(UserWarning, match="self.log"):  # there is no trainer
        experiment.training_step(batch, 0).backward()
    assert all(p.grad is None for p in experiment.experts.parameters())
    assert all(torch.equal(value, fixed[key]) for key, value in experiment.experts.state_dict().items())
    assert {p.dtype for p in experiment.double().experts.parameters()} == {torch.float64}
    with pytest.raises(ValueError, match=r"expected 120 \+ 4 numbers, got 248"):
        latents(x, (120, 4))


class Pictures(Dataset[dict[str, Tensor]]):
    """Random pictures of two classes that differ in brightness."""

    def __init__(self, count: int) -> None:
        random = torch.Generator().manual_seed(count)
        self.labels = torch.arange(count) % 2
        self.images = torch.rand(count, 3, 8, 8, generator=random) - self.labels[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index], "class": self.labels[index]}


def test_the_trainer_runs_it_and_the_likelihood_rises(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow = zoo.build("net2net/tiny", condition=2)
    experiment = Net2NetFlow(flow, ToyAutoencoder(8), Labelator(2), 3e-3, source_key="class")
    fitted = fit(
        experiment, Data(Pictures(64), Pictures(16)), tmp_path, Fit(40, 16, 10, accelerator="cpu"), Console(quiet=True)
    )
    scores = [mark["validation"] for mark in fitted.history]
    assert scores[-1] is not None and scores[0] is not None and scores[-1] < scores[0] - 1


def test_the_trainings_are_those_of_the_sheet() -> None:
    starts = {"ae-faces32": 10_001, "ae-coco256": 250_001}
    batches = {"ae-faces32": 12, "superresolution-faces": 6}
    for name, run in RUNS.items():
        if name.startswith("ae-"):
            assert (run.disc_start, run.kl_weight, run.disc_weight) == (starts.get(name, 75_001), 1e-6, 0.5)
            assert run.batch == batches.get(name, 3)
        else:
            assert run.disc_start == 0 and run.batch == batches.get(name, 16 if name.startswith("sbert") else 15)
    assert RUNS.keys() == {*RELEASED, *AUTOENCODERS}


def test_domains_are_numbered_as_the_authors_do() -> None:
    sets = {name: c.sets for name, c in CONFIGURATIONS.items() if c.kind == "label" and name in RELEASED}
    assert sets == {
        "anime-photography": (("ffhq", "celebahq"), ("anime",)),
        "portraits-photography": (("ffhq",), ("portraits",)),
        "celeba-celebahq-ffhq": (("celeba",), ("celebahq",), ("ffhq",)),
    }


def test_the_authors_rates_and_errors() -> None:
    assert RUNS["superresolution-faces"].learning_rate() == pytest.approx(2.7e-5)
    assert RUNS["anime-photography"].learning_rate() == pytest.approx(6.75e-5)
    assert RUNS["sbert-to-biggan256"].learning_rate(devices=2, accumulate=3) == pytest.approx(6 * 7.2e-5)
    assert RUNS["ae-faces32"].learning_rate() == pytest.approx(5.4e-5)
    assert RUNS["ae-coco256"].learning_rate() == pytest.approx(1.35e-5)
    flow = zoo.build("net2net/tiny", condition=2)
    with pytest.raises(ValueError, match="batch: expected 'class', got image"):
        Net2NetFlow(flow, ToyAutoencoder(8), Labelator(2), 1e-4, source_key="class").encodings({"image": torch.ones(1)})
    with pytest.raises(NotImplementedError):
        FlowExperiment(flow, 1e-4).encodings({})


def test_a_hole_has_half_the_sides() -> None:
    images = torch.ones(6, 3, 8, 10)
    holes = experts.with_hole(images) == 0
    assert (holes.sum((1, 2, 3)) == 3 * 4 * 5).all() and len({tuple(h.flatten().tolist()) for h in holes}) > 1
