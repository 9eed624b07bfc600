"""What ``zoo evaluate`` measures and prints beside the paper's tables (arXiv 2005.13580)."""

from __future__ import annotations

from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from zoo.metrics.frechet import frechet_distance, inception, moments
from zoo.net2net import cost, runs
from zoo.runs.autoencoder import scaled
from zoo.runs.translator import Translation
from zoo.training.batches import seeded

Features = Literal["own", "inception"]


@torch.no_grad()
def distance(system: Translation, task: runs.Task, seed: int, features: Features) -> float:
    """Fréchet distance of a picture for every held-out condition to the held-out pictures.

    Arguments:
        features: "own", the autoencoder's posterior means, which no other network's distance can be compared with; or
            "inception", the FID's.

    Raises:
        FileNotFoundError: if Inception's weights are not there and cannot be fetched.
    """
    describe = inception() if features == "inception" else lambda pictures: system.autoencoder.posterior(pictures)[0]
    test = task.parts["test"]
    v = torch.randn(len(test), system.autoencoder.dim, generator=seeded(seed, *b"distance"))
    drawn = system.picture(v, runs.conditions(task, test))
    return frechet_distance(moments(describe(scaled(test.images))), moments(describe(drawn)))


def show(console: Console, name: str, measured: float, features: Features, texts: bool) -> None:
    """Prints tables 1 and 2 and figures 6 and 12 with a column for what was measured.

    Arguments:
        name: of the run.
        measured: its Fréchet distance, which stands in table 1 if it is an FID of pictures for texts.
    """
    found = {"ours": measured} if texts and features == "inception" else {}
    _table(console, "Table 1, COCO: FID", cost.beside(cost.TEXT_TO_IMAGE, "FID", found), f"{name}, no COCO")
    _table(console, "Figure 6, CelebA: FID after a flip", cost.beside(cost.ATTRIBUTES, "ours", {}), "measured")
    _table(console, "Figure 12, landscapes: FID", cost.beside(cost.LAYERS, "cINN", {}), "measured")
    table = Table("training", "kWh", "EUR", "kg CO2", title="Table 2: cost, worked out", title_justify="left")
    for training, numbers in cost.cost_table().items():
        table.add_row(training, *(f"{number:.2f}" for number in numbers))
    console.print(table)


def _table(console: Console, title: str, rows: dict[str, dict[str, float | None]], last: str) -> None:
    columns = [*next(iter(rows.values()))]
    table = Table("", *columns[:-1], last, title=title, title_justify="left")
    for row, numbers in rows.items():
        table.add_row(row, *("-" if number is None else f"{number:.2f}" for number in numbers.values()))
    console.print(table)
