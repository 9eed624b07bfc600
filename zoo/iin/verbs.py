"""The IIN's verbs: train, dims, sample, reconstruct, swap, cross, interpolate, walk, respond, evaluate, pairs, demo.

Images come from the test part of the configuration's data set: the digits at hand, else ``data=FOLDER``. ``first=FILE``
takes the first stage's weights from a file, ours or the authors'; without, from the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from zoo.verbs import Context, at_least_one, verb

Features = Literal["auto", "inception", "classifier", "none"]


@verb
def train(
    context: Context,
    *,
    data: str = "",
    first: str = "",
    steps: int = 0,
    batch: int = 0,
    every: int = 0,
    validation: int = 0,
    pairs: str = "",
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    devices: int = 1,
    accumulate: int = 1,
    workers: int = 0,
) -> None:
    """Trains the network, and its first stage before it if the folder has none; goes on where it was interrupted.

    The learning rate is proportional to the samples of a step, batch x accumulate x devices, as the authors' is.
    """
    from zoo.iin.training import Plan
    from zoo.iin.training import train as run

    context.begins_anew()
    run(context, Plan(data, first, steps, batch, every, validation, pairs, precision, devices, accumulate, workers))


@verb
def dims(context: Context, *, data: str = "", first: str = "", count: int = 10_000) -> None:
    """Estimates how many dimensions each factor needs, from pairs of the test part."""
    from zoo.iin.work import drawn_pairs, estimate

    at_least_one(count=count)
    found, names = estimate(context, drawn_pairs(context, data, count), first)
    for name, score, size in zip(names, found.scores.tolist(), found.sizes, strict=True):
        context.console.print(f"{name:<12} score {score:7.4f}   dimensions {size:4d}", highlight=False)
    context.console.print(f"sizes={','.join(map(str, found.sizes))}", highlight=False)


@verb
def sample(context: Context, *, first: str = "", rows: int = 6, columns: int = 10) -> None:
    """Decodes samples of N(0, 1) that went back through the flow."""
    from zoo.iin import show
    from zoo.iin.interpreter import interpreter

    at_least_one(rows=rows, columns=columns)
    with _picture(context, "samples") as file:
        show.samples(interpreter(context, first), context.seed, rows, columns, file)


@verb
def reconstruct(context: Context, *, data: str = "", first: str = "", count: int = 10) -> None:
    """Decodes latents without an edit, straight and through the flow and back."""
    from zoo.iin import analysis, show
    from zoo.iin.interpreter import interpreter
    from zoo.iin.work import test_images

    at_least_one(count=count)
    parts, images = interpreter(context, first), test_images(context, data, count)["image"]
    errors = analysis.identity_errors(parts, images)
    context.console.print("largest error after no edit: " + ", ".join(f"{k} {v:.1e}" for k, v in errors.items()))
    with _picture(context, "reconstructions") as file:
        show.reconstructions(parts, images, file)


@verb
def swap(context: Context, *, factor: int | str = 0, data: str = "", first: str = "", count: int = 8) -> None:
    """Takes a factor (by name or number) from the image below: swapped pairs, and swapped back."""
    from zoo.iin import show
    from zoo.iin.interpreter import interpreter
    from zoo.iin.work import test_images

    at_least_one(count=count)
    parts, images = interpreter(context, first), test_images(context, data, 2 * count)["image"]
    index = parts.index(str(factor))
    with _picture(context, f"swap_{factor}") as file:
        error = show.swaps(parts, images[:count], images[count:], index, file)
    context.console.print(f"swapped twice: largest error of the images {error:.1e}", highlight=False)


@verb
def cross(context: Context, *, factor: int | str = 0, data: str = "", first: str = "", count: int = 6) -> None:
    """A table: the column's image gives the factor, the row's all others."""
    from zoo.iin import show
    from zoo.iin.interpreter import interpreter
    from zoo.iin.work import test_images

    at_least_one(count=count)
    parts, images = interpreter(context, first), test_images(context, data, count)["image"]
    with _picture(context, f"cross_{factor}") as file:
        show.crossed(parts, images, parts.index(str(factor)), file)


@verb
def interpolate(
    context: Context, *, factor: int | str = "", data: str = "", first: str = "", count: int = 5, steps: int = 9
) -> None:
    """Straight lines from image to image: in the latent, in all factors, or in one factor alone."""
    from zoo.iin import show
    from zoo.iin.interpreter import interpreter
    from zoo.iin.work import test_images

    at_least_one(count=count)
    parts, images = interpreter(context, first), test_images(context, data, 2 * count)["image"]
    index = parts.index(str(factor)) if factor != "" else None
    with _picture(context, f"interpolate_{'all' if factor == '' else factor}") as file:
        show.lines(parts, images[:count], images[count:], steps, index, file)


@verb
def walk(
    context: Context,
    *,
    factor: int | str = 0,
    rho: float = 0.9,
    data: str = "",
    first: str = "",
    count: int = 5,
    steps: int = 12,
) -> None:
    """Random walks in one factor; the others stay."""
    from zoo.iin import show
    from zoo.iin.interpreter import interpreter
    from zoo.iin.work import test_images

    at_least_one(count=count, steps=steps)
    parts, images = interpreter(context, first), test_images(context, data, count)["image"]
    with _picture(context, f"walk_{factor}") as file:
        show.walks(parts, images, parts.index(str(factor)), steps, rho, context.seed, file)


@verb
def respond(
    context: Context, *, image: int = 0, rho: float = 0.9, steps: int = 1_000, data: str = "", first: str = ""
) -> None:
    """Response analysis: how a classifier's answer varies while one factor of an image walks at random."""
    from zoo.iin.work import responses, test_images

    at_least_one(steps=steps)
    if image < 0:
        raise ValueError(f"image: expected 0 or more, got {image}")
    chosen = test_images(context, data, image + 1)
    found = responses(context, chosen["image"][image], steps, rho, first)
    context.console.print(f"class {int(chosen['class'][image])}, {steps} steps a factor", highlight=False)
    for name, response in found.items():
        counts = ", ".join(f"{value}: {count}" for value, count in response.counts.items())
        context.console.print(f"{name:<12} sigma {response.sigma:6.3f}   {counts}", highlight=False)


@verb
def evaluate(context: Context, *, data: str = "", first: str = "", features: Features = "auto", count: int = 0) -> None:
    """Loss, and the published protocol's four Fréchet distances, or a classifier's accuracy; count=0: as published.

    ``features=none`` leaves out what needs Inception or LPIPS.
    """
    from zoo.iin.work import figures

    _write(context, "evaluate", figures(context, data, first, features, count))


@verb
def pairs(
    context: Context, *, example1: str = "", example2: str = "", factor: str = "colour", data: str = "", count: int = 8
) -> None:
    """Pairs that share a sketched concept: images in the style of one of two examples: files, or training images."""
    from zoo.iin.work import sketch

    at_least_one(count=count)
    with _picture(context, f"pairs_{factor}") as file:
        sketch(context, example1, example2, factor, data, count, file)


@verb
def demo(context: Context) -> None:
    """Trains on coloured digits, estimates dimensions, swaps factors, measures all of it, draws every picture."""
    from zoo.iin.demo import run

    _write(context, "metrics", run(context))


@contextmanager
def _picture(context: Context, name: str) -> Iterator[Path]:
    """Where to draw; it is told once it is drawn."""
    path = context.out / f"{name}.png"
    yield path
    context.console.print(f"{path}", highlight=False, soft_wrap=True)


def _write(context: Context, name: str, figures: dict[str, Any]) -> None:
    """Prints figures and writes them to ``<name>.json``."""
    for key, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        context.console.print(f"{key}: {shown}", highlight=False, soft_wrap=True)
    context.out.mkdir(parents=True, exist_ok=True)
    (context.out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
