"""Expert two of the runs on real pictures: a small variational autoencoder of RGB images, and its training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.demo.losses import divergence
from zoo.training.experiment import Experiment

CELLS = 4  # pixels of a side where the encoder ends and the decoder begins


def autoencoder(size: int, latent: int, width: int) -> g.Graph:
    """Image (3, S, S) in [-1, 1] and noise (D,) -> latent = mean + deviation * noise, and the reconstruction.

    Convolutions 4 x 4 with stride 2 down to 4 x 4 pixels and transposed ones back, as in Net2Net's BasicAE
    (arXiv 2005.13580), with batch norm and a residual block a level.

    Arguments:
        size: of a side, 4 times a power of two.
        width: channels of the first level; each further one has twice as many.

    Raises:
        ValueError: for another size.
    """
    levels = (size // CELLS).bit_length() - 1
    if size != CELLS * 2**levels or not levels:
        raise ValueError(f"size: expected 16, 32, 64 or another {CELLS} * 2^k, got {size}")
    widths = [width * 2**level for level in range(levels)]
    image, noise = g.input("image", (3, size, size)), g.input("noise", latent)
    mean, deviation = g.call(_encoder(size, latent, widths), image, name="encoder")
    code = mean + deviation * noise
    reconstruction = g.call(_decoder(latent, widths), code, name="decoder")
    return g.graph(latent=code, mean=mean, deviation=deviation, reconstruction=reconstruction)


def _encoder(size: int, latent: int, widths: list[int]) -> g.Graph:
    image = g.input("image", (3, size, size))
    x = image
    for level, channels in enumerate(widths):
        x = g.conv2d(x, channels, kernel=4, stride=2, padding=1, bias=False, name=f"down_{level}")
        x = _block(x, f"block_{level}") if level else _normed(x, f"start_{level}")
    mean, deviation = g.chunk(g.linear(g.flatten(x), 2 * latent, name="posterior"))
    return g.graph(mean=mean, deviation=g.activation(deviation, "softplus", name="deviation"))


def _decoder(latent: int, widths: list[int]) -> g.Graph:
    code = g.input("latent", latent)
    x = g.linear(code, widths[-1] * CELLS * CELLS, name="unfold")
    x = _block(g.reshape(x, (widths[-1], CELLS, CELLS)), "block")
    for level, channels in reversed([*enumerate(widths[:-1])]):
        x = g.conv_transpose(x, channels, bias=False, name=f"up_{level}")
        x = _block(x, f"block_{level}") if level else _normed(x, f"end_{level}")
    return g.graph(image=g.activation(g.conv_transpose(x, 3, name="paint"), "tanh", name="image"))


def _block(x: g.Value, name: str) -> g.Value:
    """Norm and activation, then a 3 x 3 convolution whose result is added, normed and activated."""
    x = _normed(x, f"{name}_in")
    return _normed(g.conv2d(x, x.channels, bias=False, name=f"{name}_conv") + x, f"{name}_out")


def _normed(x: g.Value, name: str) -> g.Value:
    return g.activation(g.norm(x, "batch", name=f"{name}_norm"), "leaky_relu", slope=0.1, name=name)


class AutoencoderExperiment(Experiment):
    """Trains :func:`autoencoder`; batches are (images,), uint8 (B, 3, S, S); to validate, (images, noise (B, D)).

    Arguments:
        prior_weight: of the KL divergence, beside the absolute error summed over pixels.
        shift: random translations by up to this many pixels, and mirror images, in training.
    """

    def __init__(self, network: BuiltGraph, prior_weight: float, shift: int, **options: Any) -> None:
        super().__init__(network, **options)
        self.prior_weight, self.shift = prior_weight, shift
        self.latent = network.graph.output_shapes["latent"][0] or 0

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        images = shifted(scaled(batch[0]), self.shift)
        images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, images.flip(3))
        return self._evidence(images, torch.randn(len(images), self.latent))

    def score(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self._evidence(scaled(batch[0]), batch[1])

    def _evidence(self, images: Tensor, noise: Tensor) -> Tensor:
        _, mean, deviation, reconstruction = self.network(images, noise)
        error = (reconstruction - images).abs().flatten(1).sum(1)
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


def scaled(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


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
