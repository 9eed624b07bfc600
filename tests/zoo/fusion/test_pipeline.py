"""Network Fusion with a BigGAN of tiny width: targets, training that resumes, verbs, what is measured, key names."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from zoo import cli, published, registry, weights
from zoo.experts.biggan import BigGAN
from zoo.fusion import dequantising, evaluation, experts, system, training
from zoo.fusion.experts import Files, Letters, Small
from zoo.net2net.experiment import Net2BigGANFlow
from zoo.training.batches import seeded
from zoo.training.fit import Data, Fit, fit
from zoo.verbs import Context


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dequantiser's file, to leave its training out."""
    file = tmp_path_factory.mktemp("dequantiser") / "dequantiser.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(registry.build("fusion/tiny-dequantiser"), file)
    return file


def context(folder: Path, random: bool = False) -> Context:
    return Context("fusion/tiny", folder, Console(quiet=True), random=random)


def module(folder: Path, rate: float = 1e-2) -> Net2BigGANFlow:
    torch.manual_seed(0)
    return training.experiment(context(folder, True), Files(), training.Plan(rate), Fit(2, 4, 2))


def test_a_flow_is_trained_on_the_latent_and_the_dequantised_embedding_of_images(tmp_path: Path) -> None:
    made = module(tmp_path)
    batch = {"z": torch.randn(3, 120), "class": torch.tensor([2, 7, 2])}
    target, condition = made.experts.target, made.encodings(batch)[1]
    x = made.encodings(batch)[0]
    assert x.shape == (3, 248) and torch.equal(x[:, :120], batch["z"])
    images = target.generate(batch["z"], batch["class"])
    torch.testing.assert_close(condition, Small(64)(images))
    assert (x[:, 120:] - target.embed(batch["class"])).abs().max() > 1e-3 and not torch.equal(x[0, 120:], x[2, 120:])


def test_painting_what_the_flow_made_of_a_target_paints_the_target(tmp_path: Path) -> None:
    made = module(tmp_path).train()
    batch = {"z": torch.randn(4, 120), "class": torch.arange(4)}
    with torch.no_grad():
        x, condition = made.encodings(batch)
        made.flow(x, condition)
        made.flow.eval()
        fusion = system.Fusion(made.experts.target, made.flow)
        painted = fusion.paint(made.flow(x, condition)[0], condition)
        expected = fusion.generator.generate_from_embedding(x[:, :120], x[:, 120:])
        assert (painted - expected).abs().max() < 1e-3
    few = fusion.samples(condition[:2], 3, seeded(1))
    assert few.shape == (2, 3, 3, 128, 128)
    v = torch.randn(3, 248, generator=seeded(1))
    torch.testing.assert_close(few[1], fusion.paint(v, condition[1:2].expand(3, -1)), atol=1e-5, rtol=1e-5)


def test_held_out_samples_are_the_authors_and_training_has_the_classes_of_coco(tmp_path: Path) -> None:
    from zoo.data import zcodes

    tiny = experts.generator(context(tmp_path), Files())
    z, chosen = system.held_out(tiny, 5)
    assert z.shape == (5, 120) and z.abs().max() <= 2.5 and int(chosen.max()) < 10
    assert zcodes.training_of(tiny.classes, 120).classes == tuple(range(10))
    full = BigGAN(registry.build("fusion/biggan256", width=8))
    z, chosen = system.held_out(full, 5)
    expected = zcodes.restricted_test_samples()
    assert torch.equal(z, torch.from_numpy(expected[0][-5:])) and chosen.tolist() == expected[1][-5:].tolist()
    first, classes = system.held_out(full, 5, "validation")
    assert torch.equal(first, torch.from_numpy(expected[0][:5])) and classes.tolist() == expected[1][:5].tolist()
    assert zcodes.training_of(full.classes, 140).classes == tuple(zcodes.COCO)
    with pytest.raises(ValueError, match="1 to 5000"):
        system.held_out(tiny, 5_001)


def test_an_interrupted_training_goes_on_and_ends_where_a_whole_one_does(
    tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, plan, settings = Files(dequantiser=str(untrained)), training.Plan(1e-2, 2), Fit(4, 3, 2, accelerator="cpu")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(context(whole), files, plan, settings)
    step, batches = Net2BigGANFlow.training_step, []

    def stops(self: Net2BigGANFlow, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        batches.append(batch["z"])
        if len(batches) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Net2BigGANFlow, "training_step", stops)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        training.train(context(broken), files, plan, settings)
    training.train(context(broken), files, plan, settings)
    signal.signal(signal.SIGINT, before)
    assert len(batches) == 6 and torch.equal(batches[3], batches[5]), "it went on after step 2"
    first, second = (weights.load(folder / "fusion-tiny.safetensors").state_dict() for folder in (whole, broken))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    with pytest.raises(ValueError, match="other settings(.|\n)*learning_rate"):
        training.train(context(broken), files, training.Plan(1e-3, 2), settings)


def test_the_flow_learns_and_the_experts_do_not(tmp_path: Path) -> None:
    made = module(tmp_path)
    before = {key: value.clone() for key, value in made.experts.state_dict().items()}
    samples = [{"z": z, "class": torch.tensor(3)} for z in torch.randn(4, 120, generator=seeded(1))]
    done = fit(made, Data(samples), tmp_path, Fit(6, 4, 1, accelerator="cpu"), Console(quiet=True))
    assert done.history[-1]["train"] < done.history[1]["train"]
    assert all(torch.equal(value, before[key]) for key, value in made.experts.state_dict().items())


def test_a_dequantiser_learns_to_restore_embeddings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, embeddings = registry.build("fusion/tiny-dequantiser"), 0.2 * torch.randn(10, 128)
    made = dequantising.DequantiserExperiment(network, 0.02, 1e-2)

    def error() -> float:
        return float((network(embeddings, torch.randn(10, 128))[-1] - embeddings).detach().std())

    before = error()
    fit(made, Data([*embeddings]), tmp_path, Fit(150, 10, 150, accelerator="cpu"), Console(quiet=True))
    assert error() < 0.8 * before


def test_verbs_draw_what_the_flow_paints_and_measure_it(tmp_path: Path, untrained: Path, drawn: list[Tensor]) -> None:
    from torchvision.io import write_png

    out, own = ["--out", str(tmp_path)], f"dequantiser={untrained}"
    assert cli.main(["train", "fusion/tiny", "steps=2", "every=1", "batch=3", "validation=2", own, *out]) == 0
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert set(figures) >= {"first_loss", "last_loss", "seconds"} and figures["settings"]["batch"] == 3
    assert figures["settings"]["learning_rate"] == pytest.approx(3 * 4.5e-6)
    assert cli.main(["sample", "fusion/tiny", "count=2", "samples=2", *out]) == 0
    assert cli.main(["text2img", "fusion/tiny", "prompt=a dog; a car", "samples=1", *out]) == 0
    write_png(torch.full((3, 40, 50), 200, dtype=torch.uint8), str(tmp_path / "sketch.png"))
    assert cli.main(["sketch2img", "fusion/tiny", f"sketch={tmp_path / 'sketch.png'}", "samples=1", *out]) == 0
    assert cli.main(["evaluate", "fusion/tiny", "count=20", "samples=1", own, *out]) == 0

    fusion = system.Fusion(
        experts.generator(context(tmp_path), Files()), weights.load(tmp_path / "fusion-tiny.safetensors")
    )
    images = system.painted(fusion.generator, *system.held_out(fusion.generator, 2))
    sketch = torch.full((1, 3, 128, 128), 200 / 127.5 - 1)
    for found, first, known in (
        (drawn[0], images, Small(64)(images)),
        (drawn[1], None, Letters(64)(["a dog", "a car"])),
        (drawn[2], sketch, Small(64)(sketch)),
    ):
        if first is not None:
            torch.testing.assert_close(found[:, 0], first)
        samples = found if first is None else found[:, 1:]
        noise = seeded(0, *b"pictures")
        torch.testing.assert_close(samples, fusion.samples(known, samples.shape[1], noise), atol=1e-5, rtol=1e-5)
    measured = json.loads((tmp_path / "evaluate.json").read_text())
    assert -1 <= measured["cosine to the own description"] <= 1 and measured["chance"] == 0.05
    for name in ("losses", "samples", "prompts", "sketches", "similarity"):
        assert (tmp_path / f"{name}.png").is_file()


class Perfect(system.Fusion):
    """Paints what is described: conditions are the pixels of its pictures."""

    def samples(self, condition: Tensor, count: int, noise: torch.Generator) -> Tensor:
        return condition.reshape(-1, 1, 3, 128, 128).expand(-1, count, -1, -1, -1)


def test_pictures_that_keep_to_their_conditions_are_found_out(tmp_path: Path) -> None:
    generator = experts.generator(context(tmp_path), Files())
    describe, dequantise = torch.nn.Flatten(), experts.dequantiser(context(tmp_path, True), Files())
    torch.manual_seed(0)
    flow = registry.build("fusion/tiny", condition=3 * 128**2).eval()
    held_out = system.held_out(generator, 20)
    found = evaluation.measure(Perfect(generator, flow), dequantise, describe, held_out, 2, 0)
    assert found.own.shape == (20, 2) and found.own.min() > 0.999 and found.found == 1
    assert abs(float(found.others.mean())) < 0.1
    with pytest.raises(ValueError, match="at least 20, got 4"):
        evaluation.measure(Perfect(generator, flow), dequantise, describe, (held_out[0][:4], held_out[1][:4]), 2, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text2img", "fusion/sketch-to-biggan", "--random", "depth=1", "hidden=8"], "use sketch2img"),
        (["sketch2img", "fusion/bert-to-biggan256"], "use text2img"),
        (["train", "fusion/bert-to-biggan256", "--random", "depth=1", "hidden=8"], "expected bert=FOLDER"),
        (["train", "fusion/sketch-to-biggan", "depth=1", "hidden=8", "biggan=nowhere"], "no file and no published key"),
        (["sketch2img", "fusion/tiny"], "expected sketch=FILE"),
        (["train", "fusion/tiny-biggan"], "expected one of fusion/bert-to-biggan256"),
        (["sample", "fusion/tiny"], "train it first"),
        (["text2img", "fusion/biggan256"], "expected one of fusion/bert-to-biggan256"),
        (["sample", "fusion/tiny", "--random", "count=0"], "count: expected at least 1, got 0"),
        (["text2img", "fusion/tiny", "--random", "samples=-1"], "samples: expected at least 1, got -1"),
        (["train", "fusion/tiny", "--weights", "x.safetensors"], "begins with weights of its own"),
        (["train", "fusion/tiny", "validation=99999"], "validation: expected 1 to"),
        (["train", "fusion/tiny", "learning_rate=-1"], "learning_rate: expected a positive number"),
        (["train", "fusion/tiny", "learning_rate=nan"], "learning_rate: expected a positive number"),
        (["train", "fusion/tiny", "batch=1"], "batch: expected at least 2, got 1"),
        (["train", "fusion/tiny", "--random", "latent=3"], "the flow has 131 numbers"),
        (["train", "fusion/tiny", "--random", "bert=x", "captioner=y"], "read from captioner= and bert="),
        (["text2img", "fusion/tiny", "--random", "bert=x"], "read from bert="),
        (["train", "fusion/tiny-dequantiser", "resnet=x"], "expected biggan= alone"),
        (["train", "fusion/tiny-dequantiser", "validation=4"], "no validation="),
        (["train", "fusion/tiny", "steps=70"], "steps: expected a multiple of every = 50, got 70"),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_sizes_of_the_published_flow_and_generator() -> None:
    assert registry.graph("fusion/bert-to-biggan256").parameters == 254_737_036
    assert registry.graph("fusion/biggan256").parameters > 80_000_000


@pytest.mark.parametrize("name", ["fusion/tiny", "fusion/tiny-biggan", "fusion/tiny-dequantiser"])
def test_authors_files_are_read_and_written(name: str, tmp_path: Path) -> None:
    model = registry.build(name).eval()
    file = tmp_path / "theirs.ckpt"
    torch.save({"state_dict": published.export(name, model, registry.entry(name).defaults)}, file)
    again = registry.load(name, file)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
