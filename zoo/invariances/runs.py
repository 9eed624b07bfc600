"""The stages of a small system's training, and the system that they leave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from zoo import registry
from zoo.data.colours import large_digits
from zoo.invariances.autoencoders import SmallAutoencoder
from zoo.invariances.small import CONCEPTS, CUTS
from zoo.invariances.stages import (
    ClassifierExperiment,
    ConceptExperiment,
    Expert,
    InvarianceExperiment,
    View,
)
from zoo.invariances.system import Layer, System
from zoo.invariances.tasks import DigitPairs, Schedule, Task, biased_view
from zoo.runs.autoencoder import AutoencoderExperiment
from zoo.runs.stages import stage
from zoo.training.batches import Batches, mixed, seeded
from zoo.training.experiment import Experiment
from zoo.training.stage import Stage, Trained, run
from zoo.verbs import Context


def train(task: Task, context: Context, console: Console) -> dict[str, Trained]:
    """Trains what ``context.out`` does not hold yet; what each stage left, by its name.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the next call goes on from the last checkpoint.
    """
    done: dict[str, Trained] = {}
    for make in stages(task, context, done):
        made = make()
        done[made.name] = run(made, context.out, console)
    return done


def stages(task: Task, context: Context, done: dict[str, Trained]) -> list[Callable[[], Stage]]:
    """The stages in order; each is made when those before it are ``done``."""
    name, view = f"invariances-{task.name}", task.view
    experts = [partial(_classifier, task, context, "", view), partial(_autoencoder, task, context)]
    flows = [partial(_invariance, task, context, done, name, cut, cut) for cut in CUTS]
    if task.name != "digits":
        return [*experts, *flows]
    biased = f"{name}-biased"
    return [
        *experts,
        partial(_classifier, task, context, "-biased", biased_view),
        *flows,
        partial(_invariance, task, context, done, biased, "dense", "biased-dense"),
        partial(_concepts, task, context, done),
    ]


def initial_score(made: Stage) -> float:
    """The validation score of a flow just after its actnorms are initialised, by the first batch of its training."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(mixed(made.seed))
        experiment = made.experiment(made.graph.build())
        torch.manual_seed(mixed(made.seed, 0))
        batches = Batches(*made.batches.tensors, size=made.batches.size, seed=made.batches.seed)
        experiment.loss(next(iter(batches)))
        return float(experiment.eval().score(made.validation))


def system(task: Task, context: Context) -> System:
    """The trained system of ``context.out``, or one with random weights; FileNotFoundError if it is not trained."""
    name = f"invariances/{task.name}"
    network = context.network(name)
    layers = {
        cut: Layer(partial(_output, network, index), context.network(f"{name}-{cut}")) for index, cut in enumerate(CUTS)
    }
    biases, concepts = {}, None
    if task.name == "digits":
        biased = partial(_output, context.network(f"{name}-biased"), CUTS.index("dense"))
        biases = {"shapes": layers["dense"], "colours": Layer(biased, context.network(f"{name}-biased-dense"))}
        concepts = context.network(f"{name}-concepts")
    return System(
        layers,
        partial(_output, network, len(CUTS) - 1),
        SmallAutoencoder(context.network(f"{name}-autoencoder")),
        partial(_output, network, CUTS.index("dense")),
        task.parts["test"].images,
        task.parts["test"].labels,
        biases,
        concepts,
        CONCEPTS if concepts is not None else (),
    )


def _output(network: Any, index: int, images: Tensor) -> Tensor:
    value: Tensor = network(images)[index]
    return value


def _encode(autoencoder: SmallAutoencoder, images: Tensor) -> Tensor:
    mean, deviation = autoencoder.posterior(images)
    return mean + deviation * torch.randn_like(mean)


def _classifier(task: Task, context: Context, suffix: str, view: View) -> Stage:
    part = task.parts["validation"]
    images = part.images
    if view is biased_view:
        with torch.random.fork_rng():
            torch.manual_seed(mixed(context.seed, *b"biased"))
            images = biased_view(large_digits(context.seed)["validation"].images, part.labels)
    return _stage(
        task, context, suffix, f"A classifier{suffix and ' of colours'}", "nats", task.plan.classifier,
        partial(ClassifierExperiment, view=view), (images, part.labels),
    )  # fmt: skip


def _autoencoder(task: Task, context: Context) -> Stage:
    images = task.parts["validation"].images
    latent = registry.graph(f"invariances/{task.name}-autoencoder").output_shapes["latent"][0] or 0
    noise = torch.randn(len(images), latent, generator=seeded(context.seed, *b"autoencoder"))
    experiment = partial(AutoencoderExperiment, view=task.view)
    return _stage(
        task, context, "-autoencoder", "An autoencoder", f"{task.plan.error} error + KL", task.plan.autoencoder,
        experiment, (images, noise), options={"error": task.plan.error, "prior_weight": task.plan.prior_weight},
    )  # fmt: skip


def _invariance(
    task: Task, context: Context, done: dict[str, Trained], classifier: str, cut: str, suffix: str
) -> Stage:
    autoencoder = done[f"invariances-{task.name}-autoencoder"]
    represent: Expert = partial(_output, done[classifier].network, CUTS.index(cut))
    encode = partial(_encode, SmallAutoencoder(autoencoder.network))
    images = task.parts["validation"].images
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(mixed(context.seed, *b"invariances"))
        validation = encode(images), represent(images)
    experiment = partial(InvarianceExperiment, view=task.view, represent=represent, encode=encode)
    return _stage(
        task, context, f"-{suffix}", f"The flow of the cut {suffix}", "nats", task.plan.flow, experiment, validation,
        earlier=(done[classifier].fingerprint, autoencoder.fingerprint),
    )  # fmt: skip


def _concepts(task: Task, context: Context, done: dict[str, Trained]) -> Stage:
    autoencoder = done[f"invariances-{task.name}-autoencoder"]
    encode = partial(_encode, SmallAutoencoder(autoencoder.network))
    pairs = DigitPairs(task.parts["train"].images, task.parts["train"].labels)
    held_out = large_digits(context.seed)["validation"]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(mixed(context.seed, *b"concepts"))
        first, second, shared = DigitPairs(held_out.images, held_out.labels)(held_out.images, held_out.labels)
        validation = encode(first), encode(second), shared
    return _stage(
        task, context, "-concepts", "The flow to concepts", "nats", task.plan.flow,
        partial(ConceptExperiment, pairs=pairs, encode=encode), validation, earlier=(autoencoder.fingerprint,),
    )  # fmt: skip


def _stage(
    task: Task,
    context: Context,
    suffix: str,
    title: str,
    unit: str,
    schedule: Schedule,
    experiment: Callable[..., Experiment],
    validation: tuple[Tensor, ...],
    options: dict[str, Any] | None = None,
    earlier: tuple[str, ...] = (),
) -> Stage:
    part, plan = task.parts["train"], task.plan
    return stage(
        f"invariances-{task.name}{suffix}",
        title,
        unit,
        registry.graph(f"invariances/{task.name}{suffix}"),
        experiment,
        training=(part.images, part.labels),
        validation=validation,
        epochs=schedule.epochs,
        every=plan.every,
        batch=schedule.batch,
        learning_rate=schedule.rate,
        weight_decay=plan.weight_decay,
        seed=context.seed,
        options=options or {},
        data=f"{task.name} {float(part.images.double().sum()):.6f}",
        earlier=earlier,
    )
