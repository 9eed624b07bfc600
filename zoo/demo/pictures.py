"""The demo's pictures: sheets of 8x8 digits with labelled rows and columns, and the training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.data.digits import Split
from zoo.demo.experiment import Parts, Translation
from zoo.demo.sheet import INK, MARK, QUIET, Sheet, figure
from zoo.training.batches import seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.training.experiment import Point

SAMPLES, WALK, CLOUD = 9, 7, 500
FOOTNOTE = "Orange frame: the classifier sees another digit than the one in the row's input."


def draw_all(translation: Translation, parts: Parts, metrics: dict[str, float], seed: int, folder: Path) -> None:
    """Writes samples_per_condition.png, invariances.png, swapped.png and curves.png.

    The inputs are the most typical images of the test part.
    """
    images = typical(translation, parts["test"])
    figures = {
        "samples_per_condition": samples_per_condition(translation, images, seeded(seed, *b"samples")),
        "invariances": invariances(translation, images, seeded(seed, *b"invariances")),
        "swapped": swapped(translation, images),
        "curves": curves(translation.stages["translator"].history, metrics),
    }
    for name, drawn in figures.items():
        drawn.savefig(folder / f"{name}.png", dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.15)


def typical(translation: Translation, part: Split) -> Tensor:
    """Of every digit the image (10, 1, 8, 8) whose representation is closest to the mean of its class."""
    known, chosen = translation.classifier.represent(part.images), []
    for digit in range(10):
        members = known[part.labels == digit]
        nearest = (members - members.mean(0)).square().sum(1).argmin()
        chosen.append(part.images[part.labels == digit][nearest])
    return torch.stack(chosen)


def samples_per_condition(translation: Translation, images: Tensor, generator: torch.Generator) -> Figure:
    """One held-out digit a row: the digit, its reconstruction, and translations of its representation."""
    known = translation.classifier.represent(images)
    columns = {"input": images, "auto-\nencoded": translation.autoencoder.decode(translation.autoencoder.mean(images))}
    for number in range(1, SAMPLES + 1):
        z = torch.randn(len(images), translation.dim, generator=generator)
        columns[f"sample {number}"] = translation.translate(z, known)
    sheet = Sheet(
        "Samples per condition",
        "The flow sees only the classifier's representation of the input, and draws what that leaves open.",
        FOOTNOTE,
        rows=len(images),
        columns=len(columns),
        gaps=(1, 2),
    )
    labels = translation.classifier.classify(images)
    for j, (title, column) in enumerate(columns.items()):
        sheet.title(j, title)
        for i, (image, seen) in enumerate(zip(column, translation.classifier.classify(column), strict=True)):
            sheet.digit(i, j, image, marked=bool(seen != labels[i]))
    for i, label in enumerate(labels):
        sheet.label(i, f"{int(label)}")
    return sheet.figure


def invariances(translation: Translation, images: Tensor, generator: torch.Generator) -> Figure:
    """The representation is held and z moves: what varies along a row is what the classifier does not represent."""
    count, dim = len(images), translation.dim
    known, own = translation.classifier.represent(images), translation.residual(images)
    goal = torch.randn(1, dim, generator=generator).expand(count, -1)
    angles = torch.linspace(0, math.pi / 2, WALK)
    walk = [translation.translate(own * angle.cos() + goal * angle.sin(), known) for angle in angles]
    z = torch.randn(CLOUD * count, dim, generator=generator)
    cloud = translation.translate(z, known.repeat(CLOUD, 1)).unflatten(0, (CLOUD, count))
    sheet = Sheet(
        "Same representation, different invariances",
        "Each row keeps one representation. From left to right, z moves from the input's own to a random one, the same "
        "in all rows: what changes is what the classifier does not look at.",
        f"Spread: standard deviation of each pixel over {CLOUD} random z. Black pixels are fixed by the "
        f"representation, bright ones are free. {FOOTNOTE}",
        rows=count,
        columns=3 + WALK,
        gaps=(1, 1 + WALK),
    )
    titles = [
        "input",
        "own z",
        *["\N{RIGHTWARDS ARROW}"] * (WALK - 2),
        "random z",
        f"mean\nof {CLOUD}",
        f"spread\nof {CLOUD}",
    ]
    columns = [images, *walk, cloud.mean(0)]
    labels = translation.classifier.classify(images)
    for j, title in enumerate(titles):
        sheet.title(j, title)
    for j, column in enumerate(columns):
        for i, (image, seen) in enumerate(zip(column, translation.classifier.classify(column), strict=True)):
            sheet.digit(i, j, image, marked=bool(seen != labels[i]))
    for i, spread in enumerate(cloud.std(0)):
        sheet.heat(i, 2 + WALK, spread)
        sheet.label(i, f"{int(labels[i])}")
    return sheet.figure


def swapped(translation: Translation, images: Tensor) -> Figure:
    """Every representation with every image's z; the diagonal gives the images back."""
    count = len(images)
    known, own = translation.classifier.represent(images), translation.residual(images)
    table = translation.translate(own.repeat(count, 1), known.repeat_interleave(count, 0))
    seen = translation.classifier.classify(table).unflatten(0, (count, count))
    table = table.unflatten(0, (count, count))
    labels = translation.classifier.classify(images)
    sheet = Sheet(
        "Swapped representations",
        "Each cell joins what the classifier knows of the row's image with what it does not know of the column's.",
        f"Black frame: an image's own representation with its own z, which gives the image back. {FOOTNOTE}",
        rows=count + 1,
        columns=count + 1,
        gaps=(1,),
        row_gaps=(1,),
        headed=False,
    )
    sheet.corner("z from \N{RIGHTWARDS ARROW}", "represen-\ntation from\n\N{DOWNWARDS ARROW}")
    for k in range(count):
        sheet.digit(0, k + 1, images[k])
        sheet.digit(k + 1, 0, images[k])
        sheet.label(k + 1, f"{int(labels[k])}")
        for j in range(count):
            sheet.digit(k + 1, j + 1, table[k, j], marked=bool(seen[k, j] != labels[k]), strong=k == j)
    return sheet.figure


def curves(history: Sequence[Point], metrics: dict[str, float]) -> Figure:
    """The flow's bits per dimension while it learns, beside the Gaussians'."""
    drawn = figure(7.5, 4.4)
    axes = drawn.add_subplot()
    epochs = [point["epoch"] for point in history]
    best = min(history, key=lambda point: point["validation"])
    flow = metrics["bits_per_dim"]
    axes.plot(epochs, [point["train"] for point in history], color="#2563eb", label="flow, training part, augmented")
    axes.plot(epochs, [point["validation"] for point in history], color=MARK, label="flow, validation part")
    axes.plot(best["epoch"], flow, "o", color=INK, label=f"flow kept, test part: {flow:.2f}")
    lines = {
        "gaussian_bits_per_dim": ("Gaussian, test part", "-"),
        "linear_gaussian_bits_per_dim": ("Gaussian around a linear map of the representation, test part", "--"),
    }
    for key, (name, style) in lines.items():
        axes.axhline(metrics[key], color=QUIET, linestyle=style, linewidth=1)
        axes.annotate(
            f"{name}: {metrics[key]:.2f}",
            (1, metrics[key]),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color=QUIET,
            fontsize=9,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("bits for each latent dimension")
    axes.set_title("Code length of latents, given representations", loc="left", fontsize=13, fontweight="bold", pad=14)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    return drawn
