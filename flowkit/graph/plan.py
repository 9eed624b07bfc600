"""Plans of execution: the calls of a built graph in both directions, and the chains of layers that share buffers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowkit.graph.registry import KINDS

if TYPE_CHECKING:
    from flowkit.graph.data import Graph, Node


@dataclass(frozen=True)
class Step:
    """One call of a node's module, forwards or inverted.

    Arguments:
        name: the node.
        invert: whether ``inverse`` is called.
        reads, writes: references; data before conditions.
        counts: whether the module's log-det belongs to the sum; None if the module returns no log-det.
        chain: number of the chain of layers that share buffers, None outside of chains.
        first, last: whether the step begins or ends its chain.
    """

    name: str
    invert: bool
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    counts: bool | None
    chain: int | None = None
    first: bool = False
    last: bool = False


def plan_forward(graph: Graph, in_place: Callable[[str], bool]) -> tuple[Step, ...]:
    """The calls of ``forward``; ``in_place`` tells whether the module of a node takes a workspace."""
    inverted = graph.paths.inverted if graph.invertible else frozenset()
    return _with_chains(graph, [_step(graph, node, False, node.name in inverted) for node in graph.nodes], in_place)


def plan_inverse(graph: Graph, in_place: Callable[[str], bool]) -> tuple[Step, ...]:
    """The calls of ``inverse``."""
    nodes = {node.name: node for node in graph.nodes}
    steps = [_step(graph, nodes[name], invert, invert) for name, invert in graph.paths.backwards]
    return _with_chains(graph, steps, in_place)


def is_one_chain(steps: Sequence[Step]) -> bool:
    """Whether all steps on the invertible path share one chain, from the data input to the output."""
    chains = {step.chain for step in steps if step.counts}
    return len(chains) == 1 and None not in chains


def _step(graph: Graph, node: Node, invert: bool, counts: bool) -> Step:
    facts = graph.facts[node.name]
    outputs = facts.references(node.name)
    data = tuple(node.sources[i] for i in facts.data)
    rest = tuple(source for i, source in enumerate(node.sources) if i not in facts.data)
    returns_logdet = KINDS[node.kind].invertible if node.body is None else bool(data)
    if invert:
        kept = tuple(outputs[i] for i in facts.kept)
        return Step(node.name, True, (*kept, *rest), data, counts)
    return Step(node.name, False, (*data, *rest), outputs, counts if returns_logdet else None)


def _with_chains(graph: Graph, steps: list[Step], in_place: Callable[[str], bool]) -> tuple[Step, ...]:
    """Marks runs of in-place steps whose intermediate values nobody else reads."""
    readers = Counter(source for node in graph.nodes for source in node.sources)
    readers.update(reference for _, reference in graph.outputs)
    ends: dict[str, int] = {}  # the value at the end of a chain -> the position of the step that wrote it
    marked = list(steps)
    for position, step in enumerate(steps):
        if not (step.counts and in_place(step.name)):
            continue
        before = ends.get(step.reads[0]) if readers[step.reads[0]] == 1 else None
        if before is None:
            marked[position] = replace(step, chain=position, first=True, last=True)
        else:
            marked[before] = replace(marked[before], last=False)
            marked[position] = replace(step, chain=marked[before].chain, last=True)
        ends[step.writes[0]] = position
    return tuple(marked)
