"""Net2Net's conditional flow beside its authors' formulation with the same weights: sampling, training, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import flowkit
from benchmarks.parts import authors_net2net as authors
from benchmarks.parts.rows import Row, Settings, Target, cost, faster, row
from flowkit.bench.memory import PeakMemory
from flowkit.bench.timing import Contender, calling
from flowkit.graph import BuiltGraph
from zoo.layouts import Layout
from zoo.net2net.graph import translator
from zoo.net2net.published import translator_rules

AUTHORS = "authors' formulation"
SAMPLING, TRAINING, MEMORY = faster(2), faster(1.3), cost(0.6)
ADAM: dict[str, Any] = {"lr": 1e-6, "betas": (0.5, 0.9), "amsgrad": True}
PLAIN = "theirs, plain Adam"
SMALL = 64
"""Hidden width of a flow on small latents, whose sampling is bound by calls, not by reading weights."""
READERS = {"ours": "ours", "theirs": "theirs", "read": "a sum"}


@dataclass(frozen=True)
class Size:
    """The flow that is measured; by default that of the released models."""

    dim: int = 128
    condition: int = 128
    embedding: int = 128
    hidden: int = 1024
    blocks: int = 20
    batch: int = 25

    def __str__(self) -> str:
        return f"{self.dim} channels, {self.blocks} blocks, width {self.hidden}"

    def inputs(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """x (batch, dim) and a condition (batch, condition)."""
        return torch.randn(batch, self.dim, device=device), torch.randn(batch, self.condition, device=device)


def pair(size: Size, device: torch.device) -> tuple[authors.ConditionalFlow, BuiltGraph]:
    """Theirs, its actnorms initialised on random data, and ours with the same weights."""
    theirs = authors.ConditionalFlow(size.dim, size.condition, size.embedding, size.hidden, 2, size.blocks).to(device)
    with torch.no_grad():
        theirs.train()(*size.inputs(64, device))
    graph = translator(size.dim, size.condition, size.embedding, size.blocks, size.hidden)
    ours = graph.build().to(device)
    Layout(ours, translator_rules(2, "none")).load(ours, theirs.state_dict())
    return theirs, ours


def rows(settings: Settings) -> Iterator[Row]:
    """Sampling at batch 1 and 25, also by small networks, a training step in parts and as a whole, its peak memory."""
    size = Size(8, 6, 5, 16, 2, 5) if settings.quick else Size()
    yield from _sampling(size, settings, SAMPLING)
    yield from _sampling(replace(size, hidden=SMALL), settings, None)
    yield from _training(size, settings)
    for batch in (size.batch, 8 if settings.quick else 1024):
        yield from _memory(size, settings, batch)


def _sampling(size: Size, settings: Settings, target: Target | None) -> Iterator[Row]:
    theirs, ours = pair(size, settings.device)
    fast = ours.eval().optimize(inference=True)
    narrow = ours.optimize(inference=True, weights=torch.bfloat16)
    theirs.eval()
    numbers = torch.ones(sum(p.numel() for p in theirs.parameters()), device=settings.device)
    gigabytes = 4e-9 * numbers.numel()
    with torch.no_grad():
        for batch in (1, size.batch):
            z, c = size.inputs(batch, settings.device)
            contenders = {
                "ours": calling(fast.inverse, z, c),
                "theirs": calling(theirs.reverse, z, c),
                "unpacked": calling(ours.inverse, z, c),
                "narrow": calling(narrow.inverse, z, c),
                "read": calling(numbers.sum),
            }
            times = settings.times(contenders)
            rates = [f"{name} {1e3 * gigabytes / times[key]:.1f}" for key, name in READERS.items()]
            note = f"GB/s of weights: {', '.join(rates)}; not optimised {times['unpacked']:.3g} ms"
            what = f"Net2Net cINN: sampling, batch {batch}"
            yield row(what, str(size), times["ours"], AUTHORS, times["theirs"], target, note=note)
            worst = max(
                float((a - b).norm() / b.norm()) for a, b in zip(narrow.inverse(z, c), fast.inverse(z, c), strict=True)
            )
            note = f"an option; samples and log-dets differ from float32's by {worst:.1e} (of their norm)"
            what = f"{what}, weights kept in bfloat16"
            yield row(what, str(size), times["narrow"], AUTHORS, times["theirs"], target, note=note)


def _losses(size: Size, device: torch.device, theirs: nn.Module, ours: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """The negative log-likelihood of one batch by both."""
    x, c = size.inputs(size.batch, device)

    def our_loss() -> Tensor:
        z, logdet = ours(x, c)
        return 0.5 * z.square().sum(1).mean() - logdet.mean()

    return {"ours": our_loss, "theirs": lambda: authors.loss(*theirs(x, c))}


def _backward(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def run() -> None:
        module.zero_grad()
        loss().backward()

    return run


def _training(size: Size, settings: Settings) -> Iterator[Row]:
    theirs, ours = pair(size, settings.device)
    modules: dict[str, nn.Module] = {"ours": ours.train().optimize(training=True), "theirs": theirs.train()}
    del ours  # whose weights were stacked, so copied
    losses = _losses(size, settings.device, modules["theirs"], modules["ours"])
    backwards = {name: _backward(module, losses[name]) for name, module in modules.items()}
    for run in backwards.values():
        run()
    plain, fused = (torch.optim.Adam(modules["theirs"].parameters(), fused=f, **ADAM) for f in (False, True))
    fused.state = plain.state  # gigabytes, alike for both
    adam = torch.optim.Adam(modules["ours"].parameters(), fused=True, **ADAM)
    steps = {"ours": adam.step, "theirs": fused.step, PLAIN: plain.step}
    works: dict[str, Mapping[str, Contender]] = {
        "forward, backward": {name: calling(run) for name, run in backwards.items()},
        "Adam (amsgrad)": {name: calling(step) for name, step in steps.items()},
        "whole step": {name: calling(_both, backwards[name.split(",")[0]], step) for name, step in steps.items()},
    }
    what = f"Net2Net cINN: training, batch {size.batch}"
    peers = {"theirs": AUTHORS, PLAIN: f"{AUTHORS}, Adam as it comes"}
    for work, contenders in works.items():
        target = None if work.startswith("Adam") else TRAINING
        for peer in (name for name in peers if name in contenders):
            # two at a time: with a third that allocates gigabytes the whole steps were not the sum of their parts
            times = settings.times({name: contenders[name] for name in ("ours", peer)})
            note = "both with Adam's fused=True" if PLAIN in contenders and peer == "theirs" else ""
            yield row(f"{what}, {work}", str(size), times["ours"], peers[peer], times[peer], target, note=note)


def _both(backward: Callable[[], None], step: Callable[[], Any]) -> None:
    backward()
    step()


def _memory(size: Size, settings: Settings, batch: int) -> Iterator[Row]:
    """The largest number of bytes alive at once in forward and backward, by what operators return."""
    peaks, stored, parameters = {}, {}, 0
    x, c = size.inputs(batch, settings.device)
    for name in ("ours", "theirs"):
        theirs, ours = pair(size, settings.device)
        module: nn.Module = theirs.train()
        if name == "ours":
            module = flowkit.reversible(ours.train().optimize(training=True))  # type: ignore[arg-type]
        del theirs, ours
        with PeakMemory(known=[x, c, *module.parameters(), *module.buffers()]) as memory:
            z, logdet = module(x, c)
            stored[name] = memory.peak
            (0.5 * z.flatten(1).square().sum(1).mean() - logdet.mean()).backward()
        parameters = sum(p.numel() * p.element_size() for p in module.parameters())
        peaks[name] = memory.peak
        del module, z, logdet
    what, where = f"Net2Net cINN: peak memory, batch {batch}, reversible", str(size)
    activations, theirs_too = (max(stored[name], peaks[name] - parameters) / 2**20 for name in ("ours", "theirs"))
    note = "without weights and their gradients, which come as activations go"
    yield row(f"{what}: activations", where, activations, AUTHORS, theirs_too, MEMORY, unit="MiB", note=note)
    whole = {name: (peak + parameters) / 2**20 for name, peak in peaks.items()}
    note = f"weights and gradients are {2 * parameters / 2**20:.0f} MiB of both; Adam's three states not counted"
    yield row(f"{what}: all", where, whole["ours"], AUTHORS, whole["theirs"], MEMORY, unit="MiB", note=note)
