"""The training of a dequantiser, of which its authors released the weights alone: a VAE of a BigGAN's embeddings."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.graph import BuiltGraph
from zoo import registry
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.experts.biggan import BigGAN
from zoo.fusion.experts import dequantiser_name
from zoo.net2net.losses import BETAS
from zoo.training.fit import Data, Fit, fingerprint, fit, save_weights
from zoo.verbs import Context

RATE, DEVIATION = 3e-3, 0.1
"""Learning rate; how far a restored embedding may be off, in deviations of the embeddings. Both ours."""
FIT = Fit(steps=1000, batch=32, every=250, keep_best=False)
"""For the tiny one."""


class DequantiserExperiment(lightning.LightningModule):
    """Maximum evidence of class embeddings; batches are embeddings (B, 128).

    Arguments:
        network: a graph as fusion/dequantiser.
        deviation: of the normal noise that a restored embedding is taken to have.
    """

    def __init__(self, network: BuiltGraph, deviation: float, learning_rate: float) -> None:
        super().__init__()
        self.network, self.deviation, self.learning_rate = network, deviation, learning_rate
        self.save_hyperparameters("deviation", "learning_rate")

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        noise = torch.randn(len(batch), self.network.graph.input_shapes["noise"][0] or 0, device=self.device)
        _, moments, _, restored = self.network(batch, noise)
        error = F.mse_loss(restored, batch, reduction="sum") / (2 * self.deviation**2 * len(batch))
        return error + DiagonalGaussian.of(moments).kl().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.network.parameters(), self.learning_rate, BETAS)


def train(context: Context, generator: BigGAN, learning_rate: float, settings: Fit) -> None:
    """Trains a dequantiser for the embeddings of all classes, or goes on with it; writes its weights.

    Arguments:
        context: names it, or the flow that needs it.
        learning_rate: 0 for ours.
    """
    name = dequantiser_name(context)
    embeddings = generator.embed(torch.arange(generator.classes)).detach()
    options = context.options if name == context.name else {}
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        network = registry.build(name, **options)
    module = DequantiserExperiment(network, DEVIATION * float(embeddings.std()), learning_rate or RATE)
    context.console.rule(f"[bold]{name}[/bold] ({network.graph.parameters:,} parameters)", align="left", style="dim")
    folder, identity = context.out / "training" / name, {"generator": fingerprint(generator)}
    data = Data([*embeddings])
    done = fit(module, data, folder, settings, context.console, identity=identity, restart=context.fresh)
    file = save_weights(context.out, context.file(name).stem, network.eval(), {"history": done.history})
    context.console.print(f"weights: {file}", highlight=False, soft_wrap=True)
