"""The demo's training: two experts, then the flow that translates one's representation into the other's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from flowkit.bijections import Bijection
from flowkit.distributions import DiagonalGaussian, Flow
from flowkit.graph import BuiltGraph, Graph
from zoo import registry
from zoo.data.digits import Split, augment
from zoo.demo import losses
from zoo.demo.settings import Settings
from zoo.experts import DigitAutoencoder, DigitClassifier
from zoo.runs.stages import stage
from zoo.training.batches import seeded
from zoo.training.experiment import Experiment
from zoo.training.stage import Stage, Trained, run

Parts = dict[str, Split]
VALIDATION_DRAWS = 4


class ClassifierExperiment(Experiment):
    """Trains expert 1 on augmented digits; batches are (images, labels)."""

    def __init__(self, network: BuiltGraph, augmentation: float, **options: Any) -> None:
        super().__init__(network, **options)
        self.augmentation = augmentation

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        images, labels = batch
        return losses.classification(self.network(augment(images, self.augmentation))[1], labels)

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        images, labels = batch
        return losses.classification(self.network(images)[1], labels)


class AutoencoderExperiment(Experiment):
    """Trains expert 2 on augmented digits; batches are (images, labels) or, to validate, (images, noise)."""

    def __init__(self, network: BuiltGraph, augmentation: float, prior_weight: float, **options: Any) -> None:
        super().__init__(network, **options)
        self.augmentation, self.prior_weight = augmentation, prior_weight
        self.latent = network.graph.output_shapes["latent"][0] or 0

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        images = augment(batch[0], self.augmentation)
        return self._evidence(images, torch.randn(len(images), self.latent))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self._evidence(*batch)

    def _evidence(self, images: Tensor, noise: Tensor) -> Tensor:
        _, mean, deviation, reconstruction = self.network(images, noise)
        return losses.evidence(reconstruction, images, mean, deviation, self.prior_weight)


class TranslatorExperiment(Experiment):
    """Trains the flow on latents given representations; batches are (images, labels) or (latents, conditions)."""

    def __init__(
        self,
        network: BuiltGraph,
        classifier: DigitClassifier,
        autoencoder: DigitAutoencoder,
        augmentation: float,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.flow = (_flow(network),)  # tuples, so that neither flow nor experts are part of this module's state
        self.experts = (classifier, autoencoder)
        self.augmentation = augmentation

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        classifier, autoencoder = self.experts
        images = augment(batch[0], self.augmentation)
        return self.score((autoencoder.encode(images), classifier.represent(images)))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        latents, conditions = batch
        return self.flow[0].bits_per_dim(latents, conditions).mean()


@dataclass(frozen=True)
class Translation:
    """The trained demo.

    Arguments:
        stages: what each stage left, by name.
        classifier, autoencoder: the experts.
        flow: the density of latents (B, D), given representations (B, K).
    """

    stages: dict[str, Trained]
    classifier: DigitClassifier
    autoencoder: DigitAutoencoder
    flow: Flow

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes the result."""
        return self.stages["translator"].fingerprint

    @property
    def dim(self) -> int:
        """Number of latent dimensions."""
        return self.flow.base.shape[0]

    @torch.no_grad()
    def residual(self, images: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) -> z (B, D): what the autoencoder knows of them and the classifier does not."""
        z: Tensor = self.flow.bijection(self.autoencoder.mean(images), self.classifier.represent(images))[0]
        return z

    @torch.no_grad()
    def translate(self, z: Tensor, representation: Tensor) -> Tensor:
        """z (B, D) and representations (B, K) -> images (B, 1, 8, 8)."""
        return self.autoencoder.decode(self.flow.bijection.inverse(z, representation)[0])


def train(settings: Settings, parts: Parts, folder: Path, console: Console) -> Translation:
    """Trains what ``folder`` does not hold yet, and returns everything.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the next call goes on from the last checkpoint.
    """
    first = run(_classifier(settings, parts), folder, console)
    second = run(_autoencoder(settings, parts), folder, console)
    third = run(_translator(settings, parts, first, second), folder, console)
    stages = {"classifier": first, "autoencoder": second, "translator": third}
    return Translation(stages, DigitClassifier(first.network), DigitAutoencoder(second.network), _flow(third.network))


def _classifier(settings: Settings, parts: Parts) -> Stage:
    validation = parts["validation"]
    return _stage(
        "classifier",
        "1/4 Expert 1, a classifier",
        "nats",
        settings,
        parts,
        graph=registry.graph(settings.network("classifier")),
        experiment=ClassifierExperiment,
        options={"augmentation": settings.augmentation},
        validation=(validation.images, validation.labels),
    )


def _autoencoder(settings: Settings, parts: Parts) -> Stage:
    graph = registry.graph(settings.network("autoencoder"))
    images = parts["validation"].images.repeat(VALIDATION_DRAWS, 1, 1, 1)
    noise = torch.randn(len(images), graph.output_shapes["latent"][0] or 0, generator=_validation_noise(settings))
    return _stage(
        "autoencoder",
        "2/4 Expert 2, an autoencoder",
        "squared error + KL",
        settings,
        parts,
        graph=graph,
        experiment=AutoencoderExperiment,
        options={"augmentation": settings.augmentation, "prior_weight": settings.prior_weight},
        validation=(images, noise),
    )


def _translator(settings: Settings, parts: Parts, first: Trained, second: Trained) -> Stage:
    classifier, autoencoder = DigitClassifier(first.network), DigitAutoencoder(second.network)
    images = parts["validation"].images.repeat(VALIDATION_DRAWS, 1, 1, 1)
    latents, conditions = autoencoder.encode(images, _validation_noise(settings)), classifier.represent(images)
    return _stage(
        "translator",
        "3/4 The flow, from representation to latent",
        "bits/dim",
        settings,
        parts,
        graph=registry.graph(settings.network("translator"), dim=latents.shape[1], condition=conditions.shape[1]),
        experiment=partial(TranslatorExperiment, classifier=classifier, autoencoder=autoencoder),
        options={"augmentation": settings.augmentation},
        validation=(latents, conditions),
        earlier=(first.fingerprint, second.fingerprint),
    )


def _stage(
    name: str,
    title: str,
    unit: str,
    settings: Settings,
    parts: Parts,
    *,
    graph: Graph,
    experiment: Callable[..., Experiment],
    options: dict[str, float],
    validation: tuple[Tensor, ...],
    earlier: tuple[str, ...] = (),
) -> Stage:
    """A stage on the training part, with what all three have in common."""
    epochs, rate = settings.schedule(name)
    return stage(
        name,
        title,
        unit,
        graph,
        experiment,
        training=(parts["train"].images, parts["train"].labels),
        validation=validation,
        epochs=epochs,
        every=settings.every,
        batch=settings.batch,
        learning_rate=rate,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        options=options,
        data="digits",
        earlier=earlier,
    )


def _validation_noise(settings: Settings) -> torch.Generator:
    return seeded(settings.seed, *b"validation")


def _flow(network: BuiltGraph) -> Flow:
    """The density that a translator defines; ValueError for a network that is no single bijection."""
    if not isinstance(network, Bijection):
        raise ValueError(f"translator: expected a graph with one data input and one output, got\n{network.graph}")
    return Flow(network, DiagonalGaussian(network.channels or 0))
