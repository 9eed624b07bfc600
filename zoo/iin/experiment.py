"""The paper's trainings as Lightning modules (iin, section 3): two first stages, the flow whole and in factors."""

from __future__ import annotations

from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.graph import BuiltGraph
from zoo import losses as autoencoders
from zoo.blocks.autoencoder import initialise
from zoo.blocks.discriminator import discriminator
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.iin import losses
from zoo.iin.first_stages import FirstStage
from zoo.iin.optimisation import adam, schedule
from zoo.iin.systems import System

Batch = dict[str, Any]


class Training(lightning.LightningModule):
    """A network, the paper's Adam, and a loss that the subclass defines; batches as the data sets' samples.

    Arguments:
        network: what is trained.
        rate, decay_start, steps: of the learning rate, see :func:`zoo.iin.optimisation.decay`.
    """

    def __init__(self, network: BuiltGraph, rate: float, decay_start: int, steps: int) -> None:
        super().__init__()
        self.network = network
        self.save_hyperparameters("rate", "decay_start", "steps")
        self.rate, self.decay_start, self.steps = rate, decay_start, steps

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("validation", self.loss(batch), batch_size=len(next(iter(batch.values()))), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = adam(self.parameters(), self.rate)
        rates = schedule(optimizer, self.decay_start, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}


class Classification(Training):
    """The classifier: binary cross entropy of every class on its own (iin 3.4)."""

    def loss(self, batch: Batch) -> Tensor:
        logits = self.network(batch["image"])[1]
        return F.binary_cross_entropy_with_logits(logits, F.one_hot(batch["class"], logits.shape[1]).to(logits))


class Autoencoding(Training):
    """An autoencoder with a learned variance, scored by pixels and perhaps by LPIPS (iin 3.3).

    Arguments:
        perceptual: a distance (B, 1, 1, 1) of images, or None; it is not trained.
        network, rate, decay_start, steps: as in :class:`Training`.
    """

    def __init__(
        self, network: BuiltGraph, perceptual: nn.Module | None, rate: float, decay_start: int, steps: int
    ) -> None:
        super().__init__(network, rate, decay_start, steps)
        self.logvar = nn.Parameter(torch.zeros(()))
        self.perceptual = (perceptual,)  # a tuple, so that it is no part of this module's state

    def on_fit_start(self) -> None:
        if self.perceptual[0] is not None:
            self.perceptual[0].to(self.device)

    def loss(self, batch: Batch) -> Tensor:
        nll, divergence, _ = self.evidence(batch["image"])
        return nll + divergence

    def evidence(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Negative log-likelihood and KL divergence, (), and reconstructions of images (B, ch, H, W)."""
        noise = torch.randn(len(images), self.network.graph.output_shapes["latent"][0] or 0, device=images.device)
        moments, _, restored = self.network(images, noise)
        distance = self.perceptual[0]
        apart = images.new_zeros(len(images), 1, 1, 1) if distance is None else distance(images, restored)
        errors = autoencoders.reconstruction(images, restored, apart)
        nll = autoencoders.negative_log_likelihood(errors, self.logvar)
        return nll, DiagonalGaussian.of(moments).kl().mean(), restored


class AdversarialAutoencoding(Autoencoding):
    """The same with a discriminator, which joins late; its weight balances the gradients at the last layer.

    The autoencoder's step comes first, on a discriminator that is as it was when it judged. In the authors' code the
    discriminator steps in between, which torch has refused since version 1.5.

    Arguments:
        judge: the discriminator.
        start: the step from which it takes part.
        judge_rate: its learning rate.
        others: as in :class:`Autoencoding`.
    """

    seen: Tensor

    def __init__(self, *others: Any, judge: BuiltGraph, start: int, judge_rate: float) -> None:
        super().__init__(*others)
        self.save_hyperparameters("start", "judge_rate")
        self.automatic_optimization = False
        self.judge, self.start, self.judge_rate = judge, start, judge_rate
        self.register_buffer("seen", torch.tensor(0))  # Lightning counts the steps of both optimisers

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images = batch["image"]
        joined = int(self.seen) >= self.start
        nll, divergence, restored = self.evidence(images)
        total = nll + divergence
        if joined:
            deceived = autoencoders.generator(self.judge(restored))
            last = self.network.get_parameter("decoder.paint.weight")
            total = total + autoencoders.adversarial_weight(nll, deceived, last) * deceived
        own, judges = cast("list[Any]", self.optimizers())
        self._step(own, total)
        if joined:
            judged = self.judge(images), self.judge(restored.detach())
            self._step(judges, autoencoders.discriminator(*judged, by="softplus"))
        else:
            judges.step()  # no gradients yet, so nothing moves, but its schedule counts the step
        for rates in cast("list[Any]", self.lr_schedulers()):
            rates.step()
        self.seen += 1
        return total.detach()

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def configure_optimizers(self) -> Any:
        own = adam([*self.network.parameters(), self.logvar], self.rate)
        judges = adam(self.judge.parameters(), self.judge_rate)
        return [own, judges], [schedule(each, self.decay_start, self.steps) for each in (own, judges)]


class Interpretation(Training):
    """A flow on latents of a frozen first stage, drawn from its posterior in training and evaluation alike.

    Arguments:
        first: the first stage.
        network, rate, decay_start, steps: as in :class:`Training`.
    """

    def __init__(self, network: BuiltGraph, first: FirstStage, rate: float, decay_start: int, steps: int) -> None:
        super().__init__(network, rate, decay_start, steps)
        self.first = (first,)  # a tuple, so that it is no part of this module's state

    def on_fit_start(self) -> None:
        self.first[0].to(self.device)

    def latents(self, images: Tensor) -> Tensor:
        """Images (B, ch, H, W) -> latents (B, C)."""
        return self.first[0].sample(images)

    def loss(self, batch: Batch) -> Tensor:
        return losses.unsupervised(*self.network(self.latents(batch["image"]))).loss


class Disentanglement(Interpretation):
    """The same for pairs that share a factor."""

    def loss(self, batch: Batch) -> Tensor:
        images = [batch[side]["image"] for side in ("example1", "example2")]
        *factors, logdet = self.network(self.latents(torch.cat(images)))
        halves = [z.chunk(2) for z in factors]
        first, second = ([half[side] for half in halves] for side in (0, 1))
        logdets = logdet.chunk(2)
        return losses.factor(first, second, logdets[0], logdets[1], batch["factor"]).loss


def experiment(system: System, network: BuiltGraph, first: FirstStage | None, steps: int) -> Training:
    """The module that trains a network of the table, in ``steps`` steps; decay and discriminator's start move along.

    Raises:
        FileNotFoundError: without the weights of LPIPS, for a published autoencoder.
    """
    start = system.decay_start * steps // system.steps
    if first is not None:
        kind = Disentanglement if system.kind == "factors" else Interpretation
        return kind(network, first, system.rate, start, steps)
    if system.data != "digits":
        initialise(network)
    if system.kind == "classifier":
        return Classification(network, system.rate, start, steps)
    if system.adversary is None:
        return Autoencoding(network, None, system.rate, start, steps)
    from zoo.experts import lpips

    return AdversarialAutoencoding(
        network,
        lpips.published(),
        system.rate,
        start,
        steps,
        judge=_judge(network, system.spectral),
        start=system.adversary * steps // system.steps,
        judge_rate=system.rate * (4 if system.spectral else 1),
    )


def _judge(network: BuiltGraph, spectral: bool) -> BuiltGraph:
    """The discriminator of an autoencoder's images."""
    channels, size, _ = network.graph.input_shapes["image"]
    judge = discriminator(channels or 0, size or 0, spectral=spectral).build()
    initialise(judge)
    return judge
