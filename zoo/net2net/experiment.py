"""Net2Net's trainings of flows: one Lightning module a kind, with the paper's optimisation (sheet: section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo.net2net import losses

BASE_RATE = 4.5e-6


@dataclass(frozen=True)
class Run:
    """A training as the authors configured it.

    Arguments:
        batch: of one device.
        data: which.
        disc_start: batches without the discriminator; 0 for flows, which have none.
        kl_weight, disc_weight: of an autoencoder's loss.
    """

    batch: int
    data: str
    disc_start: int = 0
    kl_weight: float = 0.0
    disc_weight: float = 0.0

    def learning_rate(self, devices: int = 1, accumulate: int = 1) -> float:
        """4.5e-6 times the samples of a step."""
        return BASE_RATE * self.batch * devices * accumulate


def _autoencoder(batch: int, data: str, disc_start: int) -> Run:
    return Run(batch, data, disc_start, kl_weight=1e-6, disc_weight=0.5)


RUNS: dict[str, Run] = {
    "ae-faces32": _autoencoder(12, "CelebA-HQ, FFHQ", 10_001),
    "ae-faces256": _autoencoder(3, "CelebA-HQ, FFHQ", 75_001),
    "ae-celeba-celebahq-ffhq256": _autoencoder(3, "CelebA, CelebA-HQ, FFHQ", 75_001),
    "ae-anime256": _autoencoder(3, "FFHQ, CelebA-HQ, anime", 75_001),
    "ae-portraits256": _autoencoder(3, "FFHQ, portraits", 75_001),
    "ae-coco256": _autoencoder(3, "COCO 2017", 250_001),
    "superresolution-faces": Run(6, "CelebA-HQ, FFHQ"),
    "celeba-celebahq-ffhq": Run(15, "CelebA, CelebA-HQ, FFHQ"),
    "anime-photography": Run(15, "FFHQ, CelebA-HQ, anime"),
    "portraits-photography": Run(15, "FFHQ, portraits"),
    "sbert-to-coco-ae256": Run(16, "COCO 2017 with captions"),
    "sbert-to-bigbigan": Run(16, "COCO 2017 with captions"),
    "sbert-to-biggan256": Run(16, "samples of BigGAN of the classes that COCO has"),
}
"""By the network's name. The length of the trainings is not known; the paper: at most a day on one GPU for a flow."""

Batch = Mapping[str, Any]


class FlowExperiment(lightning.LightningModule):
    """Maximum likelihood of a flow between two fixed experts; a subclass tells a batch's latents and conditions.

    Logs, for training and validation each, total_loss, reference_nll_loss, nlogdet_loss and nll_loss, and total_loss of
    the validation part as "validation" too, by which the best checkpoint is kept.

    Arguments:
        flow: the network, the only one that is trained and saved.
        learning_rate: of Adam, see :meth:`Run.learning_rate`.
    """

    experts: Experts

    def __init__(self, flow: BuiltGraph, learning_rate: float) -> None:
        super().__init__()
        self.flow, self.learning_rate = flow, learning_rate
        self.save_hyperparameters("learning_rate")

    def encodings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The second expert's latents (B, D) and the first's representations; called without gradients."""
        raise NotImplementedError(f"{type(self).__name__} defines no encodings")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._loss(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._loss(batch, "validation")

    def _loss(self, batch: Batch, split: str) -> Tensor:
        with torch.no_grad():
            x, condition = self.encodings(batch)
        terms = losses.likelihood(*self.flow(x, condition))
        self.log_dict({f"{split}/{key}": value.detach() for key, value in terms.items()}, batch_size=len(x))
        if split == "validation":
            self.log("validation", terms["total_loss"], batch_size=len(x))
        return terms["total_loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return losses.optimizer(self.flow.parameters(), self.learning_rate)


class Net2NetFlow(FlowExperiment):
    """A flow to the latents of a second expert that has an encoder.

    Arguments:
        target: the second expert, with ``encode(batch[target_key])`` (B, D); see
            :class:`zoo.net2net.experts.Autoencoder`. As published it returns samples of its posterior; set it up to
            return means for the deterministic variant.
        source: the first expert, a module that takes ``batch[source_key]`` to the condition; see
            :mod:`zoo.net2net.experts`, :mod:`zoo.experts.labels` and :mod:`zoo.experts.sentences`.
    """

    def __init__(
        self,
        flow: BuiltGraph,
        target: nn.Module,
        source: nn.Module,
        learning_rate: float,
        target_key: str = "image",
        source_key: str = "image",
    ) -> None:
        super().__init__(flow, learning_rate)
        self.experts = Experts(target, source)
        self.target_key, self.source_key = target_key, source_key

    def encodings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        for key in (self.target_key, self.source_key):
            if key not in batch:
                raise ValueError(f"batch: expected {key!r}, got {', '.join(batch)}")
        return self.experts.target.encode(batch[self.target_key]), self.experts.source(batch[self.source_key])


class Generator(Protocol):
    """A class-conditional generator, such as :class:`zoo.experts.biggan.BigGAN`."""

    def embed(self, labels: Tensor) -> Tensor:
        """Labels (B,) to class embeddings (B, E)."""

    def generate_from_embedding(self, z: Tensor, embedding: Tensor) -> Tensor:
        """Noise (B, D) and class embeddings (B, E) to images (B, 3, H, W) in [-1, 1]."""


class Net2BigGANFlow(FlowExperiment):
    """A flow from sentences to the latents of a generator, which has no encoder: its samples are captioned.

    A batch has "z" (B, D) and "class" (B,). The class embedding e takes part as one sample of the dequantiser, after
    the noise: x = [z, e~] (B, D + E). The image is made from e itself.

    Arguments:
        generator: see :class:`Generator`.
        captioner: images to texts.
        sentences: texts to vectors (B, K).
        dequantizer: e (B, E) to e~ (B, E), with noise of its own; see :class:`zoo.net2net.experts.Dequantiser`.
    """

    def __init__(
        self,
        flow: BuiltGraph,
        generator: nn.Module,
        captioner: nn.Module,
        sentences: nn.Module,
        dequantizer: nn.Module,
        learning_rate: float,
    ) -> None:
        super().__init__(flow, learning_rate)
        self.experts = Experts(generator, nn.Sequential(captioner, sentences), dequantizer)

    def encodings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        generator = self.experts.target
        embedding = generator.embed(batch["class"])
        condition = self.experts.source(generator.generate_from_embedding(batch["z"], embedding))
        return torch.cat([batch["z"], self.experts.dequantizer(embedding)], 1), condition


class Experts(nn.Module):
    """The fixed networks beside a flow: always in eval mode, without gradients; in checkpoints, as the authors' are."""

    def __init__(self, target: nn.Module, source: nn.Module, dequantizer: nn.Module | None = None) -> None:
        super().__init__()
        self.target: Any = target
        self.source: Any = source
        self.dequantizer: Any = dequantizer
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Experts:
        super().train(False)
        return self


def latents(samples: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A generator's noise (B, D) and class embedding (B, E) in samples (B, D + E) of its flow, both used as they are.

    Raises:
        ValueError: if the sizes do not add up.
    """
    if sum(sizes) != samples.shape[1]:
        raise ValueError(f"latents: expected {sizes[0]} + {sizes[1]} numbers, got {samples.shape[1]}")
    z, embedding = samples.split(sizes, 1)
    return z, embedding
