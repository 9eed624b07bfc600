"""Rational-quadratic spline coupling, given its parameters: beside other libraries and torch.compile of our formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.parts import peers
from benchmarks.parts.models import Vectors
from benchmarks.parts.rows import Row, Settings, faster, row, shape_text
from flowkit.bench.operators import BINS, RATIONAL_QUADRATIC, random
from flowkit.bench.runner import backward_contender, compiled_contender, forward_contender
from flowkit.bench.timing import Contender

OURS = RATIONAL_QUADRATIC
SIZE = Vectors(bins=BINS)
SHAPES = ((4096, 64), (16, 32, 32, 32))
TARGETS = {"torch.compile": faster(4), "nflows": faster(15), "zuko": faster(15)}


def inputs(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """x of this shape and a conditioner's output for the second half of its channels."""
    x = random(torch.empty(shape, device=device), shape[1])
    return (x, *OURS.operands(x))


@torch.no_grad()
def rows(settings: Settings) -> Iterator[Row]:
    """A batch of vectors and one of images, which zuko does not take; compiling, which takes long, for the vectors."""
    for shape in ((8, 4), (2, 4, 3, 3)) if settings.quick else SHAPES:
        notes: list[str] = []
        given = inputs(shape, settings.device)
        makers = peers.splines(Vectors(features=shape[1], bins=BINS))
        if len(shape) > 2:
            del makers["zuko"]
        others = dict(peers.installed(makers, notes))
        for direction in OURS.directions:
            compiled = len(shape) == 2 and not settings.quick
            contenders = _contenders(direction, given, others, notes, compiled)
            times = settings.times(contenders)
            for peer in (name for name in contenders if name != "ours"):
                what = f"RQS coupling, {BINS} bins, {direction}"
                target = TARGETS.get(peer.split()[0])
                yield row(what, shape_text(shape), times["ours"], peer, times[peer], target)
        for note in notes:
            yield row(f"RQS coupling, {BINS} bins", shape_text(shape), None, note=note)


def _contenders(
    direction: str, given: tuple[Tensor, ...], others: dict[str, peers.Coupling], notes: list[str], compiled: bool
) -> dict[str, Contender]:
    inverse = direction == "inverse"
    make = backward_contender if direction == "backward" else forward_contender
    mine: Callable[..., Any] = (OURS.inverse if inverse else None) or OURS.forward
    contenders = {"ours": make(mine, given)}
    if compiled:
        try:
            contenders["torch.compile"] = compiled_contender(make, partial(OURS.reference, inverse=inverse), given)
        except Exception as error:  # no compiler for inductor: a note, and the rest goes on
            notes.append(f"torch.compile failed on {direction}: {str(error).strip().splitlines()[0]}")
    for library, pair in others.items():
        contenders[library] = make(pair[inverse], given)
    return contenders
