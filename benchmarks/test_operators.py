"""Every operator beside the same operator in plain torch, as a pytest-benchmark suite. A time never fails a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from flowkit import ops
from flowkit.bench.operators import OPERATORS, Operator, random
from flowkit.bench.runner import backward_contender, forward_contender
from flowkit.bench.suites import LARGE, MEDIUM
from flowkit.bench.timing import Contender, calling

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NAMES = ("flowkit", "flowkit in place", "torch")


def contenders(
    operator: Operator, direction: str, shape: tuple[int, ...], device: str
) -> Iterator[tuple[str, Contender]]:
    """Our call with a fresh output, our call into a workspace where there is one, and plain torch."""
    x = random(torch.empty(shape, device=device), shape[1])
    inputs = (x, *operator.operands(x))
    inverse = direction == "inverse"
    ours: Any = operator.inverse if inverse else operator.forward
    make = backward_contender if direction == "backward" else forward_contender
    yield "flowkit", make(ours, inputs)
    if direction != "backward":
        yield "flowkit in place", calling(ours, *inputs, out=ops.Workspace(x))
    yield "torch", make(lambda *tensors: operator.reference(*tensors, inverse=inverse), inputs)


def cases() -> Iterator[Any]:
    """One test for each operator, direction, size and device, with its contenders in one benchmark group."""
    for device in DEVICES:
        for operator in OPERATORS:
            for shape in (MEDIUM, LARGE) if operator.light else (MEDIUM,):
                for direction in operator.directions:
                    for name in ("flowkit", "torch") if direction == "backward" else NAMES:
                        size = "x".join(map(str, shape))
                        group = f"{operator.name} {direction} {size} {device}"
                        yield pytest.param(operator, direction, shape, device, name, group, id=f"{group} {name}")


@pytest.mark.parametrize(("operator", "direction", "shape", "device", "name", "group"), cases())
def test_operator(
    benchmark: Any, operator: Operator, direction: str, shape: tuple[int, ...], device: str, name: str, group: str
) -> None:
    """Times one contender; the outcome is in pytest-benchmark's table."""
    benchmark.group = group
    with torch.no_grad():
        contender = dict(contenders(operator, direction, shape, device))[name]

        def work(state: Any) -> None:
            contender.run(state)
            if device == "cuda":
                torch.cuda.synchronize()

        benchmark.pedantic(work, setup=lambda: ((contender.prepare(),), {}), rounds=10, warmup_rounds=2)
