"""The whole of Network Fusion: a BigGAN's samples are described, and the flow learns the way back from descriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo.blocks.biggan import EMBEDDING
from zoo.net2net.losses import likelihood, optimizer
from zoo.training.batches import mixed, seeded

Describe = Callable[[Tensor], Tensor]
"""Images (B, 3, S, S) in [-1, 1] -> representations (B, C): captioner and BERT, or a ResNet-50 on sketches."""
DIM = 128  # of the dequantiser's noise


@dataclass(frozen=True)
class Fusion:
    """BigGAN, dequantiser and flow; all but the flow are fixed.

    Arguments:
        flow: x (Z + 128,) <-> v, given a condition.
        describe: expert one on images.
    """

    generator: BuiltGraph
    dequantiser: BuiltGraph
    flow: BuiltGraph
    describe: Describe

    @property
    def latent(self) -> int:
        """Z, 140 at 256 pixels."""
        return int(self.generator.graph.input_shapes["latent"][0] or 0)

    @property
    def classes(self) -> int:
        """K, 1,000 in the published network."""
        return int(self.generator.graph.input_shapes["classes"][0] or 0)

    @torch.no_grad()
    def batch(self, z: Tensor, chosen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One batch of the authors' data: flow target x (B, Z + 128), condition (B, C), images.

        The image is painted from the clean embedding, the target has the dequantised one.

        Arguments:
            z: (B, Z).
            chosen: (B,) int64, classes.
            noise: (B, 128), of the dequantiser's posterior.
        """
        one_hot = torch.nn.functional.one_hot(chosen, self.classes).to(z.dtype)
        embedding = self.generator.embed(one_hot)  # type: ignore[operator]
        images = self.generator.painter(z, embedding)  # type: ignore[operator]
        blurred = self.dequantiser(embedding, noise)[-1]
        return torch.cat([z, blurred], 1), self.describe(images), images

    @torch.no_grad()
    def paint(self, v: Tensor, condition: Tensor) -> Tensor:
        """v (B, Z + 128) and conditions (B, C) -> images: x is split in latent and embedding, and painted as it is."""
        z, embedding = self.flow.inverse(v, condition)[0].split([self.latent, EMBEDDING], 1)
        images: Tensor = self.generator.painter(z, embedding)  # type: ignore[operator]
        return images


def draw(fusion: Fusion, count: int, seed: int, classes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments of :meth:`Fusion.batch`: z of N(0, 1) cut off at 2.5, classes, noise."""
    noise = seeded(seed)
    z = torch.empty(count, fusion.latent)
    torch.nn.init.trunc_normal_(z, a=-2.5, b=2.5, generator=noise)
    chosen = torch.tensor([*classes])[torch.randint(len(classes), (count,), generator=noise)]
    return z, chosen, torch.randn(count, DIM, generator=noise)


def train(
    fusion: Fusion, *, steps: int, batch: int, learning_rate: float, classes: Sequence[int], seed: int
) -> list[float]:
    """Trains the flow on fresh samples of the BigGAN, one optimiser step a batch; returns the losses."""
    fusion.flow.train()
    adam, losses = optimizer(fusion.flow.parameters(), learning_rate), []
    for step in range(steps):
        target, condition, _ = fusion.batch(*draw(fusion, batch, mixed(seed, step), classes))
        z, logdet = fusion.flow(target, condition)
        loss = likelihood(z, logdet)["total_loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    fusion.flow.eval()
    return losses
