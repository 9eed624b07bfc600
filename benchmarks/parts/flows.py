"""Whole flows beside their conditioners alone and beside other libraries: a training step, and sampling.

Ours is what `optimize` makes of the graph for the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.parts import models, peers, peers_images
from benchmarks.parts.models import Images, Model, Vectors
from benchmarks.parts.rows import Row, Settings, Target, cost, faster, row
from flowkit.graph import Graph

ALONE = "its conditioners alone"
TRAINING, SAMPLING = "training step", "sampling"


@dataclass(frozen=True)
class Comparison:
    """One flow of ours beside the same one of others. ``targets[task][peer]``: what must be reached."""

    what: str
    size: str
    graph: Graph
    peers: Mapping[str, Callable[[], Model]]
    targets: Mapping[str, Mapping[str, Target]]

    def rows(self, x: Tensor, settings: Settings) -> Iterator[Row]:
        """Both tasks on the batch x: a row beside the conditioners, one beside each library."""
        notes: list[str] = []
        plain = models.ours(self.graph)
        plain.start(x)
        pairs = models.conditioners(plain, x)
        others = {name: (model, model.start(x)) for name, model in peers.installed(self.peers, notes)}
        for task in (TRAINING, SAMPLING):
            training = task == TRAINING
            mine = models.optimised(plain, training)
            flows = {"ours": (mine, mine.start(x)), **others}
            contenders = {
                name: models.training_step(model, x) if training else models.sampling(model, latents)
                for name, (model, latents) in flows.items()
            }
            contenders[ALONE] = models.conditioners_alone(pairs, training)
            times = settings.times(contenders)
            for peer in (ALONE, *others):
                target = self.targets[task].get(peer.split()[0] if peer in others else peer)
                note = f"ours {plain.parameters} parameters"
                if peer in others:
                    share = times[peer] / times[ALONE]
                    note += f", theirs {others[peer][0].parameters}; theirs {share:.2f}x the conditioners alone"
                yield row(f"{self.what}: {task}", self.size, times["ours"], peer, times[peer], target, note=note)
        for note in notes:
            yield row(self.what, self.size, None, note=note)


def vectors(settings: Settings) -> Iterator[Row]:
    """The tabular flow, affine and with splines."""
    for bins, training, sampling in ((0, 1.15, 1.2), (8, 1.35, 1.4)):
        size = Vectors(bins=bins)
        if settings.quick:
            size = replace(size, features=4, blocks=2, hidden=8, batch=16)
        kind = f"RQS {bins} bins" if bins else "affine"
        text = f"{size.batch}x{size.features}, {size.blocks} blocks, MLP {size.hidden}x2"
        targets = {TRAINING: {ALONE: cost(training)}, SAMPLING: {ALONE: cost(sampling)}}
        flow = Comparison(f"tabular flow, {kind}", text, models.vector_flow(size), peers.vector_flows(size), targets)
        yield from flow.rows(torch.randn(size.batch, size.features, device=settings.device), settings)


def images(settings: Settings) -> Iterator[Row]:
    """Glow, with narrow and with wide conditioners."""
    for hidden in (64, 256):
        size = Images(hidden=hidden)
        if settings.quick:
            size = replace(size, side=8, levels=2, steps=1, hidden=hidden // 16, batch=2)
        shape = (size.batch, size.channels, size.side, size.side)
        text = f"{'x'.join(map(str, shape))}, {size.levels} levels x {size.steps} steps, hidden {size.hidden}"
        beside = {"normflows": faster(2), "FrEIA": faster(1)}
        targets = {TRAINING: beside, SAMPLING: beside}
        flow = Comparison("Glow", text, models.image_flow(size), peers_images.image_flows(size), targets)
        yield from flow.rows(torch.randn(shape, device=settings.device), settings)
