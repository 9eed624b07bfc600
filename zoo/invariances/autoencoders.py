"""Complete descriptions of images, E and D, behind one interface: small ones, BigAE and its like, BigGAN as D alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo.blocks.biggan import EMBEDDING
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.experts.biggan import BigGAN


class Autoencoder(nn.Module):
    """E and D of a built graph, fixed; called, it is E.

    Arguments:
        network: the graph's parts are called apart, by the names of its nodes.
        size: S, the side of the images.
        latent: D.
    """

    encodes = True
    """Whether there is an E."""

    def __init__(self, network: BuiltGraph, size: int, latent: int) -> None:
        super().__init__()
        self.network: Any = network.eval()
        self.size, self.latent = size, latent

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """E: images (B, 3, S, S) in [-1, 1] -> mean and deviation of the latents, (B, D) each."""
        raise NotImplementedError(f"{type(self).__name__} defines no posterior")

    def decode(self, latents: Tensor) -> Tensor:
        """D: latents (B, D) -> images (B, 3, S, S) in [-1, 1], the first output of the decoder."""
        return _first(self.network.decoder(latents))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`posterior`."""
        return self.posterior(images)


class SmallAutoencoder(Autoencoder):
    """One whose encoder gives mean and deviation, as ``digits-autoencoder`` and ``animalfaces-autoencoder``."""

    def __init__(self, network: BuiltGraph) -> None:
        super().__init__(network, *_sizes(network))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self.network.encoder(images)
        return mean, deviation


class MomentsAutoencoder(Autoencoder):
    """One whose encoder gives means and log-variances (B, 2 D) first, as ``bigae-animals`` and the IIN's do."""

    def __init__(self, network: BuiltGraph) -> None:
        super().__init__(network, *_sizes(network))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        gaussian = DiagonalGaussian.of(_first(self.network.encoder(images)))
        return gaussian.mean, gaussian.std


class Generator(Autoencoder):
    """BigGAN as D, without an E: a latent is a code and the embedding of a class, which can be between classes.

    What ``resnet50-avgpool`` and ``stylized-resnet50-avgpool`` describe images by (Fig. 6).
    """

    encodes = False

    def __init__(self, network: BuiltGraph) -> None:
        self.code = network.graph.input_shapes["latent"][0] or 0
        super().__init__(network, network.graph.output_shapes["image"][1] or 0, self.code + EMBEDDING)
        self.generator = BigGAN(network)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise ValueError(
            "autoencoder: BigGAN has no encoder, so no image can be passed through it; what needs none are the verbs "
            "sample, visualize, texture, explain and evaluate"
        )

    def decode(self, latents: Tensor) -> Tensor:
        return self.generator.generate_from_embedding(*latents.split([self.code, EMBEDDING], 1))


def adapted(network: BuiltGraph) -> Autoencoder:
    """The autoencoder that a graph is, told by its outputs and nodes.

    Raises:
        ValueError: if it is none.
    """
    outputs, nodes = network.graph.output_shapes.keys(), {node.name for node in network.graph.nodes}
    if {"encoder", "decoder"} <= nodes and "latent" in outputs:
        if {"mean", "deviation"} <= outputs:
            return SmallAutoencoder(network)
        if "moments" in outputs:
            return MomentsAutoencoder(network)
    if {"embed", "painter"} <= nodes:
        return Generator(network)
    raise ValueError(
        "autoencoder: expected parts encoder and decoder that give moments (or mean and deviation) and latent, such as "
        f"bigae-animals or animalfaces-autoencoder, or BigGAN's embed and painter, got\n{network.graph}"
    )


def _sizes(network: BuiltGraph) -> tuple[int, int]:
    """S and D of a graph with the input "image" and the output "latent"."""
    return network.graph.input_shapes["image"][1] or 0, network.graph.output_shapes["latent"][0] or 0


def _first(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first of a network's outputs, or its only one."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]
