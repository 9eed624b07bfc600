"""A graph as an SVG picture, by our own layout: no system package, no font file."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from flowkit.graph.layout import Layout, arrange
from flowkit.graph.plain import show_shape
from flowkit.graph.table import kind_label, summary

if TYPE_CHECKING:
    from flowkit.graph.data import Graph, Node

MARGIN, PADDING, HEADER, SHEET = 28.0, 18.0, 48.0, 6.0
LINE, LETTER = 15.0, 6.4  # height of a line and mean width of a letter of 11.5 px text

COLOURS = {  # fill, border, text
    "invertible": ("#e3f4ef", "#2a9d84", "#10493d"),
    "other": ("#fdf1dd", "#d99a3d", "#5e3d0c"),
    "input": ("#e6eefc", "#5a83d6", "#1f3a70"),
    "output": ("#f8e6f0", "#c06296", "#6a2149"),
}
EDGE, CONDITION, FAINT = "#7c8794", "#9b7fd1", "#6d7782"
LEGEND = {"input": "input", "invertible": "invertible", "other": "one direction only", "output": "output"}


@dataclass
class _Box:
    """What is drawn for one input, node or output; ``inner`` is the picture of a node's body."""

    style: str
    lines: list[str]
    hint: str
    width: float = 0.0
    height: float = 0.0
    inner: _Picture | None = None
    sheets: int = 0
    badge: str = ""

    def __post_init__(self) -> None:
        text = max(LETTER * len(line) * (1.12 if i == 0 else 1.0) for i, line in enumerate(self.lines))
        self.width, self.height = text + 28, LINE * len(self.lines) + 14
        if self.inner is not None:
            extra = SHEET * self.sheets
            self.width = max(text + 28 + 48 * bool(self.badge), self.inner.layout.width + 2 * PADDING) + extra
            self.height = self.inner.layout.height + HEADER + PADDING + LINE * (len(self.lines) - 2) + extra


@dataclass
class _Picture:
    """A laid out graph: boxes by key, and the edges between them, each with whether it is dashed."""

    boxes: dict[Hashable, _Box]
    edges: list[tuple[Hashable, Hashable, bool]]
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        sizes = {key: (box.width, box.height) for key, box in self.boxes.items()}
        self.layout = arrange(
            sizes, {(source, target): 1.0 if dashed else 4.0 for source, target, dashed in self.edges}
        )


def draw(graph: Graph) -> str:
    """The picture as SVG text."""
    picture = _picture(graph)
    title = _shorten(summary(graph), 100)
    legend = [style for style in LEGEND if any(_uses(picture, style))]
    legend_width = sum(LETTER * len(LEGEND[style]) + 44 for style in legend)
    width = max(picture.layout.width, legend_width, LETTER * len(title)) + 2 * MARGIN
    height = picture.layout.height + 2 * MARGIN + 34
    body = _svg(picture, (width - picture.layout.width) / 2, MARGIN)
    foot = _legend(legend, title, width, height - 26)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
            ' font-family="Inter, Helvetica Neue, Helvetica, Arial, sans-serif" font-size="11.5">',
            f"<title>{escape(title)}</title>",
            _arrow("data", EDGE) + _arrow("condition", CONDITION),
            f'<rect width="{width:.0f}" height="{height:.0f}" rx="14" fill="#ffffff"/>',
            *body,
            *foot,
            "</svg>",
            "",
        ]
    )


def _picture(graph: Graph) -> _Picture:
    boxes: dict[Hashable, _Box] = {}
    edges: list[tuple[Hashable, Hashable, bool]] = []
    for value in graph.inputs:
        shape = show_shape(value.shape)
        boxes[value.name] = _Box("input", [value.name, shape], f"input {value.name}: {shape}")
    for node in graph.nodes:
        boxes[node.name] = _node_box(graph, node)
        for i, source in enumerate(node.sources):
            edges.append((source.partition(".")[0], node.name, _is_condition(graph, node, i)))
    for name, reference in graph.outputs:
        shape = show_shape(graph.shapes[reference])
        boxes[f"output {name}"] = _Box("output", [name, shape], f"output {name} = {reference}: {shape}")
        edges.append((reference.partition(".")[0], f"output {name}", False))
    merged: dict[tuple[Hashable, Hashable], bool] = {}
    for start, end, dashed in edges:
        merged[start, end] = dashed and merged.get((start, end), True)
    return _Picture(boxes, [(start, end, dashed) for (start, end), dashed in merged.items()])


def _node_box(graph: Graph, node: Node) -> _Box:
    facts = graph.facts[node.name]
    style = "invertible" if graph.invertible and node.name in graph.paths.inverted else "other"
    if not graph.invertible and facts.data:
        style = "invertible"
    options = ", ".join(f"{name}={_show(value)}" for name, value in node.options.items() if name != "times")
    kind = "" if re.sub(r"_\d+$", "", node.name) == node.kind or node.kind == "repeat" else node.kind
    shapes = ", ".join(show_shape(shape) for shape in facts.outputs)
    size = f"{shapes}  ·  {short_count(facts.parameters)}" if facts.parameters else shapes
    about = f"{kind}({_shorten(options, 34)})" if kind and options else kind or _shorten(options, 40)
    hint = f"{node.name}: {kind_label(node)}({options}) -> {shapes}, {facts.parameters:,} parameters"
    if node.body is None:
        return _Box(style, [line for line in (node.name, about, size) if line], hint)
    repeated = node.kind == "repeat"
    return _Box(
        style, [line for line in (node.name, about, size) if line], hint, inner=_picture(node.body),
        sheets=2 * repeated, badge=f"×{node.options['times']}" if repeated else "",
    )  # fmt: skip


def _is_condition(graph: Graph, node: Node, position: int) -> bool:
    """Whether a source only conditions an invertible node."""
    data = graph.facts[node.name].data
    return bool(data) and position not in data


def _svg(picture: _Picture, left: float, top: float) -> list[str]:
    lines = _edges(picture, left, top)
    for key, box in picture.boxes.items():
        cell = picture.layout.cells[key]
        lines += _box(box, left + cell.x - cell.width / 2, top + cell.y)
    return lines


def _box(box: _Box, x: float, y: float) -> list[str]:
    fill, border, ink = COLOURS[box.style]
    extra = SHEET * box.sheets
    width, height = box.width - extra, box.height - extra
    lines = [f"<g><title>{escape(box.hint)}</title>"]
    radius = 8.0 if box.style in ("invertible", "other") else height / 2
    if box.inner is not None:
        radius, fill = 12.0, "#fbfdfc" if box.style == "invertible" else "#fffcf6"
    for sheet in range(box.sheets, -1, -1):
        shift = SHEET * sheet
        lines.append(
            f'<rect x="{x + shift:.1f}" y="{y + shift:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}"'
            f' fill="{fill}" stroke="{border}" stroke-width="1.3"/>'
        )
    if box.inner is None:
        for i, text in enumerate(box.lines):
            lines.append(_text(text, x + width / 2, y + 18 + LINE * i, "middle", ink if i == 0 else FAINT, bold=i == 0))
        return [*lines, "</g>"]
    for i, text in enumerate(box.lines):
        lines.append(_text(text, x + 14, y + 20 + LINE * i, "start", ink if i == 0 else FAINT, bold=i == 0))
    if box.badge:
        wide = LETTER * len(box.badge) + 18
        start = x + width - wide - 10
        lines.append(f'<rect x="{start:.1f}" y="{y + 9:.1f}" width="{wide:.1f}" height="20" rx="10" fill="{border}"/>')
        lines.append(_text(box.badge, start + wide / 2, y + 23, "middle", "#ffffff", bold=True))
    inset = (width - box.inner.layout.width) / 2
    return [*lines, "</g>", *_svg(box.inner, x + inset, y + HEADER + LINE * (len(box.lines) - 2))]


def _edges(picture: _Picture, left: float, top: float) -> list[str]:
    """Curves; where several edges meet a box they spread over its side in the order of their other ends."""
    cells = picture.layout.cells
    pieces: dict[tuple[Hashable, Hashable], tuple[bool, bool]] = {}
    for (_, target, dashed), route in zip(picture.edges, picture.layout.routes, strict=True):
        for upper, lower in zip(route, route[1:], strict=False):
            pieces[upper, lower] = (dashed and pieces.get((upper, lower), (True, False))[0], lower == target)
    lines = []
    for (upper, lower), (dashed, ends) in pieces.items():
        x1 = left + _port(picture, upper, lower, below=True)
        x2 = left + _port(picture, lower, upper, below=False)
        sheets = 0.0 if cells[upper].thread else SHEET * picture.boxes[upper].sheets
        y1, bend = top + cells[upper].y + cells[upper].height * (not cells[upper].thread), top + cells[upper].floor
        y2 = top + cells[lower].y - (4 if ends else 0)
        land = min(top + cells[lower].ceiling, y2)
        middle, start = (bend + land) / 2, y1 - sheets
        colour = CONDITION if dashed else EDGE
        tail = f"V{y2:.1f}" if y2 - land > 0.1 else ""  # a last segment without length would turn the arrow head aside
        lines.append(
            f'<path d="M{x1:.1f} {start:.1f}V{bend:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f}'
            f' {x2:.1f} {land:.1f}{tail}"'
            f' fill="none" stroke="{colour}" stroke-width="1.5"'
            + (' stroke-dasharray="5 4"' if dashed else "")
            + (f' marker-end="url(#{"condition" if dashed else "data"})"' if ends else "")
            + "/>"
        )
    return lines


def _port(picture: _Picture, key: Hashable, other: Hashable, below: bool) -> float:
    """Where on the side of a box (or thread) the edge to ``other`` meets it."""
    cells = picture.layout.cells
    cell = cells[key]
    box = picture.boxes.get(key)
    if cell.thread or box is None:
        return cell.x
    centre = cell.x - SHEET * box.sheets / 2
    if below:
        return centre
    neighbours = sorted(cell.above, key=lambda k: cells[k].x)
    step = min(22.0, (cell.width - 30) / max(len(neighbours), 1))
    main = [i for i, k in enumerate(neighbours) if cell.above[k] == max(cell.above.values())]
    middle = main[0] if len(main) == 1 else (len(neighbours) - 1) / 2
    return centre + step * (neighbours.index(other) - middle)


def _uses(picture: _Picture, style: str) -> list[bool]:
    inner = [used for box in picture.boxes.values() if box.inner is not None for used in _uses(box.inner, style)]
    return [True for box in picture.boxes.values() if box.style == style] + inner


def _legend(styles: Sequence[str], title: str, width: float, y: float) -> list[str]:
    x, lines = MARGIN, []
    for style in styles:
        fill, border, _ = COLOURS[style]
        lines.append(
            f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="16" height="11" rx="4" fill="{fill}" stroke="{border}"/>'
        )
        lines.append(_text(LEGEND[style], x + 22, y + 1, "start", FAINT))
        x += LETTER * len(LEGEND[style]) + 44
    return [*lines, _text(title, MARGIN, y + 17, "start", FAINT)]


def _text(text: str, x: float, y: float, anchor: str, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="600" font-size="12.5"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'


def _arrow(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0.8L7.5 4L0 7.2Z" fill="{colour}"/></marker>'
    )


def short_count(count: int) -> str:
    """A count of parameters in a few letters: 950, 1.5 k, 97.1 M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def _show(value: object) -> str:
    return f"[{', '.join(map(_show, value))}]" if isinstance(value, tuple) else str(value)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
