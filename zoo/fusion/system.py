"""Network Fusion at work: what a flow and a BigGAN make of descriptions, and samples of both to be described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo.blocks.biggan import EMBEDDING
from zoo.data import zcodes
from zoo.experts.biggan import BigGAN
from zoo.net2net.experiment import latents
from zoo.net2net.translate import backward

ROWS = 16  # images that are painted at a time


@dataclass(frozen=True)
class Fusion:
    """A flow into a BigGAN, which is fixed.

    Arguments:
        flow: x (Z + 128,), latent and class embedding, <-> v, given a condition (C,).
    """

    generator: BigGAN
    flow: BuiltGraph

    @property
    def dim(self) -> int:
        """C, of the condition."""
        return condition_of(self.flow)

    @torch.no_grad()
    def paint(self, v: Tensor, condition: Tensor) -> Tensor:
        """v (B, Z + 128) and conditions (B, C) -> images: x is split in latent and embedding, and painted as it is."""
        z, embedding = latents(backward(self.flow, v, condition), (latent_of(self.generator), EMBEDDING))
        pairs = zip(z.split(ROWS), embedding.split(ROWS), strict=True)
        return torch.cat([self.generator.generate_from_embedding(*rows) for rows in pairs])

    def samples(self, condition: Tensor, count: int, noise: torch.Generator) -> Tensor:
        """``count`` images (B, count, 3, S, S) for each condition (B, C); the same v for all conditions."""
        v = torch.randn(count, numbers(self.generator), generator=noise)
        images = self.paint(v.repeat(len(condition), 1), condition.repeat_interleave(count, 0))
        return images.unflatten(0, (len(condition), count))


def condition_of(flow: BuiltGraph) -> int:
    """C of a flow: 768 for the paper's BERT."""
    return int(flow.graph.input_shapes["condition"][0] or 0)


def numbers(generator: BigGAN) -> int:
    """Of the flow into a generator: its latent's and its class embedding's."""
    return latent_of(generator) + EMBEDDING


def check(name: str, flow: BuiltGraph, generator: BigGAN) -> None:
    """ValueError if a flow is not of as many numbers as its BigGAN takes."""
    found, wanted = flow.graph.input_shapes["x"][0], numbers(generator)
    if found != wanted:
        raise ValueError(f"{name}: the flow has {found} numbers, latent and embedding of the BigGAN {wanted}")


def latent_of(generator: BigGAN) -> int:
    """Z of a generator, 140 at 256 pixels."""
    return int(generator.net.graph.input_shapes["latent"][0] or 0)


def held_out(generator: BigGAN, count: int, part: Literal["validation", "test"] = "test") -> tuple[Tensor, Tensor]:
    """Samples of the authors' test set for these classes: codes (count, Z) and classes (count,).

    Arguments:
        part: "validation" has the first of them, by which weights are chosen; "test" the last, which are reported.

    Raises:
        ValueError: for more than half of them.
    """
    if not 1 <= count <= zcodes.TEST // 2:
        raise ValueError(f"count: expected 1 to {zcodes.TEST // 2}, half of the test set, got {count}")
    z, chosen = zcodes.held_out_of(generator.classes, latent_of(generator))
    rows = slice(count) if part == "validation" else slice(zcodes.TEST - count, zcodes.TEST)
    return torch.from_numpy(z[rows]), torch.from_numpy(chosen[rows])


@torch.no_grad()
def painted(generator: BigGAN, z: Tensor, classes: Tensor) -> Tensor:
    """Codes (B, Z) and classes (B,) -> images (B, 3, S, S)."""
    pairs = zip(z.split(ROWS), classes.split(ROWS), strict=True)
    return torch.cat([generator.generate(*rows) for rows in pairs])
