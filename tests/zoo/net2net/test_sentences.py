"""Sentence encoders: a batch is as good as one by one, in every layout that is published."""

import json
from pathlib import Path

import pytest
import torch

from zoo.experts.sentences import SentenceEncoder, bundled, mean_pooled

pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "bird", "on", "the", "roof", "sits"]
SENTENCES = ["a bird", "a red bird sits on the roof", "roof", "the red red red bird on a roof on a roof"]


def write_bert(folder: Path, width: int) -> Path:
    """A BERT of random weights and the published width as transformers writes it, with one layer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(width)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=width // 64,
        intermediate_size=32,
        max_position_embeddings=140,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def write_sbert(folder: Path, width: int, mode: str = "mean", normalize: bool = False) -> Path:
    """The layout of sentence-transformers from its first years: a folder a module."""
    write_bert(folder / "0_BERT", width)
    (folder / "0_BERT" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    modes = {f"pooling_mode_{name}_tokens": name == mode for name in ("cls", "mean", "max")}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": width, **modes}))
    names = [("0_BERT", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalize
    parts = [{"idx": 0, "name": "0", "path": p, "type": f"sentence_transformers.models.{t}"} for p, t in names]
    (folder / "modules.json").write_text(json.dumps(parts))
    return folder


@pytest.mark.parametrize("width", [768, 1024])
def test_a_batch_equals_one_by_one(width: int, tmp_path: Path) -> None:
    encoder = SentenceEncoder.from_folder(write_bert(tmp_path / "bert", width))
    together = encoder(SENTENCES)
    alone = torch.cat([encoder([sentence]) for sentence in SENTENCES])
    assert together.shape == (4, width) == (4, encoder.dim)
    assert (together - alone).abs().max() <= 1e-5
    assert (together[0] - together[2]).abs().max() > 0.1, "sentences differ"
    torch.testing.assert_close(encoder(SENTENCES, batch=3), together, atol=1e-5, rtol=0)


def test_the_folder_of_sentence_transformers_is_the_same_model(tmp_path: Path) -> None:
    plain = SentenceEncoder.from_folder(write_bert(tmp_path / "bert", 64))
    layered = SentenceEncoder.from_folder(write_sbert(tmp_path / "sbert", 64))
    scaled = SentenceEncoder.from_folder(write_sbert(tmp_path / "scaled", 64, normalize=True))
    torch.testing.assert_close(layered(SENTENCES[:1]), plain(SENTENCES[:1]), atol=1e-5, rtol=0)
    assert (plain.max_length, layered.max_length) == (128, 6)
    torch.testing.assert_close(scaled(SENTENCES).norm(dim=1), torch.ones(4))
    layered.train()
    assert not layered.bert.training and not any(p.requires_grad for p in layered.parameters())


def test_the_mean_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, -99.0]]])
    assert mean_pooled(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        SentenceEncoder.from_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="config.json is missing"):
        SentenceEncoder.from_folder(tmp_path)
    with pytest.raises(ValueError, match="expected pooling by the mean over tokens, got pooling_mode_cls_tokens"):
        SentenceEncoder.from_folder(write_sbert(tmp_path / "cls", 64, "cls"))
    encoder = SentenceEncoder.from_folder(write_bert(tmp_path / "bert", 64))
    with pytest.raises(ValueError, match="a list of at least one sentence"):
        encoder([])


def test_the_bundled_model_knows_what_is_alike() -> None:
    try:
        folder = bundled()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    encoder = SentenceEncoder.from_folder(folder)
    found = encoder(["a cat sits on the sofa", "a kitten is on a couch", "the stock market fell"])
    assert found.shape == (3, 384) and encoder.max_length == 256
    assert found[0] @ found[1] > 0.6 > 0.3 > found[0] @ found[2]


def test_weights_that_are_missing_or_misshapen_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = write_bert(tmp_path / "bert", 64) / "model.safetensors"
    whole = load_file(file)
    key = "encoder.layer.0.output.dense.weight"
    save_file({k: v for k, v in whole.items() if not k.startswith("pooler.")}, file, {"format": "pt"})
    SentenceEncoder.from_folder(tmp_path / "bert")
    for changed, fault in (({}, "missing"), ({key: whole[key][:5].clone()}, "mismatched")):
        save_file({k: v for k, v in whole.items() if k != key} | changed, file, {"format": "pt"})
        with pytest.raises(ValueError, match=f"do not fit\n  {fault}.*{key}"):
            SentenceEncoder.from_folder(tmp_path / "bert")


def test_a_folder_without_pooling_is_refused(tmp_path: Path) -> None:
    folder = write_sbert(tmp_path / "sbert", 64)
    parts = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(parts[:1]))
    with pytest.raises(ValueError, match="expected a module 'Pooling' in .*got Transformer"):
        SentenceEncoder.from_folder(folder)
