"""What optimisation passes share: how weights move with a rewritten graph, unrolling of repeats, fusing of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from flowkit.graph.data import Graph, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

State = dict[str, Tensor]


class Move(Protocol):
    """What a pass does to a state dict, which it changes in place."""

    def convert(self, state: State) -> None:
        """From the graph before the pass to the one after it."""

    def restore(self, state: State) -> None:
        """Back; ValueError where that is impossible."""


@dataclass(frozen=True)
class Rewrite:
    """A graph after a pass, and how weights move between it and the graph before."""

    graph: Graph
    moves: tuple[Move, ...] = ()

    def then(self, apply: Callable[[Graph], Rewrite]) -> Rewrite:
        """Another pass on top."""
        after = apply(self.graph)
        return Rewrite(after.graph, (*self.moves, *after.moves))


@dataclass(frozen=True)
class Rename:
    """Keys under one prefix move under another; pairs (before, after) of dotted names, none of them inside another."""

    pairs: tuple[tuple[str, str], ...]

    def convert(self, state: State) -> None:
        _rename(state, dict(self.pairs))

    def restore(self, state: State) -> None:
        _rename(state, {after: before for before, after in self.pairs})


def _rename(state: State, table: Mapping[str, str]) -> None:
    renamed: State = {}
    for key, value in state.items():
        words = key.split(".")
        prefixes = (".".join(words[:n]) for n in range(1, len(words)))
        found = next((prefix for prefix in prefixes if prefix in table), None)
        renamed[key if found is None else table[found] + key[len(found) :]] = value
    state.clear()
    state.update(renamed)


@dataclass(frozen=True)
class Source:
    """Where a permutation comes from: the state dict's entry ``key``, or else ``value``.

    Arguments:
        value: the permutation that the graph states; any one where it is drawn.
        key: None for what no state dict holds.
        drawn: whether only the state dict knows it.
    """

    value: tuple[int, ...]
    key: str | None = None
    drawn: bool = False

    def read(self, state: State) -> Tensor:
        """The permutation; an entry of the state dict is taken out."""
        return torch.tensor(self.value) if self.key is None else state.pop(self.key)


@dataclass(frozen=True)
class ComposePermutations:
    """Two permutations become the one entry ``key``. Back, what the graph states is what it was, and a drawn one gets
    the rest; of two drawn ones, the second becomes the identity, which leaves the function as it is."""

    first: Source
    second: Source
    key: str

    def convert(self, state: State) -> None:
        first, second = self.first.read(state), self.second.read(state)
        state[self.key] = first.to(second.device)[second]

    def restore(self, state: State) -> None:
        both = state.pop(self.key)
        first, second = (torch.tensor(source.value, device=both.device) for source in (self.first, self.second))
        if self.second.key is None or self.first.drawn:
            if self.second.drawn:
                second = torch.arange(len(both), device=both.device)
            first = both[second.argsort()]
        else:
            second = first.argsort()[both]
        for source, value in ((self.first, first), (self.second, second)):
            if source.key is not None:
                state[source.key] = value


def unrolled(graph: Graph) -> Rewrite:
    """The repeats and calls on the invertible path written out, so that passes see across their borders."""
    after, moves = graph, []
    while (node := next((n for n in after.nodes if _opens(after, n)), None)) is not None:
        after, names = _opened(after, node)
        moves.append(Rename(tuple(names.items())))
    paths, before = after.paths, graph.paths
    same = (paths.data_inputs, paths.data_outputs) == (before.data_inputs, before.data_outputs)
    return Rewrite(after, tuple(moves)) if same else Rewrite(graph)


def _opens(graph: Graph, node: Node) -> bool:
    return node.kind in ("repeat", "call") and bool(graph.facts[node.name].data)


def _opened(graph: Graph, node: Node) -> tuple[Graph, dict[str, str]]:
    """The graph with one node written out, and the names of what was inside, by their prefix in the state dict."""
    body = node.body
    assert body is not None
    taken = {value.name for value in graph.inputs} | {other.name for other in graph.nodes}
    times = node.options["times"] if node.kind == "repeat" else 1
    carried, others = node.reads[: len(body.outputs)], node.reads[len(body.outputs) :]
    given, moved, inside = node.reads, {}, []
    for i in range(times):
        known = dict(zip((value.name for value in body.inputs), given, strict=True))
        names = {inner.name: _free(f"{node.name}_{i}_{inner.name}", inner.name, taken) for inner in body.nodes}
        step = f"{node.name}.{i}" if node.kind == "repeat" else node.name
        moved.update({f"{step}.{inner}": name for inner, name in names.items()})
        inside += [_placed(inner, names[inner.name], {**known, **names}) for inner in body.nodes]
        carried = tuple(_refer(reference, {**known, **names}) for _, reference in body.outputs)
        given = (*carried, *others)
    outputs = graph.facts[node.name].references(node.name)
    results = dict(zip(outputs, carried, strict=True))
    nodes: list[Node] = []
    for other in graph.nodes:
        nodes += inside if other is node else [_placed(other, other.name, results)]
    return replace(graph, nodes=tuple(nodes), outputs=_outputs(graph, results)), moved


def _free(wanted: str, short: str, taken: set[str]) -> str:
    """A name that is not taken, and then is."""
    names: Iterator[str] = (f"{base}_{i}" if i else base for i in range(len(taken) + 1) for base in (wanted, short))
    name = next(name for name in names if name not in taken and len(name) <= 100)
    taken.add(name)
    return name


def _refer(reference: str, table: Mapping[str, str]) -> str:
    """A reference with its value or its node under another name."""
    if reference in table:
        return table[reference]
    base, dot, port = reference.partition(".")
    return table.get(base, base) + dot + port


def _placed(node: Node, name: str, table: Mapping[str, str]) -> Node:
    reads = tuple(_refer(reference, table) for reference in node.reads)
    condition = None if node.condition is None else _refer(node.condition, table)
    return replace(node, name=name, reads=reads, condition=condition)


def _outputs(graph: Graph, table: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _refer(reference, table)) for name, reference in graph.outputs)


Pair = Callable[[Graph, Node, Node], "tuple[Node, Iterable[Move]] | None"]
"""``pair(graph, first, second)``: the node that does the work of two, the second reading the first alone, or None."""


def fused(graph: Graph, pair: Pair) -> Rewrite:
    """Every pair of nodes, one reading the other's only output, which nobody else reads, that ``pair`` makes one."""
    readers = Counter(source for node in graph.nodes for source in node.sources)
    readers.update(reference for _, reference in graph.outputs)
    done: dict[str, Node] = {}
    table: dict[str, str] = {}
    moves: list[Move] = []
    for node in graph.nodes:
        second = _placed(node, node.name, table)
        first = done.get(second.reads[0]) if len(second.reads) == 1 and readers[node.reads[0]] == 1 else None
        found = None if first is None else pair(graph, first, second)
        if first is None or found is None:
            done[second.name] = second
            continue
        one, moved = found
        del done[first.name]
        done[one.name] = replace(one, reads=first.reads)
        table = {name: one.name if value == first.name else value for name, value in table.items()}
        table[node.name] = one.name
        moves += moved
    return Rewrite(replace(graph, nodes=tuple(done.values()), outputs=_outputs(graph, table)), tuple(moves))
