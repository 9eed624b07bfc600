"""Elementwise operators on 67 MB, beside a copy of the bytes they must move, plain torch and torch.compile of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.parts.rows import Row, Settings, faster, row, shape_text
from flowkit.bench import runner
from flowkit.bench.operators import OPERATORS
from flowkit.bench.suites import LARGE, Case

NAMES = ("affine_coupling", "additive_coupling", "actnorm", "leaky_relu", "affine_step")
GPU_SHAPE = (256, 64, 64, 64)  # 268 MB


def rows(settings: Settings) -> Iterator[Row]:
    """In place: copy, eager, compile; fresh: compile; backward, whose outputs are fresh: all three."""
    gpu = settings.device.type == "cuda"
    shape = (2, 4, 8, 8) if settings.quick else GPU_SHAPE if gpu else LARGE
    of_copy, of_eager, of_compiled = (0.85, 3, 1) if gpu else (0.8, 10, 3)
    seconds = 0.0 if settings.quick else settings.seconds / 3
    for operator in (o for o in OPERATORS if o.name in NAMES):
        notes: list[str] = []
        case = Case(operator, shape, compiled=not settings.quick)
        for found in runner.measure(case, seconds, settings.device, notes):
            form = "in place" if found["in_place"] else "fresh"
            what, size = f"{operator.name} {found['direction']}, {form}", shape_text(shape)
            note = "; ".join(notes)
            if found["in_place"]:
                bounds = {"copy": of_copy, "eager": of_eager, "compile": of_compiled}
                for name, bound in bounds.items():
                    yield row(what, size, found["ours_ms"], PEERS[name], found[f"{name}_ms"], faster(bound), note=note)
            else:
                bounds = {"compile": 1} | ({"copy": of_copy, "eager": of_eager} if "backward" in what else {})
                for name, bound in bounds.items():
                    yield row(what, size, found["ours_ms"], PEERS[name], found[f"{name}_ms"], faster(bound), note=note)
        if gpu:
            torch.cuda.empty_cache()


PEERS = {"copy": "copy of the same bytes", "eager": "torch eager", "compile": "torch.compile"}
