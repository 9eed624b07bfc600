"""Files of experts as a user has them: random weights, small, in the layouts in which the real ones are published."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo import published, registry, weights
from zoo.experts import captioner

WORDS = ["<pad>", "a", "dog", "red", "car", "<unk>", "<start>", "<end>"]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[1:5], "<", ">", "start", "end", "pad"]
WIDTH = 64  # of the BERT
FLOW = {"latent": 120, "condition": WIDTH, "embedding": 8, "depth": 2, "hidden": 16, "embedder_hidden": 12}
"""Options of the flow; the latent is that of a BigGAN of 128 pixels."""
SMALL = {"size": 128, "latent": 120, "width": 8}
"""Of the BigGAN, with all 1,000 classes."""


class Narrow(nn.Module):
    """In place of the captioner's ResNet-101, whose 170 MB would have to be written and read in every test."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = nn.Sequential(nn.Conv2d(3, 2048, 32, 32))

    def forward(self, images: Tensor) -> Tensor:
        return self.resnet(images).flatten(2).transpose(1, 2)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths by the name of the verbs' option."""
    folder = tmp_path_factory.mktemp("experts")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return {
            "captioner": _captioner(folder / "captioning_model.ckpt"),
            "words": _words(folder / "words.json"),
            "bert": _bert(folder / "bert"),
            **_generator(folder),
            "dequantiser": _dequantiser(folder / "dequantiser.safetensors"),
        }


def _captioner(path: Path) -> Path:
    """``encoder.*`` and ``decoder.*`` under ``state_dict``, as in the checkpoint of the authors' package."""
    decoder = captioner.Decoder(len(WORDS))
    with torch.no_grad():
        decoder.fc.weight.mul_(3)  # captions differ from image to image ...
        decoder.fc.bias[WORDS.index("<end>")] += 2.5  # ... and end, as those of a trained decoder do
    parts = {"encoder": Narrow().state_dict(), "decoder": decoder.state_dict()}
    flat = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
    torch.save({"state_dict": flat, "epoch": 16}, path)
    return path


def _words(path: Path) -> Path:
    path.write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    return path


def _bert(folder: Path) -> Path:
    """A folder of transformers: config, weights and a real tokenizer with a vocabulary of its own."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    config = BertConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=140,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def _generator(folder: Path) -> dict[str, Path]:
    """A small BigGAN in its authors' layout, and in ours."""
    theirs, ours = folder / "biggan.pth", folder / "biggan.safetensors"
    model = registry.build("fusion/biggan256", **SMALL)
    options = {**registry.entry("fusion/biggan256").defaults, **SMALL}
    torch.save(published.export("fusion/biggan256", model, options), theirs)
    weights.save(model, ours)
    return {"theirs": theirs, "biggan": ours}


def _dequantiser(path: Path) -> Path:
    weights.save(registry.build("fusion/dequantiser", hidden=16), path)
    return path
