"""The flow of the runs on real pictures: its training on latents that are known as Gaussians, and what it can do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowkit.bijections import Bijection
from flowkit.distributions import DiagonalGaussian, Flow
from flowkit.graph import BuiltGraph
from zoo.runs.autoencoder import Autoencoder
from zoo.training.experiment import Experiment


class TranslatorExperiment(Experiment):
    """Trains the flow; batches are (means, deviations, conditions), (B, K, D) twice and (B, K, C).

    Every step draws one of K variants of an example and a latent from its Gaussian. To validate, (latents, conditions),
    (B, D) and (B, C).

    Arguments:
        noise: deviation of normal noise on the conditions in training, in units of their own deviation.
    """

    def __init__(self, network: BuiltGraph, noise: float, **options: Any) -> None:
        super().__init__(network, **options)
        self.density = (density(network),)  # a tuple, so that it is no part of this module's state
        self.noise = noise

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        means, deviations, conditions = batch
        variant = torch.arange(len(means)), torch.randint(means.shape[1], (len(means),))
        known = conditions[variant]
        latents = means[variant] + deviations[variant] * torch.randn_like(means[variant])
        return self.score((latents, known + self.noise * known.std() * torch.randn_like(known)))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        latents, conditions = batch
        return self.density[0].bits_per_dim(latents, conditions).mean()


def density(network: BuiltGraph) -> Flow:
    """The density that a translator defines; ValueError for a network that is no single bijection."""
    if not isinstance(network, Bijection):
        raise ValueError(f"translator: expected a graph with one data input and one output, got\n{network.graph}")
    return Flow(network, DiagonalGaussian(network.channels or 0))


class Translation:
    """An autoencoder and a flow on its latents: pictures (B, 3, S, S) in [-1, 1] from noise v (B, D) and conditions."""

    def __init__(self, autoencoder: Autoencoder, flow: BuiltGraph) -> None:
        self.autoencoder, self.density = autoencoder, density(flow)

    @torch.no_grad()
    def picture(self, v: Tensor, conditions: Tensor) -> Tensor:
        """tau: v (B, D) and conditions (B, C) -> pictures."""
        return self.autoencoder.decode(self.density.bijection.inverse(v, conditions)[0])

    @torch.no_grad()
    def residual(self, images: Tensor, conditions: Tensor) -> Tensor:
        """The inverse of tau on the means of the posteriors: pictures and conditions -> v (B, D)."""
        v: Tensor = self.density.bijection(self.autoencoder.posterior(images)[0], conditions)[0]
        return v
