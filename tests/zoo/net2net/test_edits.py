"""Attributes turned over, films in another domain, layers of a segmentation network, from the command line."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.zoo.net2net import layouts
from tests.zoo.net2net.layouts import Drawn, close, run
from zoo import weights
from zoo.data import video
from zoo.data.pairs import CELEBA_COLUMNS
from zoo.net2net import opening
from zoo.net2net.configurations import CONFIGURATIONS
from zoo.net2net.memory import remembered
from zoo.net2net.system import system
from zoo.net2net.words import Given
from zoo.training.fit import fingerprint
from zoo.verbs import Context

LESS = ["depth=2", "hidden=8"]


def test_an_attribute_is_turned_over(tmp_path: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    net, out = "net2net/attributes-celeba", tmp_path / "out"
    layouts.celeba(tmp_path)
    monkeypatch.setattr("torchvision.datasets.CelebA._check_integrity", lambda self: True)
    words = ["train", net, "--random", f"data={tmp_path}", *LESS, "steps=2", "batch=4"]
    assert run(*words, out=out) == 0
    assert run("flip", net, "count=2", "attributes=Male,Smiling", out=out) == 0
    columns = drawn["flip"].unbind(1)
    context = Context(net, out, Console(quiet=True))
    opened = opening.opened(context, Given(), 2)
    assert set(opened.known.unique().tolist()) == {0.0, 1.0}
    changed = opened.known.clone()
    changed[:, CELEBA_COLUMNS.index("Smiling")] = 1 - changed[:, CELEBA_COLUMNS.index("Smiling")]
    with torch.no_grad():
        v = opened.flow(opened.latents, opened.known)[0]
        assert close(columns[3], opened.decode(opened.flow.inverse(v, changed)[0]))
        assert close(columns[1], opened.decode(opened.latents)) and not close(columns[1], columns[3])
    assert run("flip", net, "count=2", "attributes=Wings", out=out) == 1
    assert run("flip", "net2net/anime-photography", "--random", *LESS, out=out) == 1


def test_a_film_is_shown_in_another_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, out = "net2net/portraits-photography", tmp_path / "out"
    layouts.colours(tmp_path / "frames", 3)
    assert run("train", net, "--random", *LESS, "steps=2", "batch=4", out=out) == 0
    opened = opening.opened(Context(net, out, Console(quiet=True)), Given(), 2)
    written: dict[str, Tensor] = {}
    monkeypatch.setattr("zoo.net2net.views.video.write", lambda film, path: written.update({path.name: film}))
    assert run("video", net, "steps=4", "film=alpha.gif", out=out) == 0
    with torch.no_grad():
        blended = opened.decode(opened.latents[:1])
    first, last = written["alpha.gif"][[0, 3], :, :, opened.size :]
    assert close(first[None], blended) and not close(first, last)
    assert run("video", net, f"frames={tmp_path / 'frames'}", "film=film.gif", out=out) == 0
    frames = video.read(tmp_path / "frames", opened.size)
    with torch.no_grad():
        assert opened.encode is not None
        v = opened.flow(opened.encode(frames), torch.eye(2)[:1].expand(3, -1))[0]
        expected = opened.decode(opened.flow.inverse(v, torch.eye(2)[1:].expand(3, -1))[0])
    assert close(written["film.gif"], torch.cat([frames, expected], 3))
    assert run("video", net, "label=2", "steps=2", out=out) == 1
    assert run("video", net, "steps=0", out=out) == 1


def test_layers_of_a_segmentation_network_are_diagnosed(tmp_path: Path, drawn: Drawn) -> None:
    """Untrained, of torchvision; the flows of two layers were trained, that of the third was not."""
    layouts.colours(tmp_path / "data", 12)
    cuts = {"early": ("backbone.0", 16), "last": ("classifier", 5)}
    for name, (cut, channels) in cuts.items():
        source = f"source=lraspp_mobilenet_v3_large random classes=5 cut={cut}"
        words = ["--random", source, f"data={tmp_path / 'data'}", f"channels={channels}", "size=8", "down=2", *LESS]
        assert run("train", f"net2net/layers-{name}", *words, "steps=2", "batch=4", "--seed", "5", out=tmp_path) == 0
    for name in cuts:
        trained = json.loads((tmp_path / "training" / f"layers-{name}" / "fit.json").read_text())["source"]
        assert trained == _source(f"layers-{name}", tmp_path), "the untrained network is the same with another seed"
    assert run("diagnose", "net2net/layers-last", "samples=2", out=tmp_path) == 0
    assert drawn["diagnose rows"] == ["layers-early", "layers-last"]
    early, last = drawn["diagnose"]
    assert close(early[0], last[0])
    opened = opening.opened(Context("net2net/layers-last", tmp_path, Console(quiet=True)), Given(), 1)
    assert opened.known.shape == (1, 5, 8, 8) and close(last[1][None], opened.picture(opened.noise(1)[0], opened.known))
    assert not close(early[1], last[1])
    layouts.colours(tmp_path / "others", 12, seed=1)
    elsewhere = [
        "--random",
        "source=lraspp_mobilenet_v3_large random classes=5 cut=backbone.0",
        "channels=16",
        "size=8",
    ]
    data = [f"data={tmp_path / 'others'}", "down=2", *LESS, "steps=2", "batch=4", "--fresh"]
    assert run("train", "net2net/layers-early", *elsewhere, *data, out=tmp_path) == 0
    assert run("diagnose", "net2net/layers-last", "samples=1", out=tmp_path) == 1, "pictures of two data sets"
    assert run("diagnose", "net2net/layers-last", "samples=1", data[0], out=tmp_path) == 0


def _source(name: str, folder: Path) -> str:
    """The fingerprint of expert one as a verb opens it."""
    own = Context(f"net2net/{name}", folder, Console(quiet=True))
    context, given = remembered(own, asdict(Given()))
    flow = weights.load(context.file(context.name))
    return fingerprint(
        system(context, CONFIGURATIONS[name], flow, Given(**given), 0.0, mean=True).experiment.experts.source
    )
