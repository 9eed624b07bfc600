"""The demo's experts, once trained, as what a translation needs of them: represent, classify, encode, decode."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DigitClassifier(nn.Module):
    """Expert 1: the graph ``demo/classifier``, fixed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def represent(self, images: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) in [-1, 1] -> penultimate representation (B, K)."""
        representation: Tensor = self.network(images)[0]
        return representation

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) in [-1, 1] -> most probable digit (B,), int64."""
        labels: Tensor = self.network(images)[1].argmax(1)
        return labels


class DigitAutoencoder(nn.Module):
    """Expert 2: the graph ``demo/autoencoder``, fixed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, 1, 8, 8) in [-1, 1] -> a sample of the posterior over latents (B, D)."""
        mean, deviation = self._posterior(images)
        return mean + deviation * torch.randn(mean.shape, generator=generator)

    @torch.no_grad()
    def mean(self, images: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) in [-1, 1] -> the mean of the posterior (B, D)."""
        return self._posterior(images)[0]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, D) -> images (B, 1, 8, 8) in [-1, 1]."""
        images: Tensor = self.network.decoder(latents)  # type: ignore[operator]
        return images

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self.network.encoder(images)  # type: ignore[operator]
        return mean, deviation
