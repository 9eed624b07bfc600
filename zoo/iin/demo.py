"""The IIN on coloured digits, from nothing to figures and pictures, offline and on a CPU."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.iin import analysis, show
from zoo.iin.digits import ColouredDigits
from zoo.iin.interpreter import Interpreter, interpreter
from zoo.iin.systems import system
from zoo.iin.training import Plan, train
from zoo.iin.work import JUDGE, drawn_pairs, estimate, judge_of, responses, test_images
from zoo.training.batches import seeded
from zoo.verbs import Context

PAIRS, RIDGE = 4_000, 1e-2


def run(context: Context) -> dict[str, Any]:
    """Trains, estimates, exchanges, measures and draws; returns the figures.

    Everything that is measured is the test part's, which no training has seen; dimensions are estimated on pairs of the
    training part. The digit classifier never sees what the autoencoder makes, and colours are read by linear
    regression on pixels.

    Raises:
        ValueError: for another network than one in factors of the digits' autoencoder, or a factor that is estimated to
            need no dimension.
    """
    known = system(context.name)
    if known.data != "digits" or known.kind != "factors" or known.first is None or known.first == JUDGE:
        raise ValueError(f"demo: expected iin/digits, got {context.name}")
    begun, plan = time.perf_counter(), Plan()
    train(context, plan, known.first, {})
    train(context, plan, JUDGE, {})
    found, names = estimate(context, drawn_pairs(context, "", PAIRS, "train"), "")
    for name, size in zip(names, found.sizes, strict=True):
        if size == 0 and "sizes" not in context.options:
            raise ValueError(
                f"demo: factor {name} got 0 of the latent's {sum(found.sizes)} dimensions; state sizes=..., "
                "at least 1 for each factor"
            )
    sizes = ",".join(map(str, found.sizes))
    context.console.print(f"estimated dimensions: {dict(zip(names, found.sizes, strict=True))}", highlight=False)
    train(context, plan, options={"sizes": sizes, **context.options})
    parts = interpreter(context)
    figures: dict[str, Any] = {"dimensions": dict(zip(names, found.sizes, strict=True))}
    figures["scores"] = dict(zip(names, found.scores.tolist(), strict=True))
    figures |= measure(context, parts)
    draw(context, parts)
    figures["seconds"] = time.perf_counter() - begun
    return figures


def measure(context: Context, parts: Interpreter) -> dict[str, Any]:
    """Figures of the test part."""
    test = test_images(context, "", 0)
    images, labels, colours = test["image"], test["class"], test["colour"]
    judge, read_colour = judge_of(context), colour_reader()
    z = parts.first.mode(images)
    found: dict[str, Any] = {
        "test images": len(images),
        "classifier's accuracy": _share(_digits(judge, images) == labels),
        "classifier's accuracy on reconstructions": _share(_digits(judge, parts.first.decode(z)) == labels),
        "colour reader's error": float((read_colour(images) - colours).abs().mean()),
        "no edit": analysis.identity_errors(parts, images),
    }
    donors = other_digits(labels, seeded(context.seed, *b"donors"))
    found["swap"] = {
        name: analysis.exchange(
            parts, images, labels, colours, donors, index, lambda x: _digits(judge, x), read_colour
        )._asdict()
        for index, name in enumerate(parts.names)
    }
    answers = responses(context, images[int((labels == 7).nonzero()[0])], 1_000, 0.9, "")
    found["response of the classifier to a walk, a 7"] = {name: answer.sigma for name, answer in answers.items()}
    return found


def draw(context: Context, parts: Interpreter) -> None:
    """Every picture, of the test part."""
    test, out = test_images(context, "", 60), context.out
    images = test["image"]
    distinct = torch.stack([images[test["class"] == digit][0] for digit in range(10)])
    show.samples(parts, context.seed, 6, 12, out / "samples.png")
    show.reconstructions(parts, distinct, out / "reconstructions.png")
    show.lines(parts, images[:5], images[5:10], 9, None, out / "interpolate_all.png")
    for index, name in enumerate(parts.names):
        show.swaps(parts, distinct[:8], images[10:18], index, out / f"swap_{name}.png")
        show.crossed(parts, distinct[:8], index, out / f"cross_{name}.png")
        show.lines(parts, images[:5], images[5:10], 9, index, out / f"interpolate_{name}.png")
        show.walks(parts, distinct[:6], index, 12, 0.9, context.seed, out / f"walk_{name}.png")


def other_digits(labels: Tensor, generator: torch.Generator) -> Tensor:
    """For each image another one at random, of another class, (N,)."""
    chosen = [torch.nonzero(labels != label)[:, 0] for label in labels]
    return torch.stack([rows[torch.randint(len(rows), (), generator=generator)] for rows in chosen])


def colour_reader() -> Any:
    """Reads colours (N, 3) from images (N, 3, 16, 16): ridge regression on the training part's pixels."""
    examples, random = ColouredDigits("train", single=True), np.random.RandomState(0)
    drawn = [examples.draw(index % len(examples), random) for index in range(4 * len(examples))]
    pixels = torch.stack([torch.from_numpy(sample["image"]).flatten() for sample in drawn]).double()
    colours = torch.stack([torch.from_numpy(sample["colour"]) for sample in drawn]).double()
    pixels = torch.nn.functional.pad(pixels, (0, 1), value=1.0)
    gram = pixels.mT @ pixels / len(pixels) + RIDGE * torch.eye(pixels.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, pixels.mT @ colours / len(pixels)).float()

    def read(images: Tensor) -> Tensor:
        return torch.nn.functional.pad(images.flatten(1), (0, 1), value=1.0) @ weights

    return read


def _digits(judge: Any, images: Tensor) -> Tensor:
    classes: Tensor = judge.classify(judge.mode(images)).argmax(1)
    return classes


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
