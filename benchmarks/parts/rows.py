"""What a figure is: a row of the table, the target it is held against, and the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from flowkit.bench.timing import Contender, interleave

Row = dict[str, Any]
KEYS = ("what", "size", "unit", "ours", "peer", "theirs", "ratio", "target", "met", "note")


@dataclass(frozen=True)
class Settings:
    """Where and how long to measure; ``quick``: tiny sizes and the fewest rounds, to try the code, not to report."""

    device: torch.device
    quick: bool = False
    seconds: float = 1.5

    def times(self, contenders: Mapping[str, Contender]) -> dict[str, float]:
        """Median milliseconds of each contender, in turns."""
        return interleave(contenders, 0.0 if self.quick else self.seconds, self.device)


@dataclass(frozen=True)
class Target:
    """What a row must reach.

    ``faster``: the peer takes at least ``bound`` times as long. ``cost``: ours takes at most ``bound`` times as long as
    the peer. ``value``: ours is at most ``bound``, whatever the peer does.
    """

    kind: Literal["faster", "cost", "value"]
    bound: float

    def __str__(self) -> str:
        bound = f"{self.bound:g}"
        return {"faster": f"≥ {bound}x", "cost": f"≤ {bound}x", "value": f"≤ {bound}"}[self.kind]

    def met(self, ours: float, ratio: float | None) -> bool | None:
        """Whether it is reached; None where the ratio was not measured."""
        if self.kind == "value":
            return ours <= self.bound
        if ratio is None:
            return None
        return ratio >= self.bound if self.kind == "faster" else ratio <= self.bound


def faster(bound: float) -> Target:
    """The peer takes at least ``bound`` times as long."""
    return Target("faster", bound)


def cost(bound: float) -> Target:
    """Ours takes at most ``bound`` times as long as the peer."""
    return Target("cost", bound)


def value(bound: float) -> Target:
    """Ours is at most ``bound``."""
    return Target("value", bound)


def row(
    what: str,
    size: str,
    ours: float | None,
    peer: str = "",
    theirs: float | None = None,
    target: Target | None = None,
    *,
    unit: str = "ms",
    note: str = "",
) -> Row:
    """One row; ``ratio`` is peer / ours, or ours / peer where the target bounds the cost. Without ours: only a note."""
    ratio = None
    if ours and theirs:
        ratio = ours / theirs if target is not None and target.kind == "cost" else theirs / ours
    met = None if target is None or ours is None else target.met(ours, ratio)
    values = (what, size, unit, ours, peer, theirs, ratio, None if target is None else str(target), met, note)
    return dict(zip(KEYS, values, strict=True))


def shape_text(shape: tuple[int, ...]) -> str:
    """64x32x8, for the size column."""
    return "x".join(map(str, shape))
