"""Interleaved timing: contenders take turns, so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

MIN_ROUNDS = 7
MAX_ROUNDS = 200
SAMPLE_SECONDS = 5e-4  # one timed sample repeats a fast call until it lasts about this long


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: ``run(prepare())`` is the work, of which only ``run`` is timed."""

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


def calling(function: Callable[..., object], *arguments: Any, **options: Any) -> Contender:
    """A call that needs no preparation."""
    return Contender(lambda _: function(*arguments, **options))


def sample(contender: Contender, repeats: int, device: torch.device) -> float:
    """Seconds a call, over ``repeats`` calls in a row."""
    states = [contender.prepare() for _ in range(repeats)]
    result: object = None
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for state in states:
            result = contender.run(state)
        end.record()
        torch.cuda.synchronize(device)
        seconds = start.elapsed_time(end) * 1e-3
    else:
        begin = time.perf_counter()
        for state in states:
            result = contender.run(state)
        seconds = time.perf_counter() - begin
    del result
    return seconds / repeats


def interleave(contenders: Mapping[str, Contender], budget: float, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each contender over rounds in which each has one turn, for about ``budget`` seconds."""
    repeats = {}
    for name, contender in contenders.items():
        sample(contender, 1, device)  # first call: lazy initialisation, memory that nobody has touched yet
        once = sample(contender, 1, device)
        repeats[name] = max(1, min(1000, math.ceil(SAMPLE_SECONDS / max(once, 1e-7))))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    deadline = time.perf_counter() + budget
    for count in range(MAX_ROUNDS):
        if count >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name, contender in contenders.items():
            seconds[name].append(sample(contender, repeats[name], device))
    return {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
