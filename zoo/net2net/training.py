"""Training of the published configurations: flows between experts, and first-stage autoencoders, on real pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import lightning
import torch
from torch import nn

from flowkit.graph import BuiltGraph
from zoo import pictures, registry, weights
from zoo.blocks.discriminator import discriminator
from zoo.experts import lpips
from zoo.net2net import data, stand_ins
from zoo.net2net.autoencoder_experiment import AutoencoderExperiment
from zoo.net2net.configurations import AUTOENCODERS, Configuration
from zoo.net2net.experiment import RUNS, Run
from zoo.net2net.memory import remember
from zoo.net2net.system import system, target_words
from zoo.net2net.words import Given
from zoo.training.fit import Data, Fit, fingerprint, fit
from zoo.verbs import Context

STEPS, EVERY = 100_000, 1000
"""Of a training that the command says nothing of: the length of the authors' is not known."""
OURS = Run(15, "that of the command")
"""A run of a configuration that was not released."""
NO_LPIPS = "none"


@dataclass(frozen=True)
class Settings:
    """What a command says of a training; 0: as the authors have it, or as above. See :class:`zoo.training.fit.Fit`."""

    steps: int = 0
    batch: int = 0
    every: int = 0
    accumulate: int = 1
    devices: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0

    def fit(self, run: Run, seed: int) -> tuple[Fit, Run]:
        """For the trainer, and the run with the batch that was asked for."""
        steps, run = self.steps or STEPS, replace(run, batch=self.batch or run.batch)
        every = self.every or min(EVERY, steps)
        return Fit(steps, run.batch, every, self.accumulate, self.precision, self.devices, seed=seed,
                   workers=self.workers), run  # fmt: skip

    def learning_rate(self, run: Run) -> float:
        """The authors' for as many samples a step."""
        return run.learning_rate(self.devices, self.accumulate)


def train_flow(context: Context, configuration: Configuration, given: Given, settings: Settings) -> None:
    """Trains the flow, from ``--weights`` if there are any; writes its weights and which experts it belongs to."""
    fitting, run = settings.fit(RUNS.get(_own(context), OURS), context.seed)
    if fitting.batch < 2:
        raise ValueError(f"batch: expected at least 2, by which the norms of the flow are set, got {fitting.batch}")
    flow = context.network() if context.weights else _fresh(context)
    given = replace(given, target=target_words(context, given.target)).absolute()
    made = system(context, configuration, flow, given, settings.learning_rate(run), mean=False)
    experts = {key: fingerprint(net) for key, net in made.experiment.experts.named_children()}
    _fit(context, made.experiment, flow, _limited(made.data), fitting, {**experts, "data": given.data})
    remember(context, asdict(given))


def train_autoencoder(context: Context, folder: str, settings: Settings, distance: str, disc_start: int) -> None:
    """Trains a first-stage autoencoder with a discriminator; with ``--random``, on made-up pictures without LPIPS.

    Arguments:
        distance: a file of LPIPS's linear weights; empty for the published ones, "none" for a loss without.
        disc_start: batches without the discriminator, the authors' if negative.
    """
    name = _own(context)
    fitting, run = settings.fit(RUNS[name], context.seed)
    run = run if disc_start < 0 else replace(run, disc_start=disc_start)
    net = context.network() if context.weights else _fresh(context)
    channels, size, _ = (n or 0 for n in net.graph.input_shapes["image"])
    if not folder and not context.random:
        raise ValueError(f"train {context.name}: expected data=FOLDER with images, or with the sets of {run.data}")
    examples = data.examples(AUTOENCODERS[name], folder, size) if folder else stand_ins.examples(0, 1, size, 0)
    none = distance == NO_LPIPS or (context.random and not distance)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        judge = discriminator(channels, size).build()
        perceptual = _NoDistance() if none else lpips.published(Path(distance) if distance else None)
        basic = name == "ae-faces32" and not context.weights
        experiment = AutoencoderExperiment(net, judge, perceptual, run, settings.learning_rate(run), basic)
    _fit(context, experiment, net, _limited(examples), fitting, {"lpips": NO_LPIPS if none else distance,
                                                                 "data": folder})  # fmt: skip


class _NoDistance(nn.Module):
    """In the place of LPIPS, for a loss of pixels alone."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), 1, 1, 1)


def _own(context: Context) -> str:
    return context.name.partition("/")[2]


def _fresh(context: Context) -> BuiltGraph:
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        return registry.build(context.name, **context.options)


def _limited(examples: Data) -> Data:
    assert examples.validation is not None
    return Data(examples.train, data.Some(examples.validation, data.VALIDATION))


def _fit(
    context: Context,
    experiment: lightning.LightningModule,
    net: BuiltGraph,
    examples: Data,
    settings: Fit,
    identity: dict[str, str],
) -> None:
    """Trains or goes on; writes the network's weights, training.png and metrics.json."""
    identity = {**identity, "begins with": context.weights or "weights that are drawn"}
    folder = context.out / "training" / _own(context)
    found = fit(experiment.train(), examples, folder, settings, context.console, identity=identity,
                restart=context.fresh)  # fmt: skip
    last = found.history[-1]
    weights.save(net.eval(), context.file(context.name), {"steps": str(settings.steps)})
    curves = {"validation": [(mark["step"], mark["validation"] or 0.0) for mark in found.history]}
    pictures.curve(curves, context.out / "training.png", title=context.name, x="step", y="validation")
    figures = {"validation": last["validation"], "seconds": round(last["seconds"], 1), "settings": asdict(settings)}
    (context.out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    context.console.print(
        f"{context.file(context.name)}: {settings.steps} steps, validation {last['validation']:.3f}", highlight=False
    )
