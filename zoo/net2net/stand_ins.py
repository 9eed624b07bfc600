"""Small random networks and made-up examples in the place of experts and data sets, for verbs with ``--random``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.graph import BuiltGraph
from zoo import registry
from zoo.data.pairs import CELEBA_COLUMNS
from zoo.net2net import runs
from zoo.runs.autoencoder import scaled
from zoo.training.batches import mixed, seeded
from zoo.training.draws import Data

SIZE, WIDTH, CLASSES, PIXELS = 32, 4, 10, 8
EXAMPLES = {"train": 16, "validation": 8}


def autoencoder(latent: int) -> BuiltGraph:
    """An expert between pictures of 32 x 32 and latents (D,)."""
    net = registry.build("net2net/ae-faces32", size=SIZE, latent=latent, width=WIDTH).eval()
    for parameter in net.parameters():
        if parameter.ndim > 2:  # as they are drawn, pictures differ by a ten-thousandth
            nn.init.kaiming_normal_(parameter)
    return net


def biggan(latent: int) -> BuiltGraph:
    """A generator of codes (D,), of ten classes."""
    return registry.build("net2net/tiny-biggan", latent=latent).eval()


def bigbigan(latent: int) -> BuiltGraph:
    """One of codes (D,) alone."""
    return registry.build("net2net/tiny-bigbigan-generator", latent=latent).eval()


def dequantiser() -> BuiltGraph:
    """Of class embeddings."""
    return registry.build("net2net/dequantiser", hidden=16).eval()


class Texts(nn.Module):
    """In the place of a sentence BERT: a random vector for each letter, their mean for a text."""

    letters: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("letters", torch.randn(128, dim))

    def forward(self, texts: list[str]) -> Tensor:
        """Texts to (B, K)."""
        return torch.stack([self.letters[[ord(c) % 128 for c in text]].mean(0) for text in texts])


class Captions(nn.Module):
    """In the place of a captioner: how red, green and blue it is on average."""

    def forward(self, images: Tensor) -> list[str]:
        """Pictures (B, 3, H, W) to texts."""
        amounts = ((images.mean((2, 3)) + 1) * 50).round().int().tolist()
        return [f"{red} red, {green} green, {blue} blue" for red, green, blue in amounts]


class Projected(nn.Module):
    """In the place of a layer: a random projection of the reduced picture.

    Arguments:
        shape: (K,) or (K, H, W).
    """

    project: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.pixels = shape[-1] if shape[1:] else 0
        inner = 3 if self.pixels else 3 * PIXELS * PIXELS
        self.register_buffer("project", torch.randn(shape[0], inner) / inner**0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to (B, *shape)."""
        if self.pixels:
            return torch.einsum("kc,bchw->bkhw", self.project, F.adaptive_avg_pool2d(images, self.pixels))
        return F.adaptive_avg_pool2d(images, PIXELS).flatten(1) @ self.project.T


def examples(domains: int, dim: int, size: int, seed: int) -> Data:
    """Squares of random colours (3, size, size), what is said of them, and latents (D,)."""
    parts = {part: _examples(part, domains, dim, size or SIZE, seed) for part in EXAMPLES}
    return Data(parts["train"], parts["validation"])


def _examples(part: str, domains: int, dim: int, size: int, seed: int) -> list[dict[str, Any]]:
    count, noise = EXAMPLES[part], seeded(seed, *part.encode())
    images = scaled(runs.squares(count, size, mixed(seed, *part.encode())))
    codes = torch.randn(count, dim, generator=noise)
    attributes = torch.randint(2, (count, len(CELEBA_COLUMNS)), generator=noise, dtype=torch.int8) * 2 - 1
    return [{"image": images[k], "class": k * max(domains, 1) // count, "latent": codes[k], "caption": f"square {k}",
             "attributes": attributes[k]} for k in range(count)]  # fmt: skip
