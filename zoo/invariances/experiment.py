"""Training as published: the flow of a cut, and the flow to concepts (section 3), for :func:`zoo.training.fit.fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo.iin import losses
from zoo.invariances.autoencoders import Generator

LEARNING_RATE = 4.5e-6
"""For each image of a batch."""
BETAS = (0.5, 0.9)


class _LatentExperiment(lightning.LightningModule):
    """A flow on latents: Adam with 4.5e-6 for each image of a batch, betas 0.5 and 0.9, no schedule.

    Arguments:
        network: the flow.
        encode: images (B, C, H, W) in [-1, 1] -> mean and deviation of the latents, (B, D) each.
        batch: images a step, those of all devices and accumulated batches together.
        experts: further fixed networks.
    """

    def __init__(self, network: BuiltGraph, encode: nn.Module, batch: int, experts: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.network, self.learning_rate = network, LEARNING_RATE * batch
        self._experts = (encode, *experts)  # a tuple: they are no part of this module's state
        self.save_hyperparameters({"learning_rate": self.learning_rate})

    def on_fit_start(self) -> None:
        for expert in self._experts:
            expert.to(self.device).eval().requires_grad_(False)

    def latents(self, images: Tensor) -> Tensor:
        """A sample of the posterior over latents (B, D), as the authors train with, not its mean."""
        mean, deviation = self._experts[0](images)
        return torch.as_tensor(mean + deviation * torch.randn_like(mean))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The training loss of a batch, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("validation", self.loss(batch), batch_size=len(next(iter(batch.values()))))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.network.parameters(), self.learning_rate, BETAS)


class InvarianceExperiment(_LatentExperiment):
    """The flow t of a cut: of latents given representations, both without gradient. Batches have "image".

    Arguments:
        represent: images (B, C, H, W) in [-1, 1] -> z (B, K) or (B, K, S, S).
        network, encode, batch: as for :class:`_LatentExperiment`.
    """

    def __init__(self, network: BuiltGraph, encode: nn.Module, represent: nn.Module, batch: int) -> None:
        super().__init__(network, encode, batch, (represent,))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            latents, z = self.latents(batch["image"]), self._experts[1](batch["image"])
        return losses.unsupervised(*self.network(latents, z)).loss


class TextureExperiment(_LatentExperiment):
    """The flow t of a cut, on images that BigGAN draws (texture bias). Batches have "z", a code, and "class".

    What the flow learns is the code and the class embedding after the dequantiser, which makes embeddings continuous;
    the image is that of the embedding itself.

    Arguments:
        generator: D, a :class:`zoo.invariances.autoencoders.Generator`.
        dequantiser: embeddings and noise (B, 128) -> outputs, the last of which is the embedding again.
        represent: images (B, 3, S, S) in [-1, 1] -> z.
        network, batch: as for :class:`_LatentExperiment`.
    """

    def __init__(
        self, network: BuiltGraph, generator: Generator, dequantiser: nn.Module, represent: nn.Module, batch: int
    ) -> None:
        super().__init__(network, generator, batch, (dequantiser, represent))
        self._generator = (generator,)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        (generator,), (_, dequantiser, represent) = self._generator, self._experts
        with torch.no_grad():
            embedding = generator.generator.embed(batch["class"])
            *_, smooth = dequantiser(embedding, torch.randn_like(embedding))
            z = represent(generator.decode(torch.cat([batch["z"], embedding], 1)))
        return losses.unsupervised(*self.network(torch.cat([batch["z"], smooth], 1), z)).loss


class ConceptExperiment(_LatentExperiment):
    """The flow e to concepts, on pairs that share one. Batches have "first", "second" (images) and "factor" (B,)."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            latents = torch.cat([self.latents(batch["first"]), self.latents(batch["second"])])
        return concept_loss(self.network, latents, batch["factor"])


def concept_loss(network: nn.Module, latents: Tensor, factor: Tensor) -> Tensor:
    """The pair loss of a flow to concepts.

    Arguments:
        latents: (2 B, D), of the first images, then of their partners.
        factor: (B,), the concept that each pair shares; see :func:`zoo.iin.losses.shared`.
    """
    *factors, logdet = network(latents)
    first, second = zip(*(values.chunk(2) for values in factors), strict=True)
    first_logdet, second_logdet = logdet.chunk(2)
    return losses.factor(first, second, first_logdet, second_logdet, factor).loss
