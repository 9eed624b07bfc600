"""Measures one case: ours, plain torch, torch.compile and a copy of the same bytes take turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from flowkit import ops
from flowkit.bench.operators import channels_last, random
from flowkit.bench.suites import Case
from flowkit.bench.timing import Contender, calling, interleave

Row = dict[str, Any]


def outputs(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The result of an operator as a tuple, also where it has no log-det."""
    return (result,) if isinstance(result, Tensor) else result


def forward_contender(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Contender:
    """The function on the inputs, without autograd."""
    return calling(function, *inputs)


def backward_contender(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Contender:
    """Only the backward of the function: the forward that records it is not timed."""
    leaves = tuple(t.detach().requires_grad_(t.is_floating_point()) for t in inputs)
    wanted = [t for t in leaves if t.requires_grad]
    gradients = tuple(torch.ones_like(t) for t in outputs(function(*inputs)))

    def prepare() -> list[tuple[Tensor, Tensor]]:
        with torch.enable_grad():
            pairs = zip(outputs(function(*leaves)), gradients, strict=True)
            return [(y, g) for y, g in pairs if y.requires_grad]

    def run(recorded: list[tuple[Tensor, Tensor]]) -> object:
        return torch.autograd.grad([y for y, _ in recorded], wanted, [g for _, g in recorded])

    return Contender(run, prepare)


def copy_contender(nbytes: int, device: torch.device) -> Contender:
    """Moves ``nbytes`` in all, half read and half written, into a buffer that is already there."""
    source = torch.ones(max(1, nbytes // 8), device=device)
    target = torch.empty_like(source).copy_(source)
    return calling(target.copy_, source)


def in_place_contender(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Contender:
    """The function inside a workspace, as a flow runs it: its input lies in a buffer, which it overwrites if it can."""
    x, *operands = inputs
    workspace = ops.Workspace(x)
    buffer, *_ = outputs(function(x, *operands, out=workspace))
    return Contender(lambda y: function(y, *operands, out=workspace), lambda: buffer.copy_(x))


def compiled_contender(
    make: Callable[[Callable[..., Any], tuple[Tensor, ...]], Contender],
    function: Callable[..., Any],
    inputs: tuple[Tensor, ...],
) -> Contender:
    """The same work through torch.compile, compiled here; raises whatever torch.compile raises."""
    torch._dynamo.reset()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # an nvcc without a GPU is no news here
    contender = make(torch.compile(function, fullgraph=True, dynamic=False), inputs)
    contender.run(contender.prepare())
    return contender


def measure(case: Case, budget: float, device: torch.device, notes: list[str]) -> Iterator[Row]:
    """The rows of one case: each direction with a fresh output, forward and inverse also into a workspace."""
    shaped = torch.empty(case.shape, dtype=case.dtype, device=device)
    x = random(channels_last(shaped) if case.layout == "channels_last" else shaped, case.shape[1])
    del shaped
    inputs = (x, *case.operator.operands(x))
    for direction in case.operator.directions:
        with torch.no_grad():
            yield from measure_direction(case, direction, inputs, budget, notes)


def measure_direction(
    case: Case, direction: str, inputs: tuple[Tensor, ...], budget: float, notes: list[str]
) -> Iterator[Row]:
    """One row, or two where a workspace can be used."""
    operator, x = case.operator, inputs[0]
    inverse = direction == "inverse"
    ours: Callable[..., Any] = operator.inverse if inverse and operator.inverse is not None else operator.forward

    def reference(*tensors: Tensor) -> Any:
        return operator.reference(*tensors, inverse=inverse)

    make = backward_contender if direction == "backward" else forward_contender
    sizes = {in_place: operator.bytes(direction, x, inputs[1:], in_place) for in_place in (False, True)}
    contenders = {
        "ours": make(ours, inputs),
        "eager": make(reference, inputs),
        "copy": copy_contender(sizes[False], x.device),
    }
    if direction != "backward":
        contenders["ours in place"] = in_place_contender(ours, inputs)
        contenders["copy in place"] = copy_contender(sizes[True], x.device)
    if case.compiled:
        try:
            contenders["compile"] = compiled_contender(make, reference, inputs)
        except Exception as error:  # no compiler for inductor, an unsupported platform: a note, and the rest goes on
            reason = str(error).strip().splitlines() or [type(error).__name__]
            notes.append(f"torch.compile failed on {operator.name} {direction}: {reason[0]}")
    times = interleave(contenders, budget, x.device)
    for in_place in (False, True) if "ours in place" in times else (False,):
        form = " in place" * in_place
        yield {
            "op": operator.name,
            "direction": direction,
            "layout": case.layout,
            "dtype": str(case.dtype).removeprefix("torch."),
            "shape": list(case.shape),
            "bytes": sizes[in_place],
            "in_place": in_place,
            "ours_ms": times["ours" + form],
            "eager_ms": times["eager"],
            "compile_ms": times.get("compile"),
            "copy_ms": times["copy" + form],
        }
