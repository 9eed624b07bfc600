"""Network Fusion's verbs at work: networks put together, pictures and figures written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from zoo import pictures
from zoo.data.images import nchw, smallest_centre
from zoo.fusion import evaluation, experts, system
from zoo.fusion.experts import Files
from zoo.fusion.system import Fusion
from zoo.fusion.training import Plan, train
from zoo.net2net.memory import remembered
from zoo.training.batches import seeded
from zoo.training.fit import Fit
from zoo.verbs import Context


def opened(context: Context, files: Files) -> tuple[Fusion, Context, Files]:
    """The flow that a command names, trained in its folder, of ``--weights`` or ``--random``, and its BigGAN.

    Also the command and its files with what the training in the folder was given, where the command names nothing.

    Raises:
        ValueError: if the flow does not fit the BigGAN; FileNotFoundError if it is not trained.
    """
    flow = context.network()
    context, paths = remembered(context, asdict(files))
    generator = experts.generator(context, Files(**paths))
    system.check(context.name, flow, generator)
    return Fusion(generator, flow), context, Files(**paths)


def sample(context: Context, files: Files, count: int, samples: int) -> None:
    """samples.png: held-out images of the BigGAN, then pictures for their descriptions."""
    experts.check(context, count=count, samples=samples)
    fusion, context, files = opened(context, files)
    describe = experts.describer(context, files, fusion.dim)
    images = system.painted(fusion.generator, *system.held_out(fusion.generator, count))
    _draw(context, fusion, describe(images), samples, "samples", first=images)


def text2img(context: Context, files: Files, prompts: list[str], samples: int) -> None:
    """prompts.png: a prompt a row."""
    experts.check(context, samples=samples)
    if not prompts:
        raise ValueError("prompt: expected at least one text, got none")
    fusion, context, files = opened(context, files)
    known = experts.reader(context, files, fusion.dim)(prompts)
    _draw(context, fusion, known, samples, "prompts", labels=prompts)


def sketch2img(context: Context, files: Files, sketch: str, samples: int) -> None:
    """sketches.png: the sketch, then pictures for it."""
    from zoo.data.folders import read_image

    experts.check(context, samples=samples)
    if context.name == experts.SENTENCES:
        raise ValueError(f"sketch2img: {context.name} is conditioned on sentences; use text2img")
    if not Path(sketch).is_file():
        raise FileNotFoundError(f"sketch: expected sketch=FILE, an image; there is no file {sketch!r}")
    fusion, context, files = opened(context, files)
    describe = experts.describer(context, files, fusion.dim)
    size = fusion.generator.net.graph.output_shapes["image"][1]
    image = nchw(smallest_centre(read_image(Path(sketch)), size))[None]
    _draw(context, fusion, describe(image), samples, "sketches", first=image)


def evaluate(context: Context, files: Files, count: int, samples: int) -> None:
    """evaluate.json and similarity.png: whether pictures are described as they were asked for."""
    experts.check(context, count=count, samples=samples)
    fusion, context, files = opened(context, files)
    describe = experts.describer(context, files, fusion.dim)
    dequantise = experts.dequantiser(context, files)
    found = evaluation.measure(
        fusion, dequantise, describe, system.held_out(fusion.generator, count), samples, context.seed
    )
    figures = found.figures()
    lines = {"to the own description": found.own, "to those of others": found.others}
    shares = torch.linspace(0, 1, found.own.numel()).tolist()
    pictures.curve(
        {name: [*zip(shares, values.flatten().sort().values.tolist(), strict=True)] for name, values in lines.items()},
        context.out / "similarity.png",
        title=f"Cosine of a picture's description, {count} x {samples} pictures",
        x="share of the pictures below",
        y="cosine",
    )
    for name, value in figures.items():
        context.console.print(f"{name}: {value:.4g}", highlight=False)
    settings = {"count": count, "samples": samples, "seed": context.seed}
    text = json.dumps(figures | {"settings": settings}, indent=2) + "\n"
    (context.out / "evaluate.json").write_text(text, encoding="utf-8")


def demo(context: Context) -> None:
    """Training, pictures and figures of "tiny"; ValueError for another name."""
    if context.name != experts.TINY:
        raise ValueError(f"demo: expected {experts.TINY}, got {context.name}")
    train(context, Files(), Plan(learning_rate=2e-3, validation=40), Fit(120, 16, 20, seed=context.seed))
    sample(context, Files(), 5, 5)
    evaluate(context, Files(), 40, 2)


def _draw(context: Context, fusion: Fusion, known: Tensor, samples: int, name: str, *, first: Tensor | None = None,
          labels: list[str] | None = None) -> None:  # fmt: skip
    images = fusion.samples(known, samples, seeded(context.seed, *b"pictures"))
    path = context.out / f"{name}.png"
    if first is not None:
        images = torch.cat([first[:, None], images], 1)
    columns = None if first is None else ["described", *[f"sample {k + 1}" for k in range(samples)]]
    pictures.grid(images, path, rows=labels, columns=columns, title=context.name)
    context.console.print(f"drawn: {path}", highlight=False, soft_wrap=True)
