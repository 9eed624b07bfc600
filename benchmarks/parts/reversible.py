"""What training in constant memory costs in time, beside the same flow with stored activations; how memory grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

import flowkit
from benchmarks.parts import models
from benchmarks.parts.models import Images, Vectors
from benchmarks.parts.rows import Row, Settings, cost, row
from flowkit.bench.memory import PeakMemory
from flowkit.graph import Graph

PLAIN = "stored activations"
TIME, MEMORY = cost(1.35), cost(1.1)


def rows(settings: Settings) -> Iterator[Row]:
    """The tabular flow and one level of Glow: time; then the memory of the tabular flow at two depths."""
    tabular, glow = Vectors(), Images(levels=1)
    if settings.quick:
        tabular = replace(tabular, features=4, blocks=2, hidden=8, batch=16)
        glow = replace(glow, side=4, steps=1, hidden=4, batch=2)
    x = torch.randn(tabular.batch, tabular.features, device=settings.device)
    images = torch.randn(glow.batch, glow.channels, glow.side, glow.side, device=settings.device)
    text = f"{tabular.batch}x{tabular.features}, {tabular.blocks} blocks, MLP {tabular.hidden}x2"
    yield _time("tabular flow, affine", text, models.vector_flow(tabular), x, settings)
    text = f"{'x'.join(map(str, images.shape))}, 1 level x {glow.steps} steps, hidden {glow.hidden}"
    yield _time("Glow", text, models.image_flow(glow), images, settings)
    shallow, deep = (replace(tabular, blocks=blocks) for blocks in ((2, 4) if settings.quick else (4, 64)))
    peaks = [activation_peak(models.vector_flow(size), x, True) for size in (shallow, deep)]
    plain = activation_peak(models.vector_flow(shallow), x, False)
    yield row(
        "reversible: peak activation memory",
        f"{tabular.batch}x{tabular.features}, {deep.blocks} blocks",
        peaks[1] / 2**20,
        f"{shallow.blocks} blocks",
        peaks[0] / 2**20,
        MEMORY,
        unit="MiB",
        note=f"{shallow.blocks} blocks with {PLAIN}: {plain / 2**20:.1f} MiB",
    )


def _time(what: str, size: str, graph: Graph, x: Tensor, settings: Settings) -> Row:
    contenders = {}
    for name in ("ours", PLAIN):
        model = models.ours(graph)
        model.start(x)
        if name == "ours":
            flowkit.reversible(model.module)  # type: ignore[arg-type]
        contenders[name] = models.training_step(model, x)
    times = settings.times(contenders)
    return row(f"{what}, reversible: training step", size, times["ours"], PLAIN, times[PLAIN], TIME)


def activation_peak(graph: Graph, x: Tensor, reversibly: bool) -> int:
    """Bytes alive at the peak of a training step, without the parameters and their gradients."""
    model = models.ours(graph)
    model.start(x)
    if reversibly:
        flowkit.reversible(model.module)  # type: ignore[arg-type]
    step = models.training_step(model, x)
    step.prepare()
    with PeakMemory(known=[x, *model.module.parameters(), *model.module.buffers()]) as memory:
        step.run(None)
    return memory.peak - sum(p.numel() * p.element_size() for p in model.module.parameters())
