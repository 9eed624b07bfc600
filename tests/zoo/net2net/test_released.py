"""The published configurations from the command line: experts of files, data, content of pictures."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.zoo.net2net import layouts
from tests.zoo.net2net.layouts import Drawn, close, run
from tests.zoo.net2net.test_sentences import write_bert
from zoo import downloads, weights
from zoo.blocks import resnet
from zoo.data.images import downsample
from zoo.experts.captioner import Decoder
from zoo.experts.sentences import SentenceEncoder
from zoo.net2net import training
from zoo.net2net.autoencoder_experiment import GaussianAutoencoder
from zoo.net2net.configurations import CONFIGURATIONS
from zoo.net2net.experiment import FlowExperiment
from zoo.net2net.graph import RELEASED

LESS = ["depth=2", "hidden=8"]
SMALL = "down=2 width=4"


@pytest.mark.parametrize("name", RELEASED)
def test_every_configuration_runs_between_stand_ins(name: str, tmp_path: Path, drawn: Drawn) -> None:
    c = CONFIGURATIONS[name]
    net = f"net2net/{name}"
    assert run("train", net, "--random", *LESS, "steps=2", "batch=4", out=tmp_path) == 0
    assert run("reconstruct", net, "count=2", out=tmp_path) == 0
    real, decoded, back, shifted = drawn["reconstruct"]
    assert close(back, decoded) and not close(shifted, decoded)
    assert close(real, decoded) is (name == "sbert-to-bigbigan")
    assert run("swap", net, "count=2", out=tmp_path) == 0
    table = drawn["swap"]
    assert all(close(table[1 + k, k], decoded[k]) for k in range(2)) and not close(table[1, 0], table[1, 1])
    assert run("sample", net, "count=1", "samples=1", "--random", *LESS, out=tmp_path / "fresh") == 0
    assert run("interpolate", net, "count=1", "steps=2", out=tmp_path) == 0
    assert run("transfer", net, f"count={c.domains or 1}", out=tmp_path) == (0 if c.domains else 1)
    assert run("text2img", net, "prompt=a cat", "samples=1", out=tmp_path) == (
        0 if c.kind in ("sentence", "captioned") else 1
    )
    if c.domains:
        assert run("reconstruct", net, f"count={c.domains}", out=tmp_path) == 0
        moved, decoded = drawn["transfer"], drawn["reconstruct"][1]
        assert all(close(moved[k, 1 + k], decoded[k]) for k in range(c.domains)), "its own label changes nothing"
        assert run("sample-all-labels", net, "count=2", out=tmp_path) == 0
        assert drawn["labels"].shape[:2] == (2, c.domains)


def test_superresolution_with_the_authors_autoencoders(tmp_path: Path, drawn: Drawn) -> None:
    """Trained between two files in their layout on two data sets, and asked without naming them again."""
    net, out = "net2net/superresolution-faces", tmp_path / "out"
    layouts.theirs("net2net/ae-faces32", tmp_path / "small.ckpt", 1, size=16, down=2, width=4, latent=6)
    layouts.theirs("net2net/ae-faces32", tmp_path / "large.ckpt", 2, size=32, down=2, width=4, latent=8)
    for name in ("celebahq", "ffhq"):
        layouts.colours(tmp_path / "data" / name, 12)
    source = f"source={tmp_path / 'small.ckpt'} size=16 latent=6 {SMALL}"
    target = f"target=net2net/ae-faces32 {tmp_path / 'large.ckpt'} size=32 latent=8 {SMALL}"
    experts = [source, target, f"data={tmp_path / 'data'}"]
    sizes = [*LESS, "dim=8", "condition=6"]
    assert run("train", net, *experts, *sizes, "steps=4", "every=2", "batch=4", "accumulate=2", out=out) == 0
    assert run("superres", net, "count=3", "samples=2", out=out) == 0
    small = GaussianAutoencoder(zoo.load("net2net/ae-faces32", tmp_path / "small.ckpt", size=16, latent=6, down=2,
                                         width=4), True)  # fmt: skip
    large = GaussianAutoencoder(zoo.load("net2net/ae-faces32", tmp_path / "large.ckpt", size=32, latent=8, down=2,
                                         width=4), True)  # fmt: skip
    flow = weights.load(out / "net2net-superresolution-faces.safetensors")
    columns = drawn["samples"].unbind(1)
    images = columns[1]
    assert close(columns[0], nn.functional.interpolate(downsample(images, 16), (32, 32)))
    with torch.no_grad():
        known, latents = small.encode(downsample(images, 16)), large.encode(images)
        assert close(columns[2], large.decode(latents))
        assert run("reconstruct", net, "count=3", out=out) == 0
        v = flow(latents, known)[0]
        assert close(drawn["reconstruct"][2], large.decode(flow.inverse(v, known)[0]))
        assert run("swap", net, "count=3", "alpha=0.5", out=out) == 0
        moved = flow.inverse(v[:1], known[1:2])[0]
        assert close(drawn["swap"][1, 1], large.decode(0.5 * latents[:1] + 0.5 * moved)[0])
    assert run("diagnose", net, "samples=2", out=out) == 0
    assert drawn["diagnose rows"] == ["16 pixels", "8 pixels", "4 pixels", "2 pixels"]


def test_a_training_goes_on_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.colours(tmp_path / "data" / "ffhq", 12)
    layouts.colours(tmp_path / "data" / "portraits", 12, 5)
    words = ["train", "net2net/portraits-photography", "--random", f"data={tmp_path / 'data'}", *LESS, "steps=3",
             "every=1", "batch=4"]  # fmt: skip
    assert run(*words, out=tmp_path / "whole") == 0
    calls: list[int] = []

    def stops(self: FlowExperiment, batch: Any, batch_idx: int) -> Any:
        calls.append(batch_idx)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return self._loss(batch, "train")

    with monkeypatch.context() as patch:
        patch.setattr(FlowExperiment, "training_step", stops)
        assert run(*words, out=tmp_path / "cut") == 130
    assert run(*words, out=tmp_path / "cut") == 0
    assert "going on after step 1 of 3" in capsys.readouterr().out
    first, second = (
        weights.load(tmp_path / which / "net2net-portraits-photography.safetensors").state_dict()
        for which in ("whole", "cut")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_authors_transfer_file_has_both_networks(tmp_path: Path, drawn: Drawn) -> None:
    """Its autoencoder is the second expert if no other is named."""
    net, file, out = "net2net/anime-photography", tmp_path / "last.ckpt", tmp_path / "out"
    flow = layouts.theirs(net, tmp_path / "flow.ckpt", 1, depth=2, hidden=8)
    expert = layouts.theirs("net2net/ae-anime256", file, 2, size=128, width=4)
    torch.save({"state_dict": {**flow, **expert}}, file)
    for k, name in enumerate(("ffhq", "celebahq", "anime")):
        layouts.colours(tmp_path / "data" / name, 12, k)
    own = GaussianAutoencoder(zoo.load("net2net/ae-anime256", file, size=128, width=4), True)
    words = [f"data={tmp_path / 'data'}", *LESS, "--weights", str(file)]
    assert run("transfer", net, *words, "target=size=128 width=4", "count=3", out=out) == 0
    moved = drawn["transfer"]
    loaded = zoo.load(net, file, depth=2, hidden=8)
    with torch.no_grad():
        z = own.encode(moved[:, 0])
        labels = torch.eye(2)[[0, 0, 1]]
        other = loaded.inverse(loaded(z, labels)[0], 1 - labels)[0]
        expected = own.decode(other)
    assert close(torch.stack([moved[0, 2], moved[1, 2], moved[2, 1]]), expected, 1e-3)


def test_captions_of_coco_with_a_sentence_bert(tmp_path: Path, drawn: Drawn) -> None:
    net, out = "net2net/sbert-to-coco-ae256", tmp_path / "out"
    layouts.coco(tmp_path / "coco", ["a red bird", "a bird on the roof", "roof", "red", "the bird sits", "a roof"])
    write_bert(tmp_path / "bert", 64)
    torch.manual_seed(0)
    expert = zoo.build("net2net/ae-faces32", size=16, down=2, width=4, latent=8).eval()
    layouts.visible(expert)
    weights.save(expert, tmp_path / "ae.safetensors")
    words = [f"source={tmp_path / 'bert'}", f"target={tmp_path / 'ae.safetensors'}", *LESS, "dim=8", "condition=64"]
    assert run("train", net, *words, f"data={tmp_path / 'coco'}", "steps=2", "batch=4", out=out) == 0
    assert run("text2img", net, "prompt=a red bird; roof", "samples=2", out=out) == 0
    known = SentenceEncoder.from_folder(tmp_path / "bert")(["a red bird", "roof"])
    flow = weights.load(out / "net2net-sbert-to-coco-ae256.safetensors")
    v = torch.randn(2, 8, generator=training_noise())
    with torch.no_grad():
        z = flow.inverse(v[1].expand(2, -1), known)[0]
        assert close(drawn["prompts"][:, 1], GaussianAutoencoder(expert).decode(z))
    assert run("diagnose", net, "samples=1", out=out) == 0
    assert run("sample", net, "count=2", "samples=1", f"source={tmp_path / 'none'}", out=out) == 1


def training_noise() -> torch.Generator:
    from zoo.training.batches import seeded

    return seeded(0, *b"pictures")


def test_bigbigan_is_given_latents_that_were_made_elsewhere(
    tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    net, out = "net2net/sbert-to-bigbigan", tmp_path / "out"
    layouts.coco(tmp_path / "coco", ["a red bird", "roof", "the roof", "red"], latents=120)
    words = ["--random", f"data={tmp_path / 'coco'}", *LESS, "steps=2", "batch=2"]
    assert run("train", net, *words, out=out) == 0
    assert run("sample", net, "count=2", "samples=1", out=out) == 0
    assert drawn["samples"].shape[:2] == (2, 3) and close(drawn["samples"][:, 0], drawn["samples"][:, 1])
    (tmp_path / "coco" / "bigbigan_val2017.npy").unlink()
    assert run("train", net, *words, out=tmp_path / "other") == 1
    assert "TensorFlow Hub" in capsys.readouterr().err


class Narrow(nn.Module):
    """In the place of the captioner's ResNet-101."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = nn.Conv2d(3, 2048, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        return self.resnet(images).flatten(2).transpose(1, 2)


def test_biggan_is_captioned_by_files_in_the_authors_layouts(
    tmp_path: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.experts.captioner.Encoder", Narrow)
    net, out, numbers = "net2net/sbert-to-biggan256", tmp_path / "out", {"<pad>": 0, "a": 1, "roof": 2, "<unk>": 3,
                                                                       "<start>": 4, "<end>": 5}  # fmt: skip
    torch.manual_seed(0)
    parts = {"encoder": Narrow().state_dict(), "decoder": Decoder(len(numbers)).state_dict()}
    torch.save(parts, tmp_path / "captioner.ckpt")
    (tmp_path / "words.json").write_text(str(numbers).replace("'", '"'))
    layouts.theirs("net2net/biggan128", tmp_path / "biggan.pth", 1, width=4, classes=10)
    layouts.theirs("net2net/dequantiser", tmp_path / "vae.ckpt", 2, hidden=16)
    write_bert(tmp_path / "bert", 64)
    source = f"source={tmp_path / 'bert'} captioner={tmp_path / 'captioner.ckpt'} words={tmp_path / 'words.json'}"
    vae = shlex.quote(f"dequantiser={tmp_path / 'vae.ckpt'} hidden=16")
    target = f"target=net2net/biggan128 {tmp_path / 'biggan.pth'} width=4 classes=10 {vae}"
    sizes = [*LESS, "dim=248", "condition=64"]
    monkeypatch.setattr("zoo.net2net.data.VALIDATION", 2)
    assert run("train", net, source, target, *sizes, "steps=1", "batch=2", out=out) == 0
    assert run("sample", net, "count=2", "samples=1", out=out) == 0
    flow = weights.load(out / "net2net-sbert-to-biggan256.safetensors")
    captions = drawn["samples rows"]
    assert all(text.startswith("<start>") or text.startswith("<pad>") for text in captions)
    known = SentenceEncoder.from_folder(tmp_path / "bert")(captions)
    painter = zoo.load("net2net/biggan128", tmp_path / "biggan.pth", width=4, classes=10)
    with torch.no_grad():
        v = torch.randn(1, 248, generator=training_noise())
        z, embedding = flow.inverse(v.expand(2, -1), known)[0].split([120, 128], 1)
        assert close(drawn["samples"][:, 2], painter.get_submodule("painter")(z, embedding), 1e-3)


def test_a_first_stage_autoencoder_is_trained(tmp_path: Path, drawn: Drawn) -> None:
    name, net, out = "ae-faces32", "net2net/ae-faces32", tmp_path / "out"
    layouts.colours(tmp_path / "own", 20)
    words = [
        "train",
        net,
        "width=4",
        "latent=8",
        f"data={tmp_path / 'own'}",
        "lpips=none",
        "batch=4",
        "steps=2",
        "disc_start=1",
    ]
    assert run(*words, out=out) == 0
    assert run("reconstruct", net, f"data={tmp_path / 'own'}", "count=2", out=out) == 0
    images, restored = drawn["reconstruct"]
    expert = GaussianAutoencoder(weights.load(out / f"net2net-{name}.safetensors"), True)
    assert close(restored, expert.decode(expert.encode(images))) and not close(images, restored)
    saved = torch.load(out / "training" / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert any(key.startswith("judge.") for key in saved)


def test_the_big_autoencoders_resnet_can_be_trained() -> None:
    """Torchvision's blocks change results in place, which actnorm's backward reads."""
    net = resnet.encoder(32, out=4, layers=18).build().train()
    net(torch.rand(4, 3, 32, 32))[0].square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("offline")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setenv("FLOWKIT_ZOO_CACHE", str(tmp_path / "cache"))
    layouts.colours(tmp_path / "data" / "ffhq", 12)
    layouts.colours(tmp_path / "own", 12)
    data = f"data={tmp_path / 'data'}"
    for words, message in [
        (["train", "net2net/superresolution-faces", f"data={tmp_path / 'own'}", *LESS], "FacesXL256z128"),
        (["train", "net2net/sbert-to-coco-ae256", "--random", "target=nothing.ckpt", *LESS], "no file 'nothing.ckpt'"),
        (["train", "net2net/sbert-to-biggan256", "--random", "source=x", *LESS], "captioning_model_pt16"),
        (["train", "net2net/anime-photography", "--random", data, *LESS], "without"),
        (["train", "net2net/humans-animals", *LESS], "no published network there"),
        (["train", "net2net/layers-last", "--random", "source=deeplabv3_resnet50", *LESS], "source=random"),
        (["train", "net2net/ae-faces32"], "expected data=FOLDER"),
        (["train", "net2net/ae-faces32", f"data={tmp_path / 'own'}", "width=4"], "lpips-vgg.pth"),
        (["train", "net2net/anime-photography", "source=x", "--random", *LESS], "no weights of its own"),
        (["train", "net2net/anime-photography", "lpips=none", "--random"], "first-stage autoencoders"),
        (["train", "net2net/anime-photography", "flow_epochs=3", "--random"], "expected steps="),
        (["sample", "net2net/anime-photography"], "train it first"),
        (["sample", "net2net/anime-photography", "--random", "count=99", *LESS], "count: expected 1 to 8"),
        (["train", "net2net/portraits-photography", "--random", *LESS, "target=x y z"], "expected [NAME] [FILE]"),
        (["train", "net2net/layers-last", "--random", "source=random clases=5", *LESS], "got clases"),
        (["train", "net2net/humans-animals", "target=own.safetensors width=4", *LESS], "target: expected no options"),
        (["reconstruct", "net2net/ae-faces32", "--random", "target=x", data], "no flow between experts"),
        (["demo", "net2net/anime-photography", "--random"], "net2net/animalfaces\n"),
    ]:
        assert run(*words, out=tmp_path / "out") == 1
        assert message in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        downloads.fetch(downloads.Source("https://example.org/x", "x"))
    assert training.STEPS > 0


def test_a_training_begins_with_weights_that_are_named(tmp_path: Path) -> None:
    words = ["train", "net2net/anime-photography", *LESS, "steps=1", "batch=4"]
    assert run(*words, "--random", "--seed", "5", out=tmp_path / "first") == 0
    file = tmp_path / "first" / "net2net-anime-photography.safetensors"
    torch.manual_seed(0)
    expert = zoo.build("net2net/ae-faces32", size=16, down=2, width=4).eval()
    weights.save(expert, tmp_path / "ae.safetensors")
    for k, name in enumerate(("ffhq", "celebahq", "anime")):
        layouts.colours(tmp_path / "data" / name, 12, k)
    named = [f"target={tmp_path / 'ae.safetensors'}", f"data={tmp_path / 'data'}"]
    assert run(*words[:2], "steps=1", "batch=4", *named, "--weights", str(file), out=tmp_path / "second") == 0
    begun, ended = (weights.load(p).state_dict() for p in (file, tmp_path / "second" / file.name))
    moved = [key for key in begun if not torch.equal(begun[key], ended[key])]
    assert moved and all((begun[key] - ended[key]).abs().max() < 1e-3 for key in moved if key.endswith("weight"))


def test_experts_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights.save(zoo.build("net2net/ae-faces32", size=16, down=2, width=4, latent=8), tmp_path / "ae.safetensors")
    words = ["train", "net2net/portraits-photography", "--random", *LESS, f"target={tmp_path / 'ae.safetensors'}"]
    assert run(*words, out=tmp_path) == 1
    assert "target: expected an expert of (128,) numbers" in capsys.readouterr().err
    weights.save(zoo.build("net2net/tiny"), tmp_path / "flow.safetensors")
    assert run(*words[:-1], f"target={tmp_path / 'flow.safetensors'}", out=tmp_path) == 1
    assert "expected a network of image and noise" in capsys.readouterr().err


def test_pictures_are_read_when_they_are_needed(tmp_path: Path, opened: list[str]) -> None:
    data, net = f"data={layouts.colours(tmp_path / 'data', 40)}", "net2net/superresolution-faces"
    words = [net, "--random", data, *LESS]
    assert run("train", *words, "steps=2", "every=2", "batch=3", out=tmp_path / "out") == 0
    assert len(opened) == 1 + 2 * 3 + 4, "one to check the experts with, two steps, the validation part"
    opened.clear()
    assert run("superres", *words, "count=4", "samples=1", out=tmp_path) == 0
    assert len(opened) == 1 + 4
    opened.clear()
    autoencoder = ["net2net/ae-faces32", "--random", data, "down=2", "width=4"]
    assert run("train", *autoencoder, "steps=2", "batch=3", out=tmp_path / "ae") == 0
    assert len(opened) == 2 * 3 + 4
    opened.clear()
    assert run("reconstruct", *autoencoder, "count=4", out=tmp_path) == 0
    assert len(opened) == 4
