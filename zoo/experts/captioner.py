"""Images to captions: Show, Attend and Tell (arXiv 1502.03044) with beam search, as Net2Net captions images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.experts.classifiers import MEAN, STD
from zoo.extras import require
from zoo.published import read_checkpoint, tensors
from zoo.weights import mismatches

BEAMS, STEPS, WORDS, PIXELS = 3, 51, 50, 14
"""Beams; longest search; words of a caption that are told; side of the map that is attended to."""
UNFINISHED = [0] * 9
"""What the authors' search returns if no beam ends."""
START, END, PAD = "<start>", "<end>", "<pad>"


class Attention(nn.Module):
    """Where to look, given what has been said."""

    def __init__(self, pixels: int, state: int, hidden: int) -> None:
        super().__init__()
        self.encoder_att = nn.Linear(pixels, hidden)
        self.decoder_att = nn.Linear(state, hidden)
        self.full_att = nn.Linear(hidden, 1)

    def forward(self, pixels: Tensor, h: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """pixels (B, P, E) and the state h (B, D) to the attended pixel (B, E) and the weights (B, P).

        Arguments:
            seen: ``encoder_att(pixels)``, which does not depend on the state, if it is known already.
        """
        seen = self.encoder_att(pixels) if seen is None else seen
        scores = self.full_att(F.relu(seen + self.decoder_att(h)[:, None])).squeeze(2)
        weights = scores.softmax(1)
        return (pixels * weights[..., None]).sum(1), weights


class Decoder(nn.Module):
    """Pixels to words, one at a time; parameters are named as in the authors' file.

    Arguments:
        vocabulary: how many words there are.
        pixels, embed, state, attention: widths of a pixel, a word, the LSTM and the attention.
    """

    def __init__(
        self, vocabulary: int, pixels: int = 2048, embed: int = 512, state: int = 512, attention: int = 512
    ) -> None:
        super().__init__()
        self.attention = Attention(pixels, state, attention)
        self.embedding = nn.Embedding(vocabulary, embed)
        self.decode_step = nn.LSTMCell(embed + pixels, state)
        self.init_h, self.init_c = nn.Linear(pixels, state), nn.Linear(pixels, state)
        self.f_beta = nn.Linear(state, pixels)
        self.fc = nn.Linear(state, vocabulary)

    def begin(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The state h, c (B, D) before the first word."""
        mean = pixels.mean(1)
        return self.init_h(mean), self.init_c(mean)

    def forward(
        self, words: Tensor, pixels: Tensor, state: tuple[Tensor, Tensor], seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next word's log-probabilities (B, V), h and c, after ``words`` (B,); ``seen`` as in the attention."""
        attended, _ = self.attention(pixels, state[0], seen)
        gated = self.f_beta(state[0]).sigmoid() * attended
        h, c = self.decode_step(torch.cat([self.embedding(words), gated], 1), state)
        return self.fc(h).log_softmax(1), h, c

    @torch.no_grad()
    def search(self, pixels: Tensor, start: int, end: int, beams: int = BEAMS, legacy: bool = False) -> list[int]:
        """The most probable caption of one image's pixels (P, E), by beam search without length normalisation.

        Arguments:
            start, end: the words that begin and end a caption; both are returned.
            legacy: if no beam has ended after ``STEPS`` words, return nine zeros as the authors' code does, not the
                best of them.

        Raises:
            ValueError: for more beams than words.
        """
        if beams > self.fc.out_features:
            raise ValueError(f"captioner: expected at most {self.fc.out_features} beams, one a word, got {beams}")
        every = pixels.expand(beams, -1, -1)
        seen, state = self.attention.encoder_att(pixels).expand(beams, -1, -1), self.begin(every)
        captions = torch.full((beams, 1), start, device=pixels.device)
        scores = torch.zeros(beams, 1, device=pixels.device)
        ended: list[tuple[float, list[int]]] = []
        for step in range(STEPS):
            open_beams = len(captions)
            following, h, c = self(captions[:, -1], every[:open_beams], state, seen[:open_beams])
            totals = (scores + following)[: 1 if step == 0 else None]  # the beams are still the same at first
            best, places = totals.flatten().topk(beams - len(ended))
            parents, words = places // totals.shape[1], places % totals.shape[1]
            captions = torch.cat([captions[parents], words[:, None]], 1)
            open_ = words != end
            closed = zip(best[~open_].tolist(), captions[~open_].tolist(), strict=True)
            ended += closed
            if len(ended) == beams:
                break
            captions, scores = captions[open_], best[open_, None]
            state = (h[parents[open_]], c[parents[open_]])
        if ended:
            return max(ended, key=lambda found: found[0])[1]
        return UNFINISHED if legacy else captions[int(scores.argmax())].tolist()


class Encoder(nn.Module):
    """A ResNet-101 up to its last feature map, pooled to 14 x 14 pixels of 2048 numbers."""

    def __init__(self) -> None:
        super().__init__()
        require("torchvision")
        from torchvision.models import resnet101

        self.resnet = nn.Sequential(*list(resnet101(weights=None).children())[:-2])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, P, E)."""
        return F.adaptive_avg_pool2d(self.resnet(images), PIXELS).flatten(2).transpose(1, 2)


class Captioner(nn.Module):
    """Images to captions, in eval mode and without gradients.

    Arguments:
        word_map: the number of each word.
        legacy: as the published text-to-image flow was conditioned: captions contain ``<start>`` and ``<end>`` and end
            with a space, a search without a result gives nine ``<pad>``, and images are not normalised as the ResNet
            was trained with.
    """

    def __init__(self, word_map: Mapping[str, int], legacy: bool = False) -> None:
        super().__init__()
        absent = [word for word in (START, END, PAD) if word not in word_map]
        if absent:
            raise ValueError(f"captioner: expected a word map with {START}, {END} and {PAD}, without {absent[0]} here")
        self.encoder, self.decoder = Encoder(), Decoder(len(word_map))
        self.numbers, self.words = dict(word_map), {number: word for word, number in word_map.items()}
        self.legacy = legacy
        self.eval().requires_grad_(False)

    @classmethod
    def from_files(cls, weights: str | Path, word_map: str | Path, legacy: bool = False) -> Captioner:
        """The authors' files: a torch file of ``encoder.*`` and ``decoder.*``, flat or nested, and a JSON word map.

        Raises:
            FileNotFoundError: if one is not there.
            ValueError: for other files, with every missing, unexpected and misshapen tensor.
        """
        if not Path(word_map).is_file():
            raise FileNotFoundError(f"captioner: no file {str(word_map)!r}; it is the published captioner-words")
        checkpoint = read_checkpoint(weights)
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("decoder"), Mapping):
            parts = ("encoder", "decoder")
            checkpoint = {f"{part}.{key}": value for part in parts for key, value in checkpoint[part].items()}
        captioner = cls(json.loads(Path(word_map).read_text()), legacy)
        found = tensors(checkpoint)
        faults = mismatches(captioner.state_dict(), found)
        if faults:
            raise ValueError(f"captioner: {str(weights)!r} does not fit the model\n  " + "\n  ".join(faults))
        captioner.load_state_dict(found)
        return captioner

    def train(self, mode: bool = True) -> Captioner:
        """Stays in eval mode: experts are fixed."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[str]:
        """Captions of images (B, 3, H, W) in [-1, 1]."""
        if not self.legacy:
            mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
            images = ((images + 1) / 2 - mean) / std
        start, end = self.numbers[START], self.numbers[END]
        found = [self.decoder.search(pixels, start, end, legacy=self.legacy) for pixels in self.encoder(images)]
        return [caption(numbers, self.words, self.legacy) for numbers in found]


def caption(numbers: list[int], words: Mapping[int, str], legacy: bool = False) -> str:
    """Text of word numbers, at most 50 words; ``legacy`` keeps the marks and ends with a space."""
    told = [words[number] for number in numbers[:WORDS]]
    if legacy:
        return " ".join(told) + " "
    return " ".join(word for word in told if word not in (START, END, PAD))
