"""Validity of a graph: names, references, cycles, unused values, kinds and options."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from flowkit.graph.options import COUNTS
from flowkit.graph.plain import Options, check_name, suggest
from flowkit.graph.registry import Kind, find_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowkit.graph.data import Graph, Node


def checked_nodes(graph: Graph) -> tuple[Node, ...]:
    """The nodes with their options checked; ValueError names what is wrong with the graph."""
    if not graph.inputs or not graph.outputs:
        raise ValueError(
            f"graph: expected at least one input and one output, got {len(graph.inputs)} and {len(graph.outputs)}."
        )
    _check_names("input", [value.name for value in graph.inputs])
    _check_names("output", [name for name, _ in graph.outputs])
    _check_names("input or node", [value.name for value in graph.inputs] + [node.name for node in graph.nodes])
    _check_node_names(graph)
    nodes = tuple(checked_node(node) for node in graph.nodes)
    _check_references(graph)
    _check_all_used(graph)
    return nodes


def checked_node(node: Node) -> Node:
    """The node with its options checked and defaults left out.

    Raises:
        ValueError: for an unknown kind or option, a wrong number of values, a condition that is missing or has no use.
    """
    where = f"node {node.name!r} ({node.kind})"
    kind = find_kind(node.kind, f"node {node.name!r}")
    _check_body(node, where)
    if node.body is None:
        _check_reads(node, kind, where)
    needs_condition = kind.takes_condition and kind.condition_required
    if needs_condition and node.condition is None:
        raise ValueError(f"{where}: condition: expected a value, got none.")
    if node.condition is not None and not kind.takes_condition:
        raise ValueError(f"{where}: takes no condition, got {node.condition!r}.")
    options = kind.check_options(node.options, where)
    if node.kind == "repeat":
        _check_times(node, options, where)
    return replace(node, options=options)


def _check_reads(node: Node, kind: Kind, where: str) -> None:
    least, most = kind.reads
    if len(node.reads) < least or (most is not None and len(node.reads) > most):
        expected = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{where}: expected {expected} values to read, got {len(node.reads)}.")


def _check_body(node: Node, where: str) -> None:
    if (node.body is not None) != (node.kind in ("call", "repeat", "residual")):
        raise ValueError(f"{where}: {'takes no graph of its own' if node.body else 'expected a graph as its body'}.")
    if node.body is None:
        return
    names = [value.name for value in node.body.inputs]
    if len(names) != len(node.reads):
        raise ValueError(f"{where}: expected {len(names)} values for its inputs {names}, got {len(node.reads)}.")
    count = len(node.body.outputs)
    if node.kind == "residual" and count != 1:
        raise ValueError(f"{where}: expected a graph with one output, got {count}.")
    if node.kind == "repeat" and count > len(names):
        raise ValueError(f"{where}: a step returns its first values anew, at most {len(names)}, got {count}.")


def _check_times(node: Node, options: Options, where: str) -> None:
    times, inside = options["times"], 1 if node.body is None else node.body.repetitions
    if times < 1:
        raise ValueError(f"{where}: option 'times': expected at least 1, got {times}.")
    if times * inside > COUNTS["times"]:
        raise ValueError(
            f"{where}: option 'times': expected at most {COUNTS['times']} with the repeats inside multiplied,"
            f" got {times} times {inside}."
        )


def _check_names(what: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        check_name(name, f"{what} {name!r}")
        if count > 1:
            raise ValueError(f"{what} {name!r}: expected unique names, got this one {count} times.")


def _check_node_names(graph: Graph) -> None:
    from flowkit.graph.module import RESERVED

    for node in graph.nodes:
        if node.name in RESERVED or node.name.startswith("_"):
            raise ValueError(f"node {node.name!r}: a built module uses this name itself; rename the node.")


def _check_references(graph: Graph) -> None:
    later = {node.name: node for node in graph.nodes}
    ready = {value.name for value in graph.inputs}
    for node in graph.nodes:
        for source in node.sources:
            base = source.partition(".")[0]
            if base not in ready and base not in later:
                raise ValueError(f"node {node.name!r}: reads unknown {source!r}.{suggest(base, [*ready, *later])}")
            if base not in ready:
                cycle = _find_cycle(node.name, later)
                if cycle:
                    raise ValueError(f"node {node.name!r}: expected no cycle, got {' -> '.join(cycle)}.")
                raise ValueError(
                    f"node {node.name!r}: reads {source!r}, which comes after it; move {base!r} before it."
                )
        del later[node.name]
        ready.add(node.name)
    for name, reference in graph.outputs:
        if reference.partition(".")[0] not in ready:
            raise ValueError(f"output {name!r}: stands for unknown {reference!r}.{suggest(reference, list(ready))}")


def _find_cycle(start: str, nodes: dict[str, Node]) -> list[str] | None:
    """Names along a cycle through ``start``, in the order of reading, or None."""
    trail: list[tuple[str, ...]] = [(start,)]
    seen = set()
    while trail:
        path = trail.pop()
        for source in nodes[path[-1]].sources:
            base = source.partition(".")[0]
            if base == start:
                return [*path, start]
            if base in nodes and base not in seen:
                seen.add(base)
                trail.append((*path, base))
    return None


def _check_all_used(graph: Graph) -> None:
    used = _bases(reference for _, reference in graph.outputs).union(*(_bases(node.sources) for node in graph.nodes))
    for value in graph.inputs:
        if value.name not in used:
            raise ValueError(f"input {value.name!r}: expected every input to be used, but no node or output reads it.")
    for node in graph.nodes:
        if node.name not in used:
            raise ValueError(f"node {node.name!r}: expected every node to be used, but no node or output reads it.")


def _bases(references: Iterable[str]) -> set[str]:
    return {reference.partition(".")[0] for reference in references}
