"""The captioner: text rules, what happens if no beam ends, the authors' file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.experts.captioner import STEPS, UNFINISHED, Captioner, Decoder, Encoder, caption

FIXTURE = Path(__file__).parents[2] / "parity" / "fixtures" / "net2net_captioner_beam.npz"
WORD_MAP = {"<pad>": 0, "a": 1, "cat": 2, "<unk>": 3, "<start>": 4, "<end>": 5}


def test_texts_are_those_of_the_authors_code() -> None:
    with np.load(FIXTURE) as file:
        config = json.loads(str(file["config"]))
        words = {number: word for word, number in config["word_map"].items()}
        texts = [caption(file[f"out/seq{i}"].tolist(), words, legacy=True) for i in range(len(config["captions"]))]
    assert texts == config["captions"]


def test_marks_belong_to_legacy_captions_only() -> None:
    words = {number: word for word, number in WORD_MAP.items()}
    assert caption([4, 1, 2, 5], words, legacy=True) == "<start> a cat <end> "
    assert caption([4, 1, 2, 5], words) == "a cat"
    assert caption(UNFINISHED, words, legacy=True) == "<pad> " * 9
    assert len(caption([4] + [1] * 70, words, legacy=True).split()) == 50


def test_a_search_without_an_end_gives_nine_pads_in_legacy_mode_and_the_best_beam_otherwise() -> None:
    torch.manual_seed(0)
    decoder = Decoder(6, 7, 3, 4, 5)
    with torch.no_grad():
        decoder.fc.bias[5] = -100.0
    pixels = torch.randn(9, 7)
    assert decoder.search(pixels, 4, 5, legacy=True) == [0] * 9
    best = decoder.search(pixels, 4, 5)
    assert best[0] == 4 and len(best) == STEPS + 1 and 5 not in best


def test_more_beams_than_words_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 6 beams"):
        Decoder(6, 7, 3, 4, 5).search(torch.randn(9, 7), 4, 5, beams=7)


def test_the_encoder_has_the_published_keys() -> None:
    with torch.device("meta"):
        encoder = Encoder().eval()
        keys, pixels = encoder.state_dict().keys(), encoder(torch.empty(1, 3, 64, 64))
    assert {
        "resnet.0.weight",
        "resnet.1.running_var",
        "resnet.4.0.downsample.0.weight",
        "resnet.7.2.conv3.weight",
    } < keys
    assert not any(key.startswith(("resnet.8", "resnet.9")) for key in keys), "no pool, no classifier"
    assert pixels.shape == (1, 196, 2048)


class Narrow(nn.Module):
    """An encoder that is built quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = nn.Sequential(nn.Conv2d(3, 2048, 8, 8))

    def forward(self, images: Tensor) -> Tensor:
        return self.resnet(images).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("nested", [True, False])
def test_the_authors_file_loads(tmp_path: Path, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.experts.captioner.Encoder", Narrow)
    torch.manual_seed(0)
    encoder, decoder = Narrow().state_dict(), Decoder(len(WORD_MAP)).state_dict()
    state = {"encoder": encoder, "decoder": decoder}
    flat = {f"{part}.{key}": value for part, tensors in state.items() for key, value in tensors.items()}
    torch.save(state if nested else {"state_dict": flat}, tmp_path / "captioner.ckpt")
    (tmp_path / "words.json").write_text(json.dumps(WORD_MAP))
    captioner = Captioner.from_files(tmp_path / "captioner.ckpt", tmp_path / "words.json", legacy=True)
    text = captioner(torch.rand(1, 3, 64, 64) * 2 - 1)[0]
    assert text.endswith(" ") and set(text.split()) <= WORD_MAP.keys()
    with pytest.raises(FileNotFoundError, match="captioner-words"):
        Captioner.from_files(tmp_path / "captioner.ckpt", tmp_path / "none.json")
    flat.pop("decoder.fc.bias")
    torch.save(flat, tmp_path / "broken.ckpt")
    with pytest.raises(ValueError, match="missing: decoder.fc.bias"):
        Captioner.from_files(tmp_path / "broken.ckpt", tmp_path / "words.json")
