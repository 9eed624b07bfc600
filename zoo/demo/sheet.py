"""A sheet of small images in labelled rows and columns, with a title, a subtitle and a footnote."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

INK, MARK, QUIET, FAINT = "#1b1b1b", "#c2410c", "#6b7280", "#d1d5db"
CELL, SPACE, GAP = 0.78, 0.06, 0.22  # inches
LEFT, LETTERS = 0.35, 11.5  # inches before the first cell; letters an inch of the subtitle


def figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, apart from pyplot's state."""
    return Figure(figsize=(width, height))


class Sheet:
    """A grid of square cells.

    Arguments:
        title, subtitle, footnote: texts; the last two are wrapped.
        rows, columns: of the grid.
        gaps, row_gaps: the columns and rows before which a wider gap stands.
        headed: whether there is room for titles above the columns.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        footnote: str,
        *,
        rows: int,
        columns: int,
        gaps: Sequence[int] = (),
        row_gaps: Sequence[int] = (),
        headed: bool = True,
    ) -> None:
        xs, right = _positions(LEFT, columns, gaps)
        above, below = (
            textwrap.wrap(subtitle, int(right * LETTERS)),
            textwrap.wrap(footnote, int(right * LETTERS * 1.15)),
        )
        top = 0.5 + 0.19 * len(above) + (0.5 if headed else 0.1)
        ys, bottom = _positions(top, rows, row_gaps)
        height = bottom + 0.15 + 0.17 * len(below)
        self.figure = figure(right, height)
        start = LEFT / right
        self.figure.text(start, 1, title, fontsize=16, fontweight="bold", color=INK, va="top")
        self.figure.text(start, 1 - 0.36 / height, "\n".join(above), fontsize=10.5, color=QUIET, va="top")
        self.figure.text(start, 1 - (bottom + 0.13) / height, "\n".join(below), fontsize=9, color=QUIET, va="top")
        self.cells = [
            [self.figure.add_axes((x / right, 1 - (y + CELL) / height, CELL / right, CELL / height)) for x in xs]
            for y in ys
        ]
        for axes in (axes for row in self.cells for axes in row):
            axes.set_xticks([])
            axes.set_yticks([])

    def title(self, column: int, text: str) -> None:
        """Text above a column."""
        self.cells[0][column].set_title(text, fontsize=10, color=INK)

    def label(self, row: int, text: str) -> None:
        """Text before a row."""
        self.cells[row][0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=13, color=INK, labelpad=6)

    def corner(self, right: str, below: str) -> None:
        """What the first row and the first column are, in the corner where they meet."""
        axes = self.cells[0][0]
        axes.axis("off")
        axes.text(1.0, 0.86, right, ha="right", va="center", fontsize=9, color=QUIET, transform=axes.transAxes)
        axes.text(0.5, 0.26, below, ha="center", va="center", fontsize=9, color=QUIET, transform=axes.transAxes)

    def digit(self, row: int, column: int, image: Tensor, marked: bool = False, strong: bool = False) -> None:
        """An image (1, H, W) in [-1, 1] as dark ink on paper; ``marked`` frames it orange, ``strong`` black."""
        axes = self.cells[row][column]
        axes.imshow(image[0].numpy(), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        for spine in axes.spines.values():
            spine.set_color(MARK if marked else INK if strong else FAINT)
            spine.set_linewidth(2.2 if marked or strong else 0.6)

    def heat(self, row: int, column: int, image: Tensor) -> None:
        """Values (1, H, W) from 0, black, to 1, bright."""
        self.cells[row][column].imshow(image[0].numpy(), cmap="magma", vmin=0, vmax=1, interpolation="nearest")


def _positions(start: float, count: int, gaps: Sequence[int]) -> tuple[list[float], float]:
    """Where cells begin, and where the last one ends, in inches."""
    begins = [start + k * (CELL + SPACE) + GAP * sum(gap <= k for gap in gaps) for k in range(count)]
    return begins, begins[-1] + CELL
