"""Trains a network of the IIN and, below it, its first stage, into the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from flowkit.graph import BuiltGraph
from zoo import registry, weights
from zoo.iin.experiment import experiment
from zoo.iin.first_stages import FirstStage
from zoo.iin.stylize import StoredPairs
from zoo.iin.systems import System, dataset, system
from zoo.training.fit import Data, Fit, Fitted, fingerprint, fit
from zoo.verbs import Context


@dataclass(frozen=True)
class Plan:
    """What may differ from the published training.

    Arguments:
        data: folder of the data set.
        steps: 0 for the table's; the decay of the learning rate moves along.
        batch: 0 for the table's; the learning rate does not change.
        pairs: file of the verb ``pairs``, to train a flow in factors on; there is no validation then.
        precision, devices, accumulate, workers: as in :class:`zoo.training.fit.Fit`.
    """

    data: str = ""
    steps: int = 0
    batch: int = 0
    pairs: str = ""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    devices: int = 1
    accumulate: int = 1
    workers: int = 0


def train(context: Context, plan: Plan, name: str | None = None, options: dict[str, object] | None = None) -> Fitted:
    """Trains ``name`` (by default what the command names), or goes on with it, and writes its weights.

    Its first stage is trained before, with the same plan, unless the folder has its weights.

    Arguments:
        options: of the network; by default the command's.

    Raises:
        ValueError: if the folder holds a run with other settings.
    """
    name = context.name if name is None else name
    known = system(name)
    options = dict(context.options if options is None else options)
    first = None
    if known.first is not None:
        if not context.file(known.first).is_file():
            train(context, plan, known.first, {})
        first = FirstStage(weights.load(context.file(known.first)))
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        network = registry.build(name, **options)
    steps = plan.steps or known.steps
    context.console.rule(f"[bold]{name}[/bold] ({network.graph.parameters:,} parameters)", align="left", style="dim")
    module = experiment(known, network, first, steps)
    settings = Fit(
        steps,
        plan.batch or known.batch,
        _every(steps, known),
        plan.accumulate,
        plan.precision,
        plan.devices,
        seed=context.seed,
        workers=plan.workers,
        keep_best=known.adversary is None or known.kind != "autoencoder",  # no adversarial loss in validation
    )
    done = fit(
        module,
        _data(known, plan),
        context.out / "training" / name,
        settings,
        context.console,
        identity={} if first is None else {"first stage": fingerprint(first.network)},
        restart=context.fresh,
    )
    _save(context, name, network, done)
    return done


def _data(known: System, plan: Plan) -> Data:
    pairs = known.kind == "factors"
    if pairs and plan.pairs:
        return Data(StoredPairs(plan.pairs))
    return Data(*(dataset(known.data, part, plan.data, pairs) for part in ("train", "validation")))


def _save(context: Context, name: str, network: BuiltGraph, done: Fitted) -> None:
    weights.save(network.eval(), context.file(name), {"seconds": str(done.history[-1]["seconds"])})
    seen = [mark for mark in done.history if mark["validation"] is not None]
    best = done.checkpoint.stem == "best"
    last = min(seen, key=lambda mark: mark["validation"] or 0.0) if best else done.history[-1]
    validation = "" if last["validation"] is None else f", validation {last['validation']:.3f}"
    context.console.print(
        f"  {context.file(name)}: after {last['step']} steps and {last['seconds']:.0f} s, "
        f"loss {last['train']:.3f}{validation}",
        highlight=False,
        soft_wrap=True,
    )


def _every(steps: int, known: System) -> int:
    """Of the divisors of a run's steps the one whose ratio to the table's steps between validations is nearest to 1."""
    divisors = [count for count in range(1, steps + 1) if steps % count == 0]
    return min(divisors, key=lambda count: max(count / known.every, known.every / count))
