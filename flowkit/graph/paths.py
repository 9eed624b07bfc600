"""The invertible path of a graph: which inputs the outputs determine, and the order of steps that recovers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowkit.graph.data import Graph, Node


@dataclass(frozen=True)
class Paths:
    """How a graph runs in both directions.

    Arguments:
        data_inputs: inputs that the inverse gives back, in order.
        conditions: the other inputs; the inverse takes them too.
        data_outputs: outputs that the inverse takes, in order; the others follow from the conditions alone.
        inverted: names of the nodes on the invertible path; their log-dets add up.
        backwards: (node, whether it is inverted) in the order of the inverse.
        obstacle: why there is no inverse; None if there is one.
    """

    data_inputs: tuple[str, ...]
    conditions: tuple[str, ...]
    data_outputs: tuple[str, ...]
    inverted: frozenset[str]
    backwards: tuple[tuple[str, bool], ...]
    obstacle: str | None


def find_paths(graph: Graph) -> Paths:
    """Traces outputs back to inputs through invertible nodes, then plays the inverse on names."""
    return _Search(graph).result()


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs = [value.name for value in graph.inputs]
        self.writes = {node.name: graph.facts[node.name].references(node.name) for node in graph.nodes}
        self.producer = {reference: node for node in graph.nodes for reference in self.writes[node.name]}
        self.reached = self._trace()
        self.data_inputs = tuple(name for name in self.inputs if name in self.reached)
        self.conditions = tuple(name for name in self.inputs if name not in self.reached)
        self.depends = self._depending_on(self.data_inputs)
        self.data_outputs = tuple((name, ref) for name, ref in graph.outputs if ref in self.depends)

    def data(self, node: Node) -> tuple[str, ...]:
        return tuple(node.sources[i] for i in self.graph.facts[node.name].data)

    def kept(self, node: Node) -> tuple[str, ...]:
        return tuple(self.writes[node.name][i] for i in self.graph.facts[node.name].kept)

    def rest(self, node: Node) -> tuple[str, ...]:
        positions = self.graph.facts[node.name].data
        return tuple(source for i, source in enumerate(node.sources) if i not in positions)

    def _trace(self) -> set[str]:
        """Every value on the way back from the outputs through invertible nodes."""
        reached: set[str] = set()
        waiting = [reference for _, reference in self.graph.outputs]
        while waiting:
            reference = waiting.pop()
            if reference not in reached:
                reached.add(reference)
                node = self.producer.get(reference)
                if node is not None and reference in self.kept(node):
                    waiting.extend(self.data(node))
        return reached

    def _depending_on(self, names: tuple[str, ...]) -> set[str]:
        depends = set(names)
        for node in self.graph.nodes:
            if depends.intersection(node.sources):
                depends.update(self.writes[node.name])
        return depends

    def result(self) -> Paths:
        steps, known = self._play()
        inverted = frozenset(name for name, invert in steps if invert)
        return Paths(
            data_inputs=self.data_inputs,
            conditions=self.conditions,
            data_outputs=tuple(name for name, _ in self.data_outputs),
            inverted=inverted,
            backwards=tuple(steps),
            obstacle=self._obstacle(inverted, known),
        )

    def _play(self) -> tuple[list[tuple[str, bool]], set[str]]:
        """The steps of the inverse as far as they go, and the values known at its end."""
        known = {reference for _, reference in self.data_outputs} | set(self.conditions)
        steps: list[tuple[str, bool]] = []
        waiting = list(self.graph.nodes)
        while True:
            ready = next(((n, True) for n in reversed(waiting) if self._can_invert(n, known)), None)
            ready = next(((n, False) for n in waiting if known.issuperset(n.sources)), ready)
            if ready is None:
                return steps, known
            node, invert = ready
            waiting.remove(node)
            steps.append((node.name, invert))
            known.update(self.data(node) if invert else self.writes[node.name])

    def _can_invert(self, node: Node, known: set[str]) -> bool:
        data = self.data(node)
        return (
            len(data) > 0
            and len(set(data)) == len(data)
            and known.issuperset(self.kept(node))
            and known.issuperset(self.rest(node))
            and known.isdisjoint(data)
            and self.depends.issuperset(data)
        )

    def _obstacle(self, inverted: frozenset[str], known: set[str]) -> str | None:
        references = [reference for _, reference in self.data_outputs]
        on_path = [node for node in self.graph.nodes if self.reached.intersection(self.writes[node.name])]
        for node in on_path:
            if not self.graph.facts[node.name].data and (not self.data_inputs or self._depends(node)):
                return self._why(node)
        for name, reference in self.data_outputs:
            if references.count(reference) > 1:
                return f"output {name!r} is the same value as another output"
        for name in self.data_inputs:
            if name not in known:
                return self._follow(name, known)
        for node in on_path:
            if node.name not in inverted and self._depends(node):
                return f"{_title(node)} reads values that other outputs determine already"
        return None if self.data_inputs else "no output depends on an input"

    def _depends(self, node: Node) -> bool:
        return not self.depends.isdisjoint(self.reached.intersection(self.writes[node.name]))

    def _follow(self, reference: str, known: set[str]) -> str:
        """Why a value cannot be recovered: follows it forwards to what stands in the way."""
        lost: str | None = reference
        while lost is not None:
            reference = lost
            readers = [node for node in self.graph.nodes if reference in node.sources]
            node = next((node for node in readers if reference in self.data(node)), None)
            lost = None if node is None else next((kept for kept in self.kept(node) if kept not in known), None)
        if node is not None:
            for source in self.rest(node):
                if source not in known:
                    return f"{_title(node)} is conditioned on {source!r}, which needs what it would recover"
            others = [source for source in self.data(node) if source != reference]
            return f"{_title(node)} joins {reference!r} with {others}, which is no data of its own"
        if readers:
            return self._why(readers[0])
        return f"nothing reads {reference!r} and it is no output, so what it holds is lost"

    def _why(self, node: Node) -> str:
        inside = node.body.paths.obstacle if node.body is not None and node.kind != "residual" else None
        return f"{_title(node)} is not invertible" + (f": inside, {inside}" if inside else "")


def _title(node: Node) -> str:
    return f"node {node.name!r} ({node.kind})"
