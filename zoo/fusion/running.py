"""Network Fusion's verbs at work: networks put together, pictures and figures written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo import pictures, registry, weights
from zoo.data.images import nchw, smallest_centre
from zoo.data.zcodes import COCO
from zoo.experts.captioner import Captioner
from zoo.experts.sentences import SentenceEncoder
from zoo.fusion import system
from zoo.fusion.experts import Captions, Features, Small, resnet50
from zoo.fusion.system import Fusion
from zoo.training.batches import mixed, seeded
from zoo.verbs import Context

FLOWS = ("fusion/bert-to-biggan256", "fusion/sketch-to-biggan", "fusion/tiny")
SKETCH = 224  # pixels of a side of what a ResNet-50 is given


@dataclass(frozen=True)
class Files:
    """Of the experts: captioner and its word map, folder of BERT, ResNet-50."""

    captioner: str = ""
    words: str = ""
    bert: str = ""
    resnet: str = ""


def opened(context: Context, describe: Callable[[Tensor], Tensor], fresh: bool = False) -> Fusion:
    """The networks of a flow's name.

    With ``--random`` all have fresh weights. Otherwise BigGAN and dequantiser are the published ones, the tiny ones
    fixed random ones.

    Arguments:
        fresh: an untrained flow.

    Raises:
        ValueError: for another name than a flow's.
    """
    _check(context)
    tiny = context.name == "fusion/tiny"
    names = ("fusion/tiny-biggan", "fusion/tiny-dequantiser") if tiny else ("fusion/biggan256", "fusion/dequantiser")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        load = registry.build if tiny or context.random else registry.load
        generator, dequantiser = (load(name).eval().requires_grad_(False) for name in names)
        torch.manual_seed(context.seed)
        flow = registry.build(context.name, **context.options) if fresh else context.network()
    return Fusion(generator, dequantiser, flow, describe)


def expert(context: Context, files: Files) -> Callable[[Tensor], Tensor]:
    """Expert one on images. ValueError if a file is not named."""
    _check(context)
    if context.name == "fusion/tiny":
        return Small(_condition(context))
    if context.name == "fusion/sketch-to-biggan":
        return Features(_resnet(context, files.resnet))
    if not (files.captioner and files.words and files.bert):
        raise ValueError(f"{context.name}: expected captioner=FILE, words=FILE and bert=FOLDER")
    captioner = Captioner.from_files(files.captioner, files.words, legacy=True)
    return Captions(captioner, SentenceEncoder.from_folder(files.bert))


def train(context: Context, files: Files, steps: int, batch: int, learning_rate: float) -> None:
    """Trains the flow; writes its weights, losses.png and metrics.json."""
    _check(context, steps=steps)
    if batch < 2:
        raise ValueError(f"batch: expected at least 2, got {batch}")
    fusion, begun = opened(context, expert(context, files), fresh=True), time.perf_counter()
    classes = [k for k in COCO if k < fusion.classes] or [*range(fusion.classes)]
    losses = system.train(fusion, steps=steps, batch=batch, learning_rate=learning_rate, classes=classes,
                          seed=context.seed)  # fmt: skip
    context.out.mkdir(parents=True, exist_ok=True)
    weights.save(fusion.flow, context.file(context.name), {"steps": str(steps)})
    pictures.curve({"training": losses}, context.out / "losses.png", title="Negative log-likelihood", y="nats")
    settings = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "seed": context.seed}
    seconds = time.perf_counter() - begun
    figures = {"first_loss": losses[0], "last_loss": losses[-1], "seconds": seconds, "settings": settings}
    (context.out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    context.console.print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f} in {steps} steps", highlight=False)


def sample(context: Context, files: Files, count: int, samples: int) -> None:
    """samples.png: an image of the BigGAN, then pictures for its description."""
    _check(context, count=count, samples=samples)
    fusion = opened(context, expert(context, files))
    chosen = system.draw(fusion, count, mixed(context.seed, *b"sample"), [*range(fusion.classes)])
    _, known, images = fusion.batch(*chosen)
    _draw(context, fusion, known, samples, "samples", first=images)


def text2img(context: Context, bert: str, prompts: list[str], samples: int) -> None:
    """prompts.png: a prompt a row."""
    _check(context, samples=samples)
    if not prompts:
        raise ValueError("prompt: expected at least one text, got none")
    small = Small(_condition(context))
    if context.name == "fusion/sketch-to-biggan":
        raise ValueError(f"text2img: {context.name} is conditioned on images; use sketch2img")
    if context.name != "fusion/tiny" and not bert:
        raise ValueError(f"{context.name}: expected bert=FOLDER, a BERT of {_condition(context)} numbers")
    known = small.read(prompts) if context.name == "fusion/tiny" else SentenceEncoder.from_folder(bert)(prompts)
    _draw(context, opened(context, small), known, samples, "prompts", labels=prompts)


def sketch2img(context: Context, resnet: str, sketch: str, samples: int) -> None:
    """sketches.png: the sketch, then pictures for it."""
    from zoo.data.folders import read_image

    _check(context, samples=samples)
    if context.name == "fusion/bert-to-biggan256":
        raise ValueError(f"sketch2img: {context.name} is conditioned on sentences; use text2img")
    if not Path(sketch).is_file():
        raise FileNotFoundError(f"sketch: expected sketch=FILE, an image; there is no file {sketch!r}")
    fusion = opened(context, expert(context, Files(resnet=resnet)))
    image = nchw(smallest_centre(read_image(Path(sketch)), SKETCH))[None]
    size = fusion.generator.graph.output_shapes["image"][1] or 0
    shown = torch.nn.functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
    _draw(context, fusion, fusion.describe(image), samples, "sketches", first=shown)


def _draw(context: Context, fusion: Fusion, known: Tensor, samples: int, name: str, *, first: Tensor | None = None,
          labels: list[str] | None = None) -> None:  # fmt: skip
    dim = fusion.flow.graph.input_shapes["x"][0] or 0
    v = torch.randn(samples, dim, generator=seeded(context.seed, *b"pictures"))
    columns = [fusion.paint(noise.expand(len(known), -1), known) for noise in v]
    path = context.out / f"{name}.png"
    pictures.grid(
        torch.stack([*([] if first is None else [first]), *columns], 1), path, rows=labels, title=context.name
    )
    context.console.print(f"drawn: {path}", highlight=False)


def _check(context: Context, **counts: int) -> None:
    """ValueError for another name than a flow's, or a count below 1."""
    if context.name not in FLOWS:
        raise ValueError(f"{context.name}: expected one of {', '.join(FLOWS)}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")


def _condition(context: Context) -> int:
    return int(registry.graph(context.name, **context.options).input_shapes["condition"][0] or 0)


def _resnet(context: Context, file: str) -> torch.nn.Module:
    if not file and not context.random:
        raise ValueError(f"{context.name}: expected resnet=FILE, the weights of a ResNet-50, or --random")
    return resnet50(file or None, context.seed)
