"""The paper's trainings as Lightning modules (iin, section 3): two first stages, the flow whole and in factors."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.graph import BuiltGraph
from zoo.iin import losses
from zoo.iin.first_stages import FirstStage, clamped
from zoo.iin.optimisation import adam, schedule
from zoo.iin.systems import System

Batch = dict[str, Any]


class Training(lightning.LightningModule):
    """A network, the paper's Adam, and a loss that the subclass defines; batches as the data sets' samples.

    Arguments:
        network: what is trained.
        rate, decay_start, steps: of the learning rate, see :func:`zoo.iin.optimisation.decay`.
    """

    def __init__(self, network: BuiltGraph, rate: float, decay_start: int, steps: int) -> None:
        super().__init__()
        self.network = network
        self.save_hyperparameters("rate", "decay_start", "steps")
        self.rate, self.decay_start, self.steps = rate, decay_start, steps

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("validation", self.loss(batch), batch_size=len(next(iter(batch.values()))), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = adam(self.parameters(), self.rate)
        rates = schedule(optimizer, self.decay_start, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}


class Classification(Training):
    """The classifier: binary cross entropy of every class on its own (iin 3.4)."""

    def loss(self, batch: Batch) -> Tensor:
        logits = self.network(batch["image"])[1]
        return F.binary_cross_entropy_with_logits(logits, F.one_hot(batch["class"], logits.shape[1]).to(logits))


class Evidence(Training):
    """An autoencoder without discriminator and perceptual loss: what is left of iin 3.3 for small images."""

    def __init__(self, network: BuiltGraph, rate: float, decay_start: int, steps: int) -> None:
        super().__init__(network, rate, decay_start, steps)
        self.logvar = torch.nn.Parameter(torch.zeros(()))

    def loss(self, batch: Batch) -> Tensor:
        images = batch["image"]
        encoder, decoder = (self.network.get_submodule(part) for part in ("encoder", "decoder"))
        mean, logvar = encoder(images)
        logvar = clamped(logvar)
        reconstruction = decoder(mean + (0.5 * logvar).exp() * torch.randn_like(mean))
        apart = (images - reconstruction).abs() / self.logvar.exp() + self.logvar
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)
        return (apart.sum() + divergence.sum()) / len(images)


class Interpretation(Training):
    """A flow on latents of a frozen first stage, drawn from its posterior in training and evaluation alike.

    Arguments:
        first: the first stage.
        network, rate, decay_start, steps: as in :class:`Training`.
    """

    def __init__(self, network: BuiltGraph, first: FirstStage, rate: float, decay_start: int, steps: int) -> None:
        super().__init__(network, rate, decay_start, steps)
        self.first = (first,)  # a tuple, so that it is no part of this module's state

    def setup(self, stage: str) -> None:
        self.first[0].to(self.device)

    def on_fit_start(self) -> None:
        self.first[0].to(self.device)

    def latents(self, images: Tensor) -> Tensor:
        """Images (B, ch, H, W) -> latents (B, C)."""
        return self.first[0].sample(images)

    def loss(self, batch: Batch) -> Tensor:
        return losses.unsupervised(*self.network(self.latents(batch["image"]))).loss


class Disentanglement(Interpretation):
    """The same for pairs that share a factor."""

    def loss(self, batch: Batch) -> Tensor:
        images = [batch[side]["image"] for side in ("example1", "example2")]
        *factors, logdet = self.network(self.latents(torch.cat(images)))
        halves = [z.chunk(2) for z in factors]
        first, second = ([half[side] for half in halves] for side in (0, 1))
        logdets = logdet.chunk(2)
        return losses.factor(first, second, logdets[0], logdets[1], batch["factor"]).loss


def experiment(system: System, network: BuiltGraph, first: FirstStage | None, steps: int) -> Training:
    """The module that trains a network of the table, in ``steps`` steps; the decay moves with them."""
    start = system.decay_start * steps // system.steps
    if system.kind == "classifier":
        return Classification(network, system.rate, start, steps)
    if system.kind == "autoencoder":
        return Evidence(network, system.rate, start, steps)
    assert first is not None
    kind = Disentanglement if system.kind == "factors" else Interpretation
    return kind(network, first, system.rate, start, steps)
