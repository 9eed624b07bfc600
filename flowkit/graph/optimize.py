"""``Graph.optimize``: which passes run for training and for inference, and how weights go there and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from flowkit.graph import passes
from flowkit.graph.data import Graph
from flowkit.graph.rewrite import Move, Rewrite, unrolled

if TYPE_CHECKING:
    from flowkit.graph.module import BuiltGraph

Pass = Callable[[Graph], Rewrite]

TRAINING: tuple[Pass, ...] = (
    unrolled, passes.merge_permutations, passes.compose_linear, passes.absorb_permutations, passes.fuse_steps,
    passes.pack_pairs,
)  # fmt: skip
"""Passes that leave every parameter as it is."""

INFERENCE: tuple[Pass, ...] = (
    unrolled, passes.fold_linear, passes.merge_permutations, passes.absorb_permutations, passes.fuse_steps,
    passes.pack_pairs,
)  # fmt: skip
"""Passes for a graph whose parameters have their final values."""


@dataclass(frozen=True)
class Optimized:
    """What :meth:`Graph.optimize` returns.

    Arguments:
        graph: computes what the original computes, in fewer passes over memory.
        moves: what happens to the weights.
    """

    graph: Graph
    moves: tuple[Move, ...]

    def convert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of a module of the original graph as one of ``graph``; tensors that stay are shared.

        Raises:
            ValueError: for inference, an actnorm that is not initialised.
        """
        moved = dict(state)
        for move in self.moves:
            move.convert(moved)
        return moved

    def restore(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The way back, from a module of ``graph`` to the original graph; tensors that stay are shared.

        Two random permutations that became one come back as that one and the identity.

        Raises:
            ValueError: if linear maps were folded for inference: their factors are lost.
        """
        moved = dict(state)
        for move in reversed(self.moves):
            move.restore(moved)
        return moved

    def build(self, state: Mapping[str, Tensor] | None = None) -> BuiltGraph:
        """A module of ``graph``; with the state dict of a module of the original graph, it shares those weights."""
        net = self.graph.build()
        if state is not None:
            some = next(iter(state.values()), None)
            if some is not None:
                net = net.to(some.device)
            net.load_state_dict(self.convert(state), assign=True)
        return net


def optimize(graph: Graph, *, training: bool = False, inference: bool = False) -> Optimized:
    """The same function in fewer passes over memory; see :meth:`Graph.optimize`.

    Raises:
        ValueError: unless exactly one of ``training`` and ``inference`` is asked for.
    """
    if training == inference:
        raise ValueError(f"optimize: expected training=True or inference=True, got {training=}, {inference=}.")
    rewrite = Rewrite(graph, (passes.RequireInitialised(),) if inference else ())
    for apply in INFERENCE if inference else TRAINING:
        rewrite = rewrite.then(apply)
    return Optimized(rewrite.graph, rewrite.moves)
