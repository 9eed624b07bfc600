"""Net2Net's training of the second experts, autoencoders with a discriminator, and their use (sheet: section 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo import losses
from zoo.blocks.autoencoder import initialise
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.net2net.experiment import Run
from zoo.net2net.losses import BETAS

LAST = re.compile(r"(.*\.)?paint\.(.*\.)?weight")
"""The weight of a decoder's last layer."""


class GaussianAutoencoder(nn.Module):
    """A trained autoencoder as an expert between images and latents: fixed, in eval mode.

    Arguments:
        network: a graph of image and noise with the nodes "encoder" and "decoder", such as net2net/ae-faces32.
        deterministic: whether latents are the posterior's means; as published they are samples of it.
    """

    def __init__(self, network: BuiltGraph, deterministic: bool = False) -> None:
        super().__init__()
        self.network, self.deterministic = network.eval().requires_grad_(False), deterministic

    def encode(self, images: Tensor, deterministic: bool | None = None) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] to latents (B, D); ``deterministic`` in place of the expert's own."""
        moments = _first(self.network.get_submodule("encoder")(images))
        chosen = self.deterministic if deterministic is None else deterministic
        return DiagonalGaussian.of(moments, chosen).sample()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, D) to images (B, 3, S, S) in [-1, 1]."""
        return _first(self.network.get_submodule("decoder")(latents))

    def train(self, mode: bool = True) -> GaussianAutoencoder:
        """Stays in eval mode."""
        super().train(False)
        return self


class AutoencoderExperiment(lightning.LightningModule):
    """Pixels, LPIPS, a KL divergence and, from batch ``run.disc_start`` on, a discriminator; two optimisers in turn.

    A batch has "image" (B, 3, S, S) in [-1, 1]. Logs rec_loss, nll_loss, kl_loss, total_loss, d_weight, disc_loss; the
    validation part's nll_loss is "validation".

    Arguments:
        network: outputs moments, latent and reconstruction of image and noise.
        judge: images to logits.
        distance: LPIPS, or any other distance (B, 1, 1, 1) of two batches of images.
        run: weights and start; see :data:`zoo.net2net.experiment.RUNS`.
        learning_rate: of both optimisers; the authors' for one device by default.
        basic: whether the network begins as the authors' BasicAE does, with weights that are drawn here; their BigAE
            begins with those it was built with. The judge's are always drawn here.

    Raises:
        ValueError: unless one weight is the decoder's last, that of a node "paint".
    """

    def __init__(
        self,
        network: BuiltGraph,
        judge: nn.Module,
        distance: nn.Module,
        run: Run,
        learning_rate: float | None = None,
        basic: bool = True,
    ) -> None:
        super().__init__()
        self.network, self.judge, self.run = network, judge, run
        self.distance: Any = distance.eval().requires_grad_(False)
        self.learning_rate = run.learning_rate() if learning_rate is None else learning_rate
        self.logvar = nn.Parameter(torch.zeros(()))
        self.automatic_optimization = False
        self.save_hyperparameters({"learning_rate": self.learning_rate, "disc_start": run.disc_start})
        last = [parameter for key, parameter in network.named_parameters() if LAST.fullmatch(key)]
        if len(last) != 1:
            raise ValueError(f"network: expected one weight of a last layer 'paint', got {len(last)}")
        self._last = last
        for part in (network, judge) if basic else (judge,):
            initialise(part)

    def restored(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Moments (B, 2 D) and the reconstruction (B, 3, S, S) from a sample of the posterior."""
        moments = self.network.graph.shapes["noise"][0]
        outputs = self.network(images, torch.randn(len(images), int(moments or 0), device=images.device))
        return outputs[0], outputs[2]

    def likelihood(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """rec_loss, nll_loss and kl_loss, and the reconstruction."""
        moments, restored = self.restored(images)
        errors = losses.reconstruction(images, restored, self.distance(images, restored))
        terms = {
            "rec_loss": errors.mean(),
            "nll_loss": losses.negative_log_likelihood(errors, self.logvar),
            "kl_loss": DiagonalGaussian.of(moments).kl().mean(),
        }
        return terms, restored

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        images, optimizers = batch["image"], cast("list[Any]", self.optimizers())
        factor = losses.started(self.global_step // len(optimizers), self.run.disc_start)
        terms, restored = self.likelihood(images)
        fooled = losses.generator(self.judge(restored))
        weight = losses.adversarial_weight(terms["nll_loss"], fooled, self._last[0]) * self.run.disc_weight
        total = terms["nll_loss"] + self.run.kl_weight * terms["kl_loss"] + weight * factor * fooled
        self._step(optimizers[0], total)
        with torch.no_grad():
            again = self.restored(images)[1]  # the discriminator sees another sample, as the authors' does
        judged = factor * losses.discriminator(self.judge(images), self.judge(again))
        self._step(optimizers[1], judged)
        logged = {**terms, "total_loss": total, "d_weight": weight, "disc_loss": judged}
        self.log_dict({f"train/{key}": value.detach() for key, value in logged.items()}, batch_size=len(images))
        return total.detach()

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        terms, _ = self.likelihood(batch["image"])
        count = len(batch["image"])
        self.log_dict({f"validation/{key}": value for key, value in terms.items()}, batch_size=count)
        self.log("validation", terms["nll_loss"], batch_size=count)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        own = [*self.network.parameters(), self.logvar]
        return [torch.optim.Adam(group, self.learning_rate, BETAS) for group in (own, [*self.judge.parameters()])]


def _first(answer: Tensor | tuple[Tensor, ...]) -> Tensor:
    return answer if isinstance(answer, Tensor) else answer[0]
