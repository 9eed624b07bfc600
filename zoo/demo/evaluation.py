"""The demo's figures, all on the test part, which no training and no choice has seen."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo import metrics
from zoo.demo.experiment import Parts, Translation
from zoo.demo.graph import CLASSES
from zoo.demo.settings import Settings
from zoo.training.batches import seeded

MEANINGS = {
    "bits_per_dim": "code length of a latent under the flow, bits for each dimension; lower is better",
    "gaussian_bits_per_dim": "under a full-covariance Gaussian, which sees no representation",
    "linear_gaussian_bits_per_dim": "under a Gaussian around a linear map of the representation",
    "train_bits_per_dim": "under the flow, for the training part: the gap to the first line is over-fitting",
    "class_kept": "translated images that the classifier puts into the class of their condition",
    "reconstruction_class_kept": "the same for the autoencoder's reconstructions, without a flow",
    "share_not_fixed": "variance of the translated pixels that the representation leaves open",
    "round_trip_error": "largest error of latent to z to latent",
    "conditioner_time_share": "time in the flow's conditioner networks, of a training step",
    "conditioner_time_share_sampling": "the same, of a sampling pass",
    "classifier_accuracy": "expert 1",
    "reconstruction_error": "expert 2: root mean square over grey values in [-1, 1]",
    "seconds": "the whole job, without pauses if it was interrupted",
}


def evaluate(translation: Translation, parts: Parts, settings: Settings) -> dict[str, float]:
    """All figures but the seconds; :data:`MEANINGS` says what they are."""
    generator = seeded(settings.seed, *b"evaluation")
    classifier, autoencoder, test = translation.classifier, translation.autoencoder, parts["test"]
    latents, conditions = _pairs(translation, test.images, settings.draws, generator)
    train_latents, train_conditions = _pairs(translation, parts["train"].images, settings.draws, generator)
    labels = test.labels.repeat(settings.draws)
    samples = translation.translate(torch.randn(latents.shape, generator=generator), conditions)
    reconstructions = autoencoder.decode(autoencoder.mean(test.images))
    batch = slice(0, settings.batch)
    shares = metrics.conditioner_time_shares(translation.flow.bijection, latents[batch], conditions[batch])
    return {
        "bits_per_dim": _bits(translation, latents, conditions),
        "gaussian_bits_per_dim": metrics.gaussian_bits_per_dim(train_latents, latents),
        "linear_gaussian_bits_per_dim": metrics.linear_gaussian_bits_per_dim(
            train_latents, train_conditions, latents, conditions
        ),
        "class_kept": metrics.class_kept(labels, classifier.classify(samples), CLASSES),
        "reconstruction_class_kept": metrics.class_kept(test.labels, classifier.classify(reconstructions), CLASSES),
        "share_not_fixed": metrics.share_not_fixed(samples.unflatten(0, (settings.draws, len(test)))),
        "round_trip_error": metrics.round_trip_error(translation.flow.bijection, latents, conditions),
        "conditioner_time_share": shares.training,
        "conditioner_time_share_sampling": shares.sampling,
        "classifier_accuracy": metrics.class_kept(test.labels, classifier.classify(test.images), CLASSES),
        "reconstruction_error": float((reconstructions - test.images).square().mean().sqrt()),
        "train_bits_per_dim": _bits(translation, train_latents, train_conditions),
    }


def _pairs(translation: Translation, images: Tensor, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Latents (samples of the posterior) and representations, ``draws`` for each image."""
    images = images.repeat(draws, 1, 1, 1)
    return translation.autoencoder.encode(images, generator), translation.classifier.represent(images)


@torch.no_grad()
def _bits(translation: Translation, latents: Tensor, conditions: Tensor) -> float:
    return float(translation.flow.bits_per_dim(latents, conditions).mean())
