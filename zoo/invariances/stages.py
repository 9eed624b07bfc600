"""Training of the small systems: classifier, one flow a cut, and the flow to concepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo.demo.losses import classification
from zoo.iin import losses
from zoo.invariances.experiment import concept_loss
from zoo.training.experiment import Experiment

View = Callable[[Tensor, Tensor], Tensor]
"""Stored images and labels -> what a training step sees, (B, 3, S, S) in [-1, 1]: drawn anew each time."""
Expert = Callable[[Tensor], Tensor]


class ClassifierExperiment(Experiment):
    """Trains a classifier; batches are (stored images, labels) or, to validate, (images, labels)."""

    def __init__(self, network: BuiltGraph, view: View, **options: Any) -> None:
        super().__init__(network, **options)
        self.view = view

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self.score((self.view(*batch), batch[1]))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        images, labels = batch
        return classification(self.network(images)[-1], labels)


class InvarianceExperiment(Experiment):
    """Trains the flow of a cut: of latents, given representations, both of one image and without gradient.

    Batches are (stored images, labels) or, to validate, (latents, representations).

    Arguments:
        represent: images -> representations (B, K) or (B, K, S, S).
        encode: images -> a sample of the posterior over latents (B, D).
    """

    def __init__(self, network: BuiltGraph, view: View, represent: Expert, encode: Expert, **options: Any) -> None:
        super().__init__(network, **options)
        self.view, self.experts = view, (represent, encode)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        represent, encode = self.experts
        with torch.no_grad():
            images = self.view(*batch)
            pair = encode(images), represent(images)
        return self.score(pair)

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        v, logdet = self.network(*batch)
        return losses.unsupervised(v, logdet).loss


class ConceptExperiment(Experiment):
    """Trains the flow to concepts on pairs that share one; batches are as :class:`InvarianceExperiment`'s.

    To validate, (latents, latents of the partners, the concept that each pair shares).

    Arguments:
        pairs: stored images and labels -> two images each (B, 3, S, S) and the concept (B,) that they share.
        encode: images -> a sample of the posterior over latents (B, D).
    """

    def __init__(
        self,
        network: BuiltGraph,
        pairs: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
        encode: Expert,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.pairs, self.encode = pairs, encode

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad():
            first, second, shared = self.pairs(*batch)
            latents = self.encode(first), self.encode(second)
        return self.score((*latents, shared))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        first, second, shared = batch
        return concept_loss(self.network, torch.cat([first, second]), shared)
