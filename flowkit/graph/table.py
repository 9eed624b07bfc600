"""A graph as a text table: node, kind, what it reads, shape, parameters; bodies indented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit.graph.plain import show_shape

if TYPE_CHECKING:
    from flowkit.graph.data import Graph, Node

_HEADER = ("node", "kind", "reads", "shape", "parameters")


def table(graph: Graph) -> str:
    """The table, with a line below that sums it up."""
    rows = [_HEADER, *_rows(graph, "", top=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [_line(row, widths) for row in rows]
    rule = "─" * max(map(len, lines))
    outputs = ", ".join(f"{name} = {ref} ({show_shape(graph.shapes[ref])})" for name, ref in graph.outputs)
    return "\n".join([lines[0], rule, *lines[1:], rule, f"outputs: {outputs}", summary(graph)])


def _rows(graph: Graph, indent: str, top: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if top:
        rows += [(value.name, "input", "", show_shape(value.shape), "") for value in graph.inputs]
    for node in graph.nodes:
        facts = graph.facts[node.name]
        shapes = ", ".join(show_shape(shape) for shape in facts.outputs)
        rows.append((indent + node.name, kind_label(node), reads_label(node), shapes, _count(facts.parameters)))
        if node.body is not None:
            rows += _rows(node.body, indent + "  ", top=False)
    return rows


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
    return "  ".join([*cells, row[-1].rjust(widths[-1])]).rstrip()


def summary(graph: Graph) -> str:
    """Parameters, and what is invertible given what, or why nothing is."""
    obstacle = graph.paths.obstacle
    data, conditions = graph.paths.data_inputs, graph.paths.conditions
    if obstacle is not None:
        path = f"no inverse: {obstacle}"
    else:
        given = f", given {', '.join(conditions)}" if conditions else ""
        path = f"invertible: {', '.join(data)} ↔ {', '.join(graph.paths.data_outputs)}{given}"
    return f"{graph.parameters:,} parameters; {path}"


def kind_label(node: Node) -> str:
    """The kind as people say it: a repeat with its number of times."""
    return f"repeat ×{node.options['times']}" if node.kind == "repeat" else node.kind


def reads_label(node: Node) -> str:
    """What a node reads, the condition after a bar."""
    return ", ".join(node.reads) + ("" if node.condition is None else f" | {node.condition}")


def _count(parameters: int) -> str:
    return f"{parameters:,}" if parameters else "–"
