"""Network Fusion's training: a BigGAN's samples are described, and the flow learns the way back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from zoo import pictures, registry
from zoo.data.zcodes import TEST, training_of
from zoo.fusion import dequantising, experts, system
from zoo.fusion.experts import Files
from zoo.net2net.experiment import BASE_RATE, Net2BigGANFlow
from zoo.net2net.memory import remember
from zoo.training.fit import Data, Fit, Mark, fingerprint, fit, save_weights
from zoo.verbs import Context


@dataclass(frozen=True)
class Plan:
    """What is not of :class:`zoo.training.fit.Fit`.

    Arguments:
        learning_rate: of Adam; 0 for the authors', 4.5e-6 times the samples of a step.
        validation: of the authors' test set, samples that are looked at after every ``every`` steps.
    """

    learning_rate: float = 0.0
    validation: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate: expected a positive number, or 0 for the authors', got {self.learning_rate}"
            )
        if not 1 <= self.validation <= TEST // 2:
            raise ValueError(f"validation: expected 1 to {TEST // 2}, half of the test set, got {self.validation}")


def train(context: Context, files: Files, plan: Plan, settings: Fit) -> None:
    """Trains the flow, or goes on where it was interrupted; writes its weights, losses.png and metrics.json.

    The dequantiser of "tiny" is trained before, unless the folder has its weights or it is of a file.

    Raises:
        ValueError: for a name that is no flow's, files that do not fit, or a folder that holds another run.
    """
    if context.name == experts.dequantiser_name(context):
        if replace(files, biggan="") != Files() or plan.validation != Plan.validation:
            raise ValueError(f"{context.name}: expected biggan= alone of the experts, and no validation=")
        return dequantising.train(context, experts.generator(context, files), plan.learning_rate, settings)
    experts.check(context)
    if settings.batch < 2:
        raise ValueError(f"batch: expected at least 2, got {settings.batch}")
    own = context.file(experts.dequantiser_name(context))
    if context.name == experts.TINY and not (files.dequantiser or context.random or own.is_file()):
        dequantising.train(context, experts.generator(context, files), 0.0, dequantising.FIT)
    module = experiment(context, files, plan, settings)
    generator = module.experts.target
    z, chosen = system.held_out(generator, plan.validation, "validation")
    data = Data(
        training_of(generator.classes, system.latent_of(generator)),
        [{"z": code, "class": label} for code, label in zip(z, chosen, strict=True)],
    )
    folder = context.out / "training" / context.name
    identity = {"experts": fingerprint(module.experts)}
    done = fit(module, data, folder, settings, context.console, identity=identity, restart=context.fresh)
    file = save_weights(context.out, context.file(context.name).stem, module.flow.eval(), {"history": done.history})
    remember(context, asdict(files.absolute()))
    _report(context, done.history, asdict(settings) | {"learning_rate": module.learning_rate})
    context.console.print(f"weights: {file}", highlight=False, soft_wrap=True)


def experiment(context: Context, files: Files, plan: Plan, settings: Fit) -> Net2BigGANFlow:
    """The module that is trained: a fresh flow between the experts."""
    generator = experts.generator(context, files)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        flow = registry.build(context.name, **context.options)
    system.check(context.name, flow, generator)
    describe = experts.describer(context, files, system.condition_of(flow))
    rate = plan.learning_rate or BASE_RATE * settings.batch * settings.accumulate * settings.devices
    return Net2BigGANFlow(flow, generator, describe, nn.Identity(), experts.dequantiser(context, files), rate)


def _report(context: Context, history: list[Mark], settings: dict[str, object]) -> None:
    scores = [(mark["step"], mark["validation"]) for mark in history if mark["validation"] is not None]
    curves = {"training": [(mark["step"], mark["train"]) for mark in history], "held out": scores}
    pictures.curve(curves, context.out / "losses.png", title="Negative log-likelihood of BigGAN's latents", y="nats")
    figures = {
        "first_loss": history[0]["train"],
        "last_loss": history[-1]["train"],
        "first_validation": scores[0][1],
        "best_validation": min(score for _, score in scores),
        "seconds": history[-1]["seconds"],
        "settings": settings,
    }
    (context.out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    context.console.print(
        f"held out: loss {figures['first_validation']:.2f} after {history[0]['step']} steps, "
        f"{figures['best_validation']:.2f} at best, of {history[-1]['step']} steps",
        highlight=False,
    )
