"""Which cases a suite runs: operators, sizes, types and layouts, and where torch.compile is asked to compete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from flowkit.bench.operators import OPERATORS, Operator

LARGE = (64, 64, 64, 64)  # 67 MB in float32: well past any cache, where a fresh output costs page faults
MEDIUM = (8, 64, 32, 32)  # 2 MB in float32: a layer of an image flow
VECTORS = (4096, 1024)  # 17 MB in float32: a batch of representations


@dataclass(frozen=True)
class Case:
    """One operator on one kind of tensor; ``compiled``: whether torch.compile competes."""

    operator: Operator
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    compiled: bool = False


def quick() -> Iterator[Case]:
    """Every operator once, the main one in more forms and beside torch.compile, which takes seconds a case."""
    main = OPERATORS[0]
    yield Case(main, LARGE, compiled=True)
    yield Case(main, LARGE, layout="channels_last")
    yield Case(main, LARGE, dtype=torch.bfloat16)
    yield Case(main, MEDIUM)
    yield Case(main, VECTORS)
    for operator in OPERATORS[1:]:
        yield Case(operator, MEDIUM if operator.name.startswith(main.name) or not operator.light else LARGE)


def full() -> Iterator[Case]:
    """Every operator, size, type and layout; torch.compile competes on contiguous float32."""
    for operator in OPERATORS:
        for shape in (LARGE, MEDIUM, VECTORS) if operator.light else (MEDIUM,):
            for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
                for layout in ("contiguous", "channels_last") if len(shape) > 2 else ("contiguous",):
                    compiled = dtype == torch.float32 and layout == "contiguous"
                    yield Case(operator, shape, dtype, layout, compiled)


SUITES = {"quick": quick, "full": full}
BUDGET = {"quick": 0.15, "full": 1.0}  # seconds of measuring a row, beyond the smallest number of rounds
