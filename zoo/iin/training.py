"""Trains a network of the IIN and, below it, its first stage, into the folder of a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from flowkit.graph import BuiltGraph
from zoo import registry, weights
from zoo.iin.experiment import experiment
from zoo.iin.first_stages import FirstStage
from zoo.iin.interpreter import STAGE
from zoo.iin.stylize import StoredPairs
from zoo.iin.systems import System, dataset, system
from zoo.training.draws import First
from zoo.training.fit import Data, Fit, Fitted, fingerprint, fit
from zoo.verbs import Context


@dataclass(frozen=True)
class Plan:
    """What may differ from the published training.

    Arguments:
        data: folder of the data set.
        first: file (or published key) with the first stage's weights, ours or the authors'; the folder keeps them.
        steps: 0 for the table's; the decay of the learning rate moves along.
        batch: 0 for the table's; the learning rate is proportional to the samples of a step, as the authors' (iin 3.2).
        every: steps between validations; 0 for the table's, or all steps if they are fewer.
        validation: samples that are looked at then; 0 for all of the part.
        pairs: file of the verb ``pairs``, to train a flow in factors on; there is no validation then.
        precision, devices, accumulate, workers: as in :class:`zoo.training.fit.Fit`.
    """

    data: str = ""
    first: str = ""
    steps: int = 0
    batch: int = 0
    every: int = 0
    validation: int = 0
    pairs: str = ""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    devices: int = 1
    accumulate: int = 1
    workers: int = 0


def train(context: Context, plan: Plan, name: str | None = None, options: dict[str, object] | None = None) -> Fitted:
    """Trains ``name`` (by default what the command names), or goes on with it, and writes its weights.

    Its first stage is trained before, with the same plan, unless the folder or the plan has its weights.

    Arguments:
        options: of the network; by default the command's.

    Raises:
        ValueError: if the folder holds a run with other settings, or another first stage than the plan's; for a first
            stage or pairs that the network is not trained on.
    """
    if name is None:
        _check(context, plan)
    name = context.name if name is None else name
    known = system(name)
    options = dict(context.options if options is None else options)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        network = registry.build(name, **options)
    data = _data(known, plan, list(network.graph.output_shapes))
    first = None if known.first is None else _first(context, plan, known.first)
    steps = plan.steps or known.steps
    context.console.rule(f"[bold]{name}[/bold] ({network.graph.parameters:,} parameters)", align="left", style="dim")
    batch = plan.batch or known.batch
    samples = batch * plan.accumulate * plan.devices
    module = experiment(replace(known, rate=known.rate * samples / known.batch), network, first, steps)
    settings = Fit(
        steps,
        batch,
        min(plan.every or known.every, steps),
        plan.accumulate,
        plan.precision,
        plan.devices,
        seed=context.seed,
        workers=plan.workers,
        keep_best=known.adversary is None or known.kind != "autoencoder",  # no adversarial loss in validation
    )
    identity = {} if first is None else {STAGE: fingerprint(first.network)}
    if plan.pairs and known.kind == "factors":
        identity["pairs"] = hashlib.sha256(Path(plan.pairs).read_bytes()).hexdigest()[:16]
    done = fit(
        module,
        data,
        context.out / "training" / name,
        settings,
        context.console,
        identity=identity,
        restart=context.fresh,
    )
    _save(context, name, network, done, identity)
    return done


def _check(context: Context, plan: Plan) -> None:
    """ValueError for what the network that a command names cannot be trained on."""
    known = system(context.name)
    if plan.first and known.first is None:
        raise ValueError(f"first: {context.name} is a first stage; expected a flow")
    if plan.pairs and known.kind != "factors":
        raise ValueError(f"pairs: {context.name} is not trained on pairs; expected a flow in factors")


def _first(context: Context, plan: Plan, name: str) -> FirstStage:
    """The network below a flow: of the plan's file, which is copied into the folder, of the folder, or trained now."""
    file = context.file(name)
    if plan.first:
        given = FirstStage(registry.load(name, plan.first))
        if not file.is_file():
            weights.save(given.network, file, {"origin": plan.first})
        elif fingerprint(weights.load(file)) != fingerprint(given.network):
            raise ValueError(f"first: {str(file)!r} holds other weights than {plan.first!r}; take another folder")
        return given
    if not file.is_file():
        train(context, plan, name, {})
    return FirstStage(weights.load(file))


def _data(known: System, plan: Plan, names: list[str]) -> Data:
    pairs = known.kind == "factors"
    if pairs and plan.pairs:
        return Data(StoredPairs(plan.pairs))
    factors = names if pairs else None
    training, validation = (dataset(known.data, part, plan.data, pairs, factors) for part in ("train", "validation"))
    return Data(training, First(validation, plan.validation) if plan.validation else validation)


def _save(context: Context, name: str, network: BuiltGraph, done: Fitted, identity: dict[str, str]) -> None:
    weights.save(network.eval(), context.file(name), {**identity, "seconds": str(done.history[-1]["seconds"])})
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
