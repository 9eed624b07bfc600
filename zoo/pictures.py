"""PNG files of what a system does: grids of images with labelled rows and columns, and curves of a training."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

INK, MARK, QUIET = "#1b1b1b", "#c2410c", "#6b7280"
COLOURS = ("#2563eb", MARK, "#15803d", "#7c3aed", INK)
DPI, SPACE, MARGIN, LINE, LETTER, HEADING = 100, 4, 12, 17, 7.2, 11.0  # pixels; the last two wide, of text
CELL, LABEL = 64, 26  # pixels of a small image's side; letters of a row's label before it wraps

Images = Tensor | Sequence[Sequence[Tensor] | Tensor]


def grid(
    images: Images,
    path: str | Path,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str = "",
    scale: int | None = None,
) -> None:
    """Writes a grid of images with a label before each row and above each column.

    Arguments:
        images: (R, C, ch, H, W), or a list of R rows of (ch, H, W) images (rows may differ in length), in [-1, 1]
            (what lies outside is clipped), 1 channel or 3.
        path: of the PNG file; its folder is made.
        rows, columns: labels; long ones are wrapped.
        title: above everything.
        scale: pixels of the file for one of an image, nearest neighbour; by default so many that a side is 64 or more.

    Raises:
        ValueError: if there are no images, shapes differ, numbers are not finite, or there are too few or many labels.
    """
    cells = _cells(images)
    channels, height, width = cells[0][0].shape
    scale = max(1, -(-CELL // height)) if scale is None else scale
    count, wide, high = max(map(len, cells)), width * scale, height * scale
    for what, labels, expected in (("rows", rows, len(cells)), ("columns", columns, count)):
        if labels is not None and len(labels) != expected:
            raise ValueError(f"{what}: expected {expected} labels, got {len(labels)}")
    before = [textwrap.wrap(label, LABEL) for label in rows or ()]
    above = [_wrapped(label, wide) for label in columns or ()]
    left = MARGIN + int(LETTER * max((len(line) for lines in before for line in lines), default=0)) + SPACE * bool(rows)
    heading = _wrapped(title, left + count * (wide + SPACE), HEADING) if title else []
    top = MARGIN + 22 * len(heading) + LINE * max(map(len, above), default=0) + SPACE * bool(above)
    size = (left + count * (wide + SPACE) + MARGIN, top + len(cells) * (high + SPACE) + MARGIN)
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.axis("off")
    axes.text(MARGIN, MARGIN, "\n".join(heading), fontsize=12, fontweight="bold", color=INK, va="top")
    for i, lines in enumerate(before):
        y = top + i * (high + SPACE) + high / 2
        axes.text(left - SPACE - 2, y, "\n".join(lines), fontsize=9, color=INK, ha="right", va="center")
    for j, lines in enumerate(above):
        x = left + j * (wide + SPACE) + wide / 2
        axes.text(x, top - SPACE, "\n".join(lines), fontsize=9, color=INK, ha="center", va="bottom")
    canvas = torch.ones(size[1], size[0], 3)
    for i, row in enumerate(cells):
        for j, image in enumerate(row):
            y, x = top + i * (high + SPACE), left + j * (wide + SPACE)
            canvas[y : y + high, x : x + wide] = _pixels(image, scale)
    axes.imshow(canvas.numpy(), extent=(0, size[0], size[1], 0), interpolation="nearest", zorder=-1)
    _write(figure, path)


def curve(
    lines: Mapping[str, Sequence[float] | Sequence[tuple[float, float]]],
    path: str | Path,
    *,
    title: str = "",
    x: str = "step",
    y: str = "loss",
    levels: Mapping[str, float] | None = None,
) -> None:
    """Writes curves, such as losses over steps.

    Arguments:
        lines: by name, values (at 1, 2, 3 ...) or pairs (x, value).
        path: of the PNG file; its folder is made.
        title, x, y: texts.
        levels: values to compare with, by name, drawn as dashed lines.

    Raises:
        ValueError: if there is nothing to draw.
    """
    if not any(len(values) for values in lines.values()):
        raise ValueError(f"lines: expected at least one value, got those of {', '.join(lines) or 'nothing'}")
    figure = Figure(figsize=(7.5, 4.4), dpi=DPI)
    axes = figure.add_subplot()
    for index, (name, values) in enumerate(lines.items()):
        points = [value if isinstance(value, tuple) else (k, value) for k, value in enumerate(values, 1)]
        axes.plot(*zip(*points, strict=True), color=COLOURS[index % len(COLOURS)], label=name, linewidth=1.4)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=QUIET, linestyle="--", linewidth=1)
        place: Any = (1, level)
        axes.annotate(f"{name}: {level:.3g}", place, (0, 3), xycoords=("axes fraction", "data"), ha="right",
                      textcoords="offset points", color=QUIET, fontsize=9)  # fmt: skip
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    _write(figure, path)


def _cells(images: Images) -> list[list[Tensor]]:
    """The grid as rows of images; ValueError for what does not make one."""
    cells = [list(row) for row in images]
    every = [image for row in cells for image in row]
    if not every or not all(cells):
        raise ValueError("images: expected at least one row and one image in each, got an empty one")
    shapes = {tuple(image.shape) for image in every}
    sizes = {shape[1:] for shape in shapes}
    if len(sizes) > 1 or any(len(shape) != 3 or shape[0] not in (1, 3) for shape in shapes):
        raise ValueError(
            f"images: expected (1 or 3, H, W) each, of one size, got {', '.join(map(str, sorted(shapes)))}"
        )
    if not all(torch.isfinite(image).all() for image in every):
        raise ValueError("images: expected finite numbers in [-1, 1], got NaN or infinity")
    return cells


def _pixels(image: Tensor, scale: int) -> Tensor:
    """(ch, H, W) in [-1, 1] as (H * scale, W * scale, 3) in [0, 1]."""
    image = ((image.detach().float().cpu() + 1) / 2).clamp(0, 1).expand(3, -1, -1)
    return image.repeat_interleave(scale, 1).repeat_interleave(scale, 2).permute(1, 2, 0)


def _wrapped(text: str, width: float, letter: float = LETTER) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, max(6, int(width / letter)))]


def _write(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")
