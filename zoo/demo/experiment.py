"""The demo's training: two experts, then the flow that translates one's representation into the other's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from flowkit.bijections import Bijection
from flowkit.graph import BuiltGraph, Graph
from zoo import registry
from zoo.data.digits import Split, augment
from zoo.demo import losses
from zoo.demo.settings import Settings
from zoo.experts import DigitAutoencoder, DigitClassifier
from zoo.training.batches import Batches, mixed, seeded
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
        self, network: BuiltGraph, classifier: DigitClassifier, autoencoder: DigitAutoencoder, augmentation: float, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.experts = (classifier, autoencoder)  # a tuple, so that they are no part of this module's state
        self.augmentation = augmentation

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        classifier, autoencoder = self.experts
        images = augment(batch[0], self.augmentation)
        return self.score((autoencoder.encode(images), classifier.represent(images)))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        latents, conditions = batch
        return losses.bits_per_dim(*self.network(latents, conditions)).mean()


@dataclass(frozen=True)
class Translation:
    """The trained demo.

    Arguments:
        stages: what each stage left, by name.
        classifier, autoencoder: the experts.
        flow: latent (B, D) <-> z (B, D), given a representation (B, K).
    """

    stages: dict[str, Trained]
    classifier: DigitClassifier
    autoencoder: DigitAutoencoder
    flow: Bijection

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes the result."""
        return self.stages["translator"].fingerprint

    @property
    def dim(self) -> int:
        """Number of latent dimensions."""
        return self.flow.channels or 0

    @torch.no_grad()
    def residual(self, images: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) -> z (B, D): what the autoencoder knows of them and the classifier does not."""
        z: Tensor = self.flow(self.autoencoder.mean(images), self.classifier.represent(images))[0]
        return z

    @torch.no_grad()
    def translate(self, z: Tensor, representation: Tensor) -> Tensor:
        """z (B, D) and representations (B, K) -> images (B, 1, 8, 8)."""
        return self.autoencoder.decode(self.flow.inverse(z, representation)[0])


def train(settings: Settings, parts: Parts, folder: Path, console: Console) -> Translation:
    """Trains what ``folder`` does not hold yet, and returns everything.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the next call goes on from the last checkpoint.
    """
    stages: dict[str, Trained] = {}
    for number, name in enumerate(("classifier", "autoencoder", "translator"), 1):
        stage = _stage(name, settings, parts, stages)
        console.print(f"[bold]{number}/4 {stage.title}[/bold] [dim]({stage.graph.parameters:,} parameters)[/dim]")
        stages[name] = run(stage, folder, console)
        done = "already trained" if stages[name].reused else "trained"
        best = min(stages[name].history, key=lambda point: point["validation"])
        console.print(
            f"  {done} in {stages[name].seconds:.0f} s; best validation {best['validation']:.3f} {stage.unit} "
            f"after epoch {best['epoch']}",
            highlight=False,
        )
    return Translation(stages, *_experts(stages), _flow(stages["translator"].network))


def _stage(name: str, settings: Settings, parts: Parts, earlier: dict[str, Trained]) -> Stage:
    train, validation = parts["train"], parts["validation"]
    seed = mixed(settings.seed, *name.encode())
    epochs: int = getattr(settings, "flow_epochs" if name == "translator" else f"{name}_epochs")
    rate: float = getattr(settings, "flow_rate" if name == "translator" else f"{name}_rate")
    batches = Batches(train.images, train.labels, size=settings.batch, seed=seed)
    options = {"weight_decay": settings.weight_decay, "steps": epochs * len(batches), "seed": seed, "learning_rate": rate}
    graph = _graph(name, settings, earlier)

    def experiment(network: BuiltGraph) -> Experiment:
        if name == "classifier":
            return ClassifierExperiment(network, settings.augmentation, **options)
        if name == "autoencoder":
            return AutoencoderExperiment(network, settings.augmentation, settings.prior_weight, **options)
        return TranslatorExperiment(network, *_experts(earlier), settings.augmentation, **options)

    titles = {
        "classifier": ("Expert 1: a classifier", "nats"),
        "autoencoder": ("Expert 2: an autoencoder", "squared error + KL"),
        "translator": ("The flow: from representation to latent", "bits/dim"),
    }
    return Stage(
        name=name,
        title=titles[name][0],
        unit=titles[name][1],
        graph=graph,
        experiment=experiment,
        batches=batches,
        validation=_validation(name, validation, graph, earlier, seed),
        epochs=epochs,
        every=settings.every,
        seed=seed,
        fingerprint=_fingerprint(name, settings, graph, epochs, rate, earlier),
    )


def _graph(name: str, settings: Settings, earlier: dict[str, Trained]) -> Graph:
    full = f"demo/{name}" + ("" if settings.networks == "default" else f"_{settings.networks}")
    if name != "translator":
        return registry.graph(full)
    dim = earlier["autoencoder"].network.graph.output_shapes["latent"][0]
    condition = earlier["classifier"].network.graph.output_shapes["representation"][0]
    return registry.graph(full, dim=dim, condition=condition)


def _validation(
    name: str, validation: Split, graph: Graph, earlier: dict[str, Trained], seed: int
) -> tuple[Tensor, ...]:
    """The validation part as one batch, with fixed noise."""
    if name == "classifier":
        return validation.images, validation.labels
    generator = seeded(seed, -1)
    images = validation.images.repeat(VALIDATION_DRAWS, 1, 1, 1)
    if name == "autoencoder":
        return images, torch.randn(len(images), graph.output_shapes["latent"][0] or 0, generator=generator)
    classifier, autoencoder = _experts(earlier)
    return autoencoder.encode(images, generator), classifier.represent(images)


def _experts(stages: dict[str, Trained]) -> tuple[DigitClassifier, DigitAutoencoder]:
    return DigitClassifier(stages["classifier"].network), DigitAutoencoder(stages["autoencoder"].network)


def _flow(network: BuiltGraph) -> Bijection:
    if not isinstance(network, Bijection):
        raise ValueError(f"translator: expected a graph that is one bijection, got {network.graph}")
    return network


def _fingerprint(
    name: str, settings: Settings, graph: Graph, epochs: int, rate: float, earlier: dict[str, Trained]
) -> str:
    """Changes with whatever changes the result of a stage: its own settings, its graph, the stages it builds on."""
    facts = {
        "graph": graph.to_yaml(),
        "numbers": [epochs, rate, settings.batch, settings.every, settings.seed, settings.weight_decay],
        "augmentation": settings.augmentation,
        "prior_weight": settings.prior_weight if name == "autoencoder" else None,
        "earlier": [trained.fingerprint for trained in earlier.values()] if name == "translator" else [],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
