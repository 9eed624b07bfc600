"""The demo's pictures: sheets of 8x8 digits with labelled rows and columns, and the training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.demo.experiment import Parts, Translation
from zoo.extras import require
from zoo.training.batches import seeded

require("matplotlib")
from matplotlib.figure import Figure  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo.training.experiment import Point

INK, MARK, QUIET = "#1b1b1b", "#c2410c", "#6b7280"
SAMPLES, WALK, SWAPS = 9, 7, 8


def draw_all(translation: Translation, parts: Parts, metrics: dict[str, float], seed: int, folder: Path) -> None:
    """Writes samples_per_condition.png, invariances.png, swapped.png and curves.png."""
    images, labels = parts["test"].images, parts["test"].labels
    chosen = torch.stack([(labels == digit).nonzero()[seed % 7, 0] for digit in range(10)])
    sheets = {
        "samples_per_condition": samples_per_condition(translation, images[chosen], seeded(seed, *b"samples")),
        "invariances": invariances(translation, images[chosen], seeded(seed, *b"invariances")),
        "swapped": swapped(translation, images[chosen[:SWAPS]]),
        "curves": curves(translation.stages["translator"].history, metrics),
    }
    for name, figure in sheets.items():
        figure.savefig(folder / f"{name}.png", dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.15)


def samples_per_condition(translation: Translation, images: Tensor, generator: torch.Generator) -> Figure:
    """One held-out digit a row: the digit, its reconstruction, and translations of its representation."""
    known = translation.classifier.represent(images)
    columns = [images, translation.autoencoder.decode(translation.autoencoder.mean(images))]
    for _ in range(SAMPLES):
        z = torch.randn(len(images), translation.dim, generator=generator)
        columns.append(translation.translate(z, known))
    figure, cells = _sheet(
        len(images),
        len(columns),
        "Samples per condition",
        "The flow sees only the classifier's representation of the input and draws what it leaves open.",
        gaps=(1, 2),
    )
    titles = ["input", "auto-\nencoded", *(f"sample {i}" for i in range(1, SAMPLES + 1))]
    predicted = [translation.classifier.classify(column) for column in columns]
    for j, column in enumerate(columns):
        cells[0][j].set_title(titles[j], fontsize=10, color=INK)
        for i, image in enumerate(column):
            _digit(cells[i][j], image, marked=bool(predicted[j][i] != predicted[0][i]))
    for i in range(len(images)):
        _row_label(cells[i][0], f"a {int(predicted[0][i])}")
    _footnote(figure, "Orange frame: the classifier sees another digit than in the input.")
    return figure


def invariances(translation: Translation, images: Tensor, generator: torch.Generator, draws: int = 500) -> Figure:
    """The representation is held and z moves: what varies along a row is what the classifier does not represent."""
    count, dim = len(images), translation.dim
    known, own = translation.classifier.represent(images), translation.residual(images)
    goal = torch.randn(1, dim, generator=generator).expand(count, -1)
    angles = torch.linspace(0, math.pi / 2, WALK)
    walk = [translation.translate(own * angle.cos() + goal * angle.sin(), known) for angle in angles]
    z = torch.randn(draws * count, dim, generator=generator)
    cloud = translation.translate(z, known.repeat(draws, 1)).unflatten(0, (draws, count))
    figure, cells = _sheet(
        count,
        3 + WALK,
        "Same representation, different invariances",
        "Each row keeps one representation. From left to right z moves from the input's own value to a random one,\n"
        "the same in all rows: what changes is what the classifier does not look at.",
        gaps=(1, 1 + WALK),
    )
    titles = ["input", "its own z", *[""] * (WALK - 2), "random z", "mean of\n500", "spread of\n500"]
    for j, title in enumerate(titles):
        cells[0][j].set_title(title, fontsize=10, color=INK)
    cells[0][1 + WALK // 2].set_title("\N{RIGHTWARDS ARROW}", fontsize=14, color=QUIET)
    labels = translation.classifier.classify(images)
    for i in range(count):
        row = [images[i], *(step[i] for step in walk), cloud[:, i].mean(0)]
        for j, image in enumerate(row):
            kept = translation.classifier.classify(image[None])[0] == labels[i]
            _digit(cells[i][j], image, marked=not bool(kept))
        cells[i][-1].imshow(cloud[:, i].std(0)[0], cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        _row_label(cells[i][0], f"a {int(labels[i])}")
    _footnote(
        figure,
        "Spread: standard deviation of each pixel over 500 random z; black is fixed by the representation, bright is free. "
        "Orange frame: the classifier sees another digit.",
    )
    return figure


def swapped(translation: Translation, images: Tensor) -> Figure:
    """Every representation with every other image's z; the diagonal gives the images back."""
    count = len(images)
    known, own = translation.classifier.represent(images), translation.residual(images)
    table = translation.translate(own.repeat(count, 1), known.repeat_interleave(count, 0)).unflatten(0, (count, count))
    labels = translation.classifier.classify(images)
    figure, cells = _sheet(
        count + 1,
        count + 1,
        "Swapped representations",
        "Each cell joins the representation of its row's image (which digit) with the z of its column's image (how it is written).",
        gaps=(1,),
        row_gaps=(1,),
    )
    cells[0][0].text(0.95, 0.8, "z from", ha="right", va="center", fontsize=9, color=QUIET, transform=cells[0][0].transAxes)
    cells[0][0].text(
        0.95, 0.2, "represen-\ntation from", ha="right", va="center", fontsize=9, color=QUIET, transform=cells[0][0].transAxes
    )
    cells[0][0].axis("off")
    for k in range(count):
        _digit(cells[0][k + 1], images[k])
        _digit(cells[k + 1][0], images[k])
        for j in range(count):
            kept = translation.classifier.classify(table[k, j][None])[0] == labels[k]
            _digit(cells[k + 1][j + 1], table[k, j], marked=not bool(kept), strong=k == j)
    _footnote(
        figure,
        "Black frame: an image's own representation and own z, so the image itself as the autoencoder gives it. "
        "Orange frame: the classifier does not see the row's digit.",
    )
    return figure


def curves(history: Sequence[Point], metrics: dict[str, float]) -> Figure:
    """The flow's bits per dimension while it learns, beside the Gaussians."""
    figure = Figure(figsize=(7.5, 4.2))
    axes = figure.add_subplot()
    epochs = [point["epoch"] for point in history]
    axes.plot(epochs, [point["train"] for point in history], color="#2563eb", label="flow, training batches (augmented)")
    axes.plot(epochs, [point["validation"] for point in history], color=MARK, label="flow, validation part")
    lines = {
        "gaussian_bits_per_dim": ("Gaussian", "-"),
        "linear_gaussian_bits_per_dim": ("Gaussian, mean linear in the representation", "--"),
    }
    for key, (name, style) in lines.items():
        axes.axhline(metrics[key], color=QUIET, linestyle=style, linewidth=1)
        axes.text(epochs[-1], metrics[key] + 0.02, f"{name}: {metrics[key]:.2f}", ha="right", va="bottom", color=QUIET)
    best = min(history, key=lambda point: point["validation"])
    axes.plot(best["epoch"], metrics["bits_per_dim"], "o", color=INK, label=f"flow, test part: {metrics['bits_per_dim']:.2f}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("bits for each latent dimension")
    axes.set_title("Code length of the autoencoder's latents, given the classifier's representation", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _sheet(
    rows: int, columns: int, title: str, subtitle: str, gaps: tuple[int, ...] = (), row_gaps: tuple[int, ...] = ()
) -> tuple[Figure, list[list[Axes]]]:
    """A grid of square cells with wider gaps before the columns ``gaps`` and the rows ``row_gaps``."""
    cell, space, wide = 0.78, 0.06, 0.22
    left, top, bottom = 0.65, 1.25, 0.35
    xs = [left + j * (cell + space) + wide * sum(gap <= j for gap in gaps) for j in range(columns)]
    ys = [top + i * (cell + space) + wide * sum(gap <= i for gap in row_gaps) for i in range(rows)]
    width, height = xs[-1] + cell + 0.1, ys[-1] + cell + bottom
    figure = Figure(figsize=(width, height))
    figure.text(left / width, 1 - 0.25 / height, title, fontsize=15, fontweight="bold", color=INK, va="center")
    figure.text(left / width, 1 - 0.45 / height, subtitle, fontsize=10, color=QUIET, va="top")
    cells = []
    for y in ys:
        boxes = [(x / width, 1 - (y + cell) / height, cell / width, cell / height) for x in xs]
        cells.append([figure.add_axes(box) for box in boxes])
    for axes in (axes for row in cells for axes in row):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure, cells


def _digit(axes: Axes, image: Tensor, marked: bool = False, strong: bool = False) -> None:
    """An 8x8 image (1, 8, 8) in [-1, 1], dark ink on paper; ``marked`` and ``strong`` give it a frame."""
    axes.imshow(image[0], cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_color(MARK if marked else INK if strong else "#d1d5db")
        spine.set_linewidth(2.2 if marked or strong else 0.6)


def _row_label(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=11, color=INK, labelpad=8)


def _footnote(figure: Figure, text: str) -> None:
    figure.text(0.65 / figure.get_figwidth(), 0.12 / figure.get_figheight(), text, fontsize=8.5, color=QUIET, va="center")
