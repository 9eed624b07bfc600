"""``zoo demo net2net/emoji`` and ``net2net/animalfaces``: train, measure, draw; trained networks are kept."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.nn.functional import normalize

from zoo import pictures
from zoo.data.emoji import ATTRIBUTION
from zoo.metrics.density import linear_gaussian_bits_per_dim
from zoo.metrics.retrieval import directions, found_among, linear_reader, most_likely_among
from zoo.net2net import opening, runs, views
from zoo.net2net.runs import Task
from zoo.runs.autoencoder import scaled
from zoo.runs.translator import Translation
from zoo.training.batches import seeded
from zoo.training.stage import Stage
from zoo.verbs import Context

AMONG, DRAWS = 20, 8
SHOWN = 12  # held-out examples in a picture
ASKED = ("red car", "yellow smiling face", "green leaf", "blue heart", "cat", "black arrow", "purple flower", "house")
"""Prompts that are no Unicode names."""
BETWEEN = (("red apple", "blue book"), ("sun", "moon"), ("green tree", "person"))
FEATURES = 8  # pixels of a side of the pictures compared in "pixels"


def run(context: Context, task: Task) -> dict[str, Any]:
    """The whole run; returns and writes the figures."""
    context.out.mkdir(parents=True, exist_ok=True)
    if task.parts["test"].texts:
        context.console.print(ATTRIBUTION, highlight=False)
    sizes = ", ".join(f"{len(part)} {name}" for name, part in task.parts.items())
    context.console.print(f"net2net/{task.name}: {sizes} pictures", highlight=False)
    system, trained, flow = runs.train(task, context)
    context.console.rule("[bold]3/3 Figures and pictures[/bold]", align="left", style="dim")
    begun = time.perf_counter()
    figures = measure(system, task, context.seed)
    figures["nll_bits_per_dim_untrained"] = _untrained(flow)
    draw(system, task, context)
    history = {name: [(p["epoch"], p[key]) for p in trained["flow"].history] for name, key in  # type: ignore[literal-required]
               (("training", "train"), ("validation", "validation"))}  # fmt: skip
    pictures.curve(
        history, context.out / "curves.png", title="The flow's code length of latents", x="epoch", y="bits/dim"
    )
    seconds = sum(stage.seconds for stage in trained.values()) + time.perf_counter() - begun
    figures |= {"seconds": round(seconds, 1), "settings": {"seed": context.seed, **asdict(task.plan)}}
    show(context, figures, "metrics.json")
    return figures


def show(context: Context, figures: dict[str, Any], file: str) -> None:
    """Prints figures as a table and writes them as JSON."""
    context.out.mkdir(parents=True, exist_ok=True)
    (context.out / file).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = Table(title="On held-out pictures", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in figures.items():
        if isinstance(value, float):
            table.add_row(key, f"{value:.3f}")
    context.console.print(table)


@torch.no_grad()
def measure(system: Translation, task: Task, seed: int) -> dict[str, Any]:
    """Code length, round trip, reconstruction; whether generated pictures are found by their condition's real one.

    "features": nearest mean of the autoencoder's posterior; "pixels": nearest picture at 8 x 8 pixels. The other way
    round, whether their condition is found: by a linear reader of pictures (of one sample, of all of a condition, and,
    as the most that can be had, of the real picture), and by the flow's density of the real picture.
    """
    train, test = task.parts["train"], task.parts["test"]
    images, known = scaled(test.images), runs.conditions(task, test)
    mean, deviation = system.autoencoder.posterior(images)
    latents = mean + deviation * torch.randn(mean.shape, generator=seeded(seed, *b"test"))
    fitted, spread = system.autoencoder.posterior(scaled(train.images))
    fitted = fitted + spread * torch.randn(fitted.shape, generator=seeded(seed, *b"fit"))
    v = torch.randn(DRAWS, len(test), mean.shape[1], generator=seeded(seed, *b"draws"))
    drawn = torch.stack([system.picture(noise, known) for noise in v], 1)
    features = system.autoencoder.posterior(drawn.flatten(0, 1))[0].unflatten(0, drawn.shape[:2])
    among = min(AMONG, len(test))
    back = system.density.bijection.inverse(system.residual(images, known), known)[0]
    figures = {
        "nll_bits_per_dim": float(system.density.bits_per_dim(latents, known).mean()),
        "found_by_features": found_among(features, mean, among, seed),
        "found_by_pixels": found_among(_small(drawn), _small(images), among, seed),
        "chance": 1 / among,
        "reconstruction_error": float((system.autoencoder.decode(mean) - images).abs().mean()),
        "round_trip_error": float((back - mean).abs().max()),
        "test_examples": len(test),
    }
    log_probs = [system.density.log_prob(mean, one.expand(len(mean), -1)) for one in known[:, None]]
    figures["condition_found_by_density"] = most_likely_among(torch.stack(log_probs, 1), among, seed)
    said = runs.conditions(task, train)
    figures |= _read(system, scaled(train.images), said, features, mean, known, among, seed)
    if len(said) > said.shape[1] + mean.shape[1]:  # else a linear map fits the training part without a rest
        figures["linear_gaussian_bits_per_dim"] = linear_gaussian_bits_per_dim(fitted, said, latents, known)
    return figures


def _read(
    system: Translation,
    images: Tensor,
    said: Tensor,
    features: Tensor,
    mean: Tensor,
    known: Tensor,
    among: int,
    seed: int,
) -> dict[str, float]:
    """Whether a reader of pictures, fitted to those of the training part, finds the condition of a generated one."""
    read = linear_reader(system.autoencoder.posterior(images)[0], said)
    wanted, drawn = directions(known, said), read(features)
    together = normalize(drawn.mean(1, keepdim=True), dim=2)
    return {
        "condition_found_of_sample": found_among(drawn, wanted, among, seed),
        "condition_found_of_all_samples": found_among(together, wanted, among, seed),
        "condition_found_of_real": found_among(read(mean)[:, None], wanted, among, seed),
    }


def _small(images: Tensor) -> Tensor:
    return (
        torch.nn.functional.adaptive_avg_pool2d(images.flatten(0, -4), FEATURES)
        .flatten(1)
        .unflatten(0, images.shape[:-3])
    )


def _untrained(flow: Stage) -> float:
    """The code length of the validation part after the first batch has set the actnorms, before any step."""
    from zoo.runs.translator import density

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(flow.seed)
        network = flow.graph.build()
        means, _, conditions = next(iter(flow.batches))
        network(means[:, 0], conditions[:, 0])
        latents, known = flow.validation
        return float(density(network.eval()).bits_per_dim(latents, known).mean())


def draw(system: Translation, task: Task, context: Context) -> None:
    """samples.png, reconstruct.png, swap.png and interpolate.png; for texts also prompts.png, with free prompts."""
    opened = opening.of(context, task, system, SHOWN)
    views.samples(opened, 6)
    views.reconstructions(opened)
    views.swaps(opening.of(context, task, system, 7))
    if opened.read is not None:
        views.prompts(opened, list(ASKED), 8)
        ends = [opened.read(list(pair)) for pair in BETWEEN]
        views.walk(opened, [(a, b) for a, b in ends], 8, [" to ".join(pair) for pair in BETWEEN])
    else:
        views.interpolations(opening.of(context, task, system, 4), 8)
