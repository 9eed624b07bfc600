"""Network Fusion from end to end with a BigGAN of tiny width: targets, training, sampling, verbs, key names."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from zoo import cli, published, registry
from zoo.fusion import running, system
from zoo.fusion.experts import Captions, Small
from zoo.verbs import Context


def fusion(folder: Path) -> system.Fusion:
    context = Context("fusion/tiny", folder, Console(quiet=True), random=True)
    return running.opened(context, Small(64), fresh=True)


def test_target_is_the_latent_then_the_dequantised_embedding_and_the_image_has_the_clean_one(tmp_path: Path) -> None:
    found = fusion(tmp_path)
    z, chosen, noise = system.draw(found, 3, 0, [2, 7])
    assert z.abs().max() <= 2.5 and set(chosen.tolist()) <= {2, 7}
    target, condition, images = found.batch(z, chosen, noise)
    assert target.shape == (3, 248) and condition.shape == (3, 64) and images.shape == (3, 3, 128, 128)
    assert torch.equal(target[:, :120], z)
    one_hot = torch.nn.functional.one_hot(chosen, 10).float()
    assert torch.allclose(images, found.generator(z, one_hot), atol=1e-5)
    clean = found.generator.embed(one_hot)
    assert (target[:, 120:] - clean).abs().max() > 1e-3
    again = found.batch(z, chosen, torch.zeros_like(noise))
    assert not torch.equal(again[0][:, 120:], target[:, 120:]) and torch.equal(again[2], images)


def test_painting_what_the_flow_made_of_a_target_paints_the_target(tmp_path: Path) -> None:
    found = fusion(tmp_path)
    system.train(found, steps=2, batch=4, learning_rate=1e-4, classes=range(10), seed=0)
    target, condition, _ = found.batch(*system.draw(found, 2, 5, range(10)))
    with torch.no_grad():
        v = found.flow(target, condition)[0]
        expected = found.generator.painter(target[:, :120], target[:, 120:])
        assert (found.paint(v, condition) - expected).abs().max() < 1e-3


def test_the_flow_learns_and_the_experts_do_not(tmp_path: Path) -> None:
    found = fusion(tmp_path)
    before = {key: value.clone() for key, value in found.generator.state_dict().items()}
    losses = system.train(found, steps=6, batch=4, learning_rate=1e-2, classes=[3], seed=0)
    assert losses[-1] < losses[1]
    assert all(torch.equal(value, before[key]) for key, value in found.generator.state_dict().items())


def test_captions_are_embedded() -> None:
    captioner = lambda images: ["a dog"] * len(images)  # noqa: E731
    sentences = lambda texts: torch.tensor([[float(len(text))] for text in texts])  # noqa: E731
    described: Tensor = Captions(captioner, sentences)(torch.zeros(2, 3, 8, 8))  # type: ignore[arg-type]
    assert described.tolist() == [[5.0], [5.0]]


def test_verbs_write_pictures(tmp_path: Path) -> None:
    from torchvision.io import write_png

    out = ["--out", str(tmp_path)]
    assert cli.main(["train", "fusion/tiny", "steps=2", "batch=4", *out]) == 0
    assert set(json.loads((tmp_path / "metrics.json").read_text())) >= {"first_loss", "last_loss", "seconds"}
    assert cli.main(["sample", "fusion/tiny", "count=2", "samples=2", *out]) == 0
    assert cli.main(["text2img", "fusion/tiny", "samples=2", *out]) == 0
    write_png(torch.full((3, 40, 50), 200, dtype=torch.uint8), str(tmp_path / "sketch.png"))
    assert cli.main(["sketch2img", "fusion/tiny", f"sketch={tmp_path / 'sketch.png'}", "samples=2", *out]) == 0
    for name in ("losses", "samples", "prompts", "sketches"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text2img", "fusion/sketch-to-biggan"], "use sketch2img"),
        (["sketch2img", "fusion/bert-to-biggan256"], "use text2img"),
        (["text2img", "fusion/bert-to-biggan256"], "expected bert=FOLDER"),
        (["train", "fusion/bert-to-biggan256"], "expected captioner=FILE"),
        (["sketch2img", "fusion/tiny"], "expected sketch=FILE"),
        (["train", "fusion/tiny-biggan"], "expected one of fusion/bert-to-biggan256"),
        (["sample", "fusion/tiny"], "train it first"),
        (["text2img", "fusion/biggan256"], "expected one of fusion/bert-to-biggan256"),
        (["sample", "fusion/tiny", "--random", "count=0"], "count: expected at least 1, got 0"),
        (["text2img", "fusion/tiny", "--random", "samples=-1"], "samples: expected at least 1, got -1"),
        (["train", "fusion/tiny", "batch=1"], "batch: expected at least 2, got 1"),
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
