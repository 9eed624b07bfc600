"""The whole of Network Fusion on the command line with files of experts: captioner and BERT, ResNet-50, BigGAN."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.zoo.fusion.conftest import FLOW, SMALL, WIDTH, Narrow
from zoo import cli, published, registry, weights
from zoo.experts.biggan import BigGAN
from zoo.experts.captioner import Captioner
from zoo.experts.sentences import SentenceEncoder
from zoo.fusion import system
from zoo.training.batches import seeded

pytest.importorskip("transformers")
Files = dict[str, Path]
SIZES = [f"{key}={value}" for key, value in FLOW.items()]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.experts.captioner.Encoder", Narrow)


def given(files: Files, *names: str) -> list[str]:
    """Options of the command line."""
    return [f"{name}={files[name]}" for name in names]


def opened(files: Files, flow: Path) -> system.Fusion:
    return system.Fusion(BigGAN(weights.load(files["biggan"])), weights.load(flow))


def noise() -> torch.Generator:
    """That of every picture."""
    return seeded(0, *b"pictures")


def test_sentences_train_sample_and_paint_prompts(files: Files, tmp_path: Path, drawn: list[torch.Tensor]) -> None:
    out, name = ["--out", str(tmp_path)], "fusion/bert-to-biggan256"
    converted, small = tmp_path / "biggan.safetensors", [f"{key}={value}" for key, value in SMALL.items()]
    assert cli.main(["convert", str(files["theirs"]), "fusion/biggan256", *small, "--to", str(converted)]) == 0
    speakers = given({**files, "biggan": converted}, "captioner", "words", "bert", "biggan")
    steps = ["steps=2", "batch=2", "every=1", "validation=2"]
    assert cli.main(["train", name, *steps, *SIZES, *speakers, *given(files, "dequantiser"), *out]) == 0
    assert cli.main(["sample", name, "count=2", "samples=1", *speakers, *out]) == 0
    prompts = ["prompt=a red car; a dog", "samples=1"]
    assert cli.main(["text2img", name, *prompts, *given(files, "bert", "biggan"), *out]) == 0

    fusion = opened(files, tmp_path / "fusion-bert-to-biggan256.safetensors")
    images = system.painted(fusion.generator, *system.held_out(fusion.generator, 2))
    assert torch.equal(drawn[0][:, 0], images)
    said = Captioner.from_files(files["captioner"], files["words"], legacy=True)(images)
    assert all(text.startswith("<start> ") and text.endswith(" <end> ") for text in said)
    read = SentenceEncoder.from_folder(files["bert"])
    torch.testing.assert_close(drawn[0][:, 1:], fusion.samples(read(said), 1, noise()))
    torch.testing.assert_close(drawn[1], fusion.samples(read(["a red car", "a dog"]), 1, noise()))
    assert (drawn[1][0] - drawn[1][1]).abs().max() > 1e-4, "another prompt, another picture"
    assert cli.main(["sample", name, "count=2", "samples=1", *out]) == 0
    assert cli.main(["text2img", name, *prompts, *out]) == 0
    assert torch.equal(drawn[2], drawn[0]) and torch.equal(drawn[3], drawn[1]), "experts are those of the training"


def test_a_flow_in_the_authors_layout_samples(files: Files, tmp_path: Path, drawn: list[torch.Tensor]) -> None:
    """Beside the flow, their checkpoint holds its experts."""
    name = "fusion/bert-to-biggan256"
    torch.manual_seed(0)
    flow = registry.build(name, **FLOW).eval()
    theirs = published.export(name, flow, {**registry.entry(name).defaults, **FLOW})
    assert all(key.startswith("flow.") for key in theirs)
    extras = {key: torch.zeros(2) for key in ("first_stage_model.linear.weight", "dequantizer.a", "to_c_model.b")}
    torch.save({"state_dict": theirs | extras, "epoch": 3, "global_step": 7}, tmp_path / "flow.ckpt")
    words = ["text2img", name, "prompt=a dog", "samples=2", *SIZES, *given(files, "bert", "biggan")]
    assert cli.main([*words, "--weights", str(tmp_path / "flow.ckpt"), "--out", str(tmp_path)]) == 0
    known = SentenceEncoder.from_folder(files["bert"])(["a dog"])
    fusion = system.Fusion(BigGAN(weights.load(files["biggan"])), flow)
    torch.testing.assert_close(drawn[0], fusion.samples(known, 2, noise()))


def test_a_sketch_is_seen_by_a_resnet_of_a_file(files: Files, tmp_path: Path, drawn: list[torch.Tensor]) -> None:
    """Stylised ImageNet's is the checkpoint of a data-parallel training, torchvision's a plain state dict."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    network, name, out = resnet50(weights=None).eval(), "fusion/sketch-to-biggan", ["--out", str(tmp_path)]
    state, plain, stylised = network.state_dict(), tmp_path / "resnet50.pth", tmp_path / "stylised.pth.tar"
    training = {"epoch": 60, "arch": "resnet50", "best_prec1": torch.tensor(60.2), "optimizer": {"state": {}}}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, **training}, stylised)
    torch.save(state, plain)
    lines = np.full((300, 400, 3), 255, np.uint8)
    lines[100:200, 150:152] = lines[100:102, 150:250] = 0
    Image.fromarray(lines).save(tmp_path / "sketch.png")
    sizes = [size for size in SIZES if not size.startswith("condition")]
    known, steps = given(files, "biggan", "dequantiser"), ["steps=1", "batch=2", "validation=1"]
    assert cli.main(["train", name, *steps, *sizes, f"resnet={stylised}", *known, *out]) == 0
    sketch = ["sketch2img", name, f"sketch={tmp_path / 'sketch.png'}", "samples=2", *known[:1], *out]
    for file in (stylised, plain):
        assert cli.main([*sketch, f"resnet={file}"]) == 0
    assert torch.equal(drawn[0], drawn[1]), "the same network in two layouts"
    shown = drawn[0][0, :1]
    assert shown.shape == (1, 3, 128, 128) and float(shown.min()) < -0.5 and float(shown.mean()) > 0.9
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        resized = torch.nn.functional.interpolate(shown, (224, 224), mode="bilinear")
        features = network(((resized + 1) / 2 - mean) / std)
    expected = opened(files, tmp_path / "fusion-sketch-to-biggan.safetensors").samples(features, 2, noise())
    torch.testing.assert_close(drawn[0][:, 1:], expected, atol=1e-3, rtol=1e-3)


def test_files_that_do_not_fit_are_refused(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, out = "fusion/bert-to-biggan256", ["--out", str(tmp_path), "--random"]
    assert cli.main(["text2img", name, "depth=1", "hidden=8", "latent=120", *given(files, "bert", "biggan"), *out]) == 1
    assert "expects a BERT of 768 numbers" in capsys.readouterr().err
    latent = ["latent=140", "depth=1", "hidden=8", f"condition={WIDTH}"]
    assert cli.main(["text2img", name, *latent, *given(files, "bert", "biggan"), *out]) == 1
    assert "the flow has 268 numbers, latent and embedding of the BigGAN 248" in capsys.readouterr().err
