"""Expert two of the runs on real pictures: a small variational autoencoder of RGB images, and its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo.demo.losses import divergence
from zoo.training.experiment import Experiment

OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
"""Brightness and the two opponent colours of red, green and blue; to be divided by the rows' lengths."""


class AutoencoderExperiment(Experiment):
    """Trains :func:`autoencoder`; batches are what ``view`` takes; to validate, (images (B, 3, S, S), noise (B, D)).

    The absolute error is of brightness and opponent colours. Of red, green and blue its gradient is the same for all
    three wherever the brightness is further off than the colours are, which are then not learnt.

    Arguments:
        view: a batch -> images (B, 3, S, S) in [-1, 1] as a training step sees them, drawn anew each time.
        error: summed over pixels, "absolute" or "squared".
        prior_weight: of the KL divergence beside it.
    """

    def __init__(
        self,
        network: BuiltGraph,
        view: Callable[..., Tensor],
        error: Literal["absolute", "squared"],
        prior_weight: float,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.view, self.error, self.prior_weight = view, error, prior_weight
        self.latent = network.graph.output_shapes["latent"][0] or 0

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        images = self.view(*batch)
        return self.score((images, torch.randn(len(images), self.latent)))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        images, noise = batch
        _, mean, deviation, reconstruction = self.network(images, noise)
        off = opponent(reconstruction - images)
        error = (off.abs() if self.error == "absolute" else off.square()).flatten(1).sum(1)
        return (error + self.prior_weight * divergence(mean, deviation)).mean()


class Autoencoder(nn.Module):
    """A trained :func:`autoencoder`, fixed, as an expert; images are (B, 3, S, S) in [-1, 1]."""

    def __init__(self, network: BuiltGraph) -> None:
        super().__init__()
        self.network = network
        self.dim = network.graph.output_shapes["latent"][0] or 0

    @torch.no_grad()
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, (B, D) each."""
        parts = [self.network.encoder(chunk) for chunk in images.split(256)]  # type: ignore[operator]
        return torch.cat([mean for mean, _ in parts]), torch.cat([deviation for _, deviation in parts])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, D) -> images."""
        return torch.cat([self.network.decoder(chunk) for chunk in latents.split(256)])  # type: ignore[operator]


def opponent(images: Tensor) -> Tensor:
    """(B, 3, H, W) turned into brightness and opponent colours, distances kept."""
    turn = torch.nn.functional.normalize(OPPONENT).to(images)
    return torch.einsum("kc,bchw->bkhw", turn, images)


def scaled(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def moved(images: Tensor, shift: int) -> Tensor:
    """Images (B, C, H, W), every one mirrored or not and shifted, by chance."""
    return shifted(torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, images.flip(3)), shift)


def shifted(images: Tensor, most: int) -> Tensor:
    """Each image (B, C, H, W) moved by its own up to ``most`` whole pixels a direction; the border is repeated."""
    if not most:
        return images
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    corner = torch.randint(2 * most + 1, (2, count))
    rows = (corner[0, :, None] + torch.arange(height))[:, None, :, None]
    columns = (corner[1, :, None] + torch.arange(width))[:, None, None, :]
    index = torch.arange(count)[:, None, None, None], torch.arange(images.shape[1])[None, :, None, None]
    return padded[index[0], index[1], rows, columns]
