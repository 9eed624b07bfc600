"""Expert one of Network Fusion: sentences by a captioner and BERT, sketches by a ResNet-50; small ones to try out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.experts.captioner import Captioner
from zoo.experts.sentences import SentenceEncoder
from zoo.training.batches import seeded

PIXELS = 8  # of a side of what the small expert looks at


@dataclass(frozen=True)
class Captions:
    """Images are captioned, captions embedded: the condition of "bert-to-biggan256"."""

    captioner: Captioner
    sentences: SentenceEncoder

    def __call__(self, images: Tensor) -> Tensor:
        return self.sentences(self.captioner(images))


@dataclass(frozen=True)
class Features:
    """Features of a classifier after its average pool (B, 2048): the condition of "sketch-to-biggan".

    The published comparison has two ResNet-50: one trained on ImageNet, one on stylised ImageNet, which looks at shape
    and so sees in a sketch what it sees in a photograph.
    """

    network: nn.Module

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        found: Tensor = self.network(((images + 1) / 2 - mean) / std)
        return found.flatten(1)


def resnet50(file: str | Path | None = None, seed: int = 0) -> nn.Module:
    """torchvision's ResNet-50 without its classifier: of a file, or with random weights.

    Raises:
        FileNotFoundError: if there is no such file; ValueError if it does not fit.
    """
    from torchvision.models import resnet50 as build

    from zoo.published import read_checkpoint, tensors
    from zoo.weights import mismatches

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(weights=None)
    if file is not None:
        found = {key.removeprefix("module."): value for key, value in tensors(read_checkpoint(file)).items()}
        if faults := mismatches(network.state_dict(), found):
            raise ValueError(f"resnet50: {str(file)!r} does not fit\n  " + "\n  ".join(faults))
        network.load_state_dict(found)
    network.fc = nn.Identity()
    return network.eval().requires_grad_(False)


class Small:
    """A stand-in that runs in a moment: a fixed random projection of 8 x 8 pixels, or of letters.

    Arguments:
        dim: of the representation.
    """

    def __init__(self, dim: int, seed: int = 0) -> None:
        self.pixels = torch.randn(3 * PIXELS * PIXELS, dim, generator=seeded(seed, 1)) / (PIXELS * 3**0.5)
        self.letters = torch.randn(128, dim, generator=seeded(seed, 2))

    def __call__(self, images: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(images, PIXELS)
        return small.flatten(1) @ self.pixels

    def read(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, dim), the mean over letters."""
        return torch.stack([self.letters[[ord(c) % 128 for c in text]].mean(0) for text in texts])
