"""The invariances' own figures: what a layer's samples have in common, and bars of the variance explained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from zoo.invariances.analysis import Statistics
from zoo.metrics.frechet import Spread
from zoo.pictures import COLOURS, DPI


def heat(variance: Tensor, highest: float) -> Tensor:
    """Variances (N, C, H, W) as images (N, 3, H, W) in [-1, 1]: black for 0, white for ``highest`` and above."""
    grey = variance.mean(1, keepdim=True) / max(highest, 1e-12) * 2 - 1
    return grey.clamp(-1, 1).expand(-1, 3, -1, -1)


def summary(found: Statistics, highest: float) -> list[Tensor]:
    """For each of N images, its samples' mean and variance (2, 3, H, W)."""
    return list(torch.stack([found.mean, heat(found.variance, highest)], 1))


def bars(
    groups: Mapping[str, Mapping[str, Spread]], path: str | Path, *, title: str, y: str = "variance explained, %"
) -> None:
    """Writes bars with their deviations, in percent.

    Arguments:
        groups: by the label on the axis, shares by the name in the legend.
        path: of the PNG file; its folder is made.
    """
    figure = Figure(figsize=(7.5, 3.8), dpi=DPI)
    axes = figure.add_subplot()
    names = list(dict.fromkeys(name for shares in groups.values() for name in shares))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        places = [k + (index - (len(names) - 1) / 2) * width for k in range(len(groups))]
        values = [100 * shares[name].mean for shares in groups.values()]
        errors = [100 * shares[name].std for shares in groups.values()]
        colour = COLOURS[index % len(COLOURS)]
        drawn = axes.bar(places, values, 0.92 * width, yerr=errors, color=colour, label=name, capsize=2)
        axes.bar_label(drawn, fmt="%.0f", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), labels=list(groups))
    axes.set_ylabel(y)
    axes.set_ylim(min(0, axes.get_ylim()[0]), 112)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=9, ncols=len(names), loc="upper center")
    figure.tight_layout()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")
