"""What a call of each operator costs at batch 1, beside the plain-torch formula that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.parts.rows import Row, Settings, faster, row, shape_text
from flowkit.bench.operators import OPERATORS, random
from flowkit.bench.runner import backward_contender, forward_contender

SHAPE = (1, 8)


@torch.no_grad()
def rows(settings: Settings) -> Iterator[Row]:
    """Each operator and direction."""
    settings = replace(settings, seconds=0.5)  # a call takes microseconds
    x = random(torch.empty(SHAPE, device=settings.device), SHAPE[1])
    for operator in OPERATORS:
        inputs = (x, *operator.operands(x))
        for direction in operator.directions:
            inverse = direction == "inverse"
            make = backward_contender if direction == "backward" else forward_contender
            call: Callable[..., Any] = (operator.inverse if inverse else None) or operator.forward
            formula = partial(operator.reference, inverse=inverse)
            times = settings.times({"ours": make(call, inputs), "formula": make(formula, inputs)})
            ours, theirs = times["ours"] * 1e3, times["formula"] * 1e3
            what = f"call of {operator.name}, {direction}"
            yield row(what, shape_text(SHAPE), ours, "its formula in torch", theirs, faster(1), unit="µs")
