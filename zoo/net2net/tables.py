"""The paper's tables with what ``zoo evaluate`` measured in further columns (arXiv 2005.13580)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from zoo.net2net import cost


@dataclass(frozen=True)
class Published:
    """One of the paper's tables of figures."""

    title: str
    figures: cost.Figures


TEXT_TO_IMAGE = Published("Table 1, COCO: inception score and FID", cost.TEXT_TO_IMAGE)
ATTRIBUTES = Published("Figure 6, CelebA: FID after a flip", cost.ATTRIBUTES)
LAYERS = Published("Figure 12, landscapes: FID", cost.LAYERS)


def show(console: Console, published: Published, measured: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table of the paper with what was measured, by row and new column."""
    rows = cost.beside(published.figures, measured)
    table = Table("", *next(iter(rows.values())), title=published.title, title_justify="left")
    for row, numbers in rows.items():
        table.add_row(row, *("-" if number is None else f"{number:.2f}" for number in numbers.values()))
    console.print(table)


def show_costs(console: Console) -> None:
    """Prints table 2, worked out."""
    table = Table("training", "kWh", "EUR", "kg CO2", title="Table 2: cost, worked out", title_justify="left")
    for training, numbers in cost.cost_table().items():
        table.add_row(training, *(f"{number:.2f}" for number in numbers))
    console.print(table)
