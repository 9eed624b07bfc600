"""``zoo demo invariances/digits`` and ``.../animalfaces``: train, measure, draw; trained networks are kept."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from zoo.invariances import evaluation, opening, runs, tasks, views
from zoo.invariances.small import CONCEPTS, CUTS
from zoo.invariances.system import System
from zoo.training.batches import seeded
from zoo.training.stage import Trained, forget
from zoo.training.trainer import one_thread
from zoo.verbs import Context

EPSILON = {"digits": 0.15, "animalfaces": 0.02}
"""Of the attack. Digits have few pixels, each of which has to move further."""
SHOWN = 8  # images in a picture
PICTURES = ("layers", "reconstruct", "mix", "interpolate", "attack", "video", "texture", "explained_latent",
            "explained_concepts")  # fmt: skip
"""Those of every demo; there are more for each cut and concept."""


def run(context: Context, data: str, draws: int, epsilon: float) -> None:
    """The demo of a small system.

    Raises:
        ValueError: for the name of a published network, fewer than 2 draws or a negative epsilon.
    """
    if draws < 2 or epsilon < 0:
        raise ValueError(
            f"draws, epsilon: expected 2 draws or more and epsilon of 0 or more, got {draws} and {epsilon}"
        )
    context.out.mkdir(parents=True, exist_ok=True)
    with one_thread():
        task = opening.task(context, data)
        if context.fresh:
            _forget(context.out, task.name)
        sizes = ", ".join(f"{len(part)} {part_name}" for part_name, part in task.parts.items())
        context.console.print(f"{task.name}: {sizes}", highlight=False)
        done = runs.train(task, context, context.console)
        begun = time.perf_counter()
        context.console.rule("[bold]Pictures and figures[/bold]", align="left", style="dim")
        system = runs.system(task, context)
        metrics = _figures(system, context, draws, epsilon or EPSILON[task.name])
        metrics["nll"] = _likelihoods(task, context, done)
        metrics["accuracy"] = float((system.classify(system.images[:]) == task.parts["test"].labels).float().mean())
        metrics["settings"] = {"seed": context.seed, "draws": draws, **asdict(task.plan)}
        trained = sum(stage.seconds for stage in done.values())
        metrics["seconds"] = round(trained + time.perf_counter() - begun, 1)
        (context.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        context.console.print(_likelihood_table(metrics["nll"]))
        context.console.print(
            f"classifier accuracy {metrics['accuracy']:.1%}, {metrics['seconds']:.0f} s; pictures and metrics.json in "
            f"{context.out}",
            highlight=False,
        )


def _figures(system: System, context: Context, draws: int, epsilon: float) -> dict[str, Any]:
    """All pictures, and what they were drawn from in figures."""
    noise, out = seeded(context.seed, *b"demo"), context.out
    some = system.images[:SHOWN]
    metrics: dict[str, Any] = {}
    views.layers(system, some[3:4], out / "layers.png", draws, noise)
    for name, layer in system.layers.items():
        views.samples(system, name, layer, some, out / f"sample_{name}.png", draws, noise)
        views.swaps(system, name, layer, some[:6], out / f"swap_{name}.png")
    metrics["round_trip"] = views.reconstructions(system, dict(system.layers), some, out / "reconstruct.png")
    views.mixes(system, some[[2, 5]], out / "mix.png")
    views.interpolations(system, dict(system.layers), some[[2, 5]], out / "interpolate.png", 7)
    last = dict([*system.layers.items()][1:])
    examples = system.images[:], system.labels
    metrics["attack"] = views.attack(system, last, examples, out / "attack.png", epsilon, 6, noise)
    metrics["attack"]["epsilon"] = epsilon
    final = [*system.layers.values()][-1]
    views.film(system, final, opening.frames(system, ""), opening.still(system, ""), out / "video.gif")
    if system.biases:
        metrics["texture"] = views.texture(system, some, out / "texture.png", 4, noise)
    if system.concepts is not None:
        metrics["edit"] = {
            concept: views.edits(system, concept, (some, some.roll(-1, 0)), out / f"edit_{concept}.png")
            for concept in system.names
        }
    found = {
        name: evaluation.measure(system, layer, system.features, draws, noise) for name, layer in system.layers.items()
    }
    context.console.print(evaluation.measures_table(found))
    explained = evaluation.explain(system, system.images[:100], draws, 5, noise)
    evaluation.draw_explanation(explained, out)
    context.console.print(evaluation.explanation_table(explained))
    metrics["cuts"] = {name: asdict(figures) for name, figures in found.items()}
    return {**metrics, "explained": asdict(explained)}


def _likelihoods(task: tasks.Task, context: Context, done: dict[str, Trained]) -> dict[str, dict[str, float]]:
    """For each cut, the negative log-likelihood of held-out latents: at the start, and at the best validation."""
    made = {stage.name: stage for stage in (make() for make in runs.stages(task, context, done))}
    found = {}
    for cut in CUTS:
        name = f"invariances-{task.name}-{cut}"
        best = min(done[name].history, key=lambda point: point["validation"])
        found[cut] = {"initial": runs.initial_score(made[name]), "final": best["validation"]}
    return found


def _likelihood_table(found: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Negative log-likelihood of held-out latents, nats", title_justify="left")
    for heading in ("cut", "after the actnorms' initialisation", "trained"):
        table.add_column(heading, justify="left" if heading == "cut" else "right")
    for cut, values in found.items():
        table.add_row(cut, f"{values['initial']:.2f}", f"{values['final']:.2f}")
    return table


def _forget(folder: Path, run: str) -> None:
    """Removes the files of the demo of a run, such as "digits", and nothing else that may lie there."""
    views_of = [*PICTURES, *(f"{view}_{cut}" for view in ("sample", "swap") for cut in CUTS)]
    pictures = [f"{name}.png" for name in [*views_of, *(f"edit_{concept}" for concept in CONCEPTS)]]
    weights = [
        f"invariances-{run}{more}" for more in (".safetensors", "-*.safetensors", ".checkpoints", "-*.checkpoints")
    ]
    forget(folder, *pictures, "video.gif", "metrics.json", *weights)
