"""A small layered layout of boxes and edges, from top to bottom (Sugiyama's scheme), for the picture of a graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SWEEPS = 16
GAP_X, GAP_Y = 26.0, 36.0
THREAD = 10.0  # width that an edge takes where it passes a layer


@dataclass
class Cell:
    """A box, or the place where an edge passes a layer (a thread).

    ``x`` is its centre, ``y`` its upper side; its layer reaches from ``ceiling`` to ``floor``.
    """

    width: float
    height: float
    layer: int
    thread: bool = False
    x: float = 0.0
    y: float = 0.0
    ceiling: float = 0.0
    floor: float = 0.0
    above: dict[Hashable, float] = field(default_factory=dict)
    below: dict[Hashable, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Cells by key, the threads' keys included, and for each edge the keys along its way."""

    cells: Mapping[Hashable, Cell]
    routes: Sequence[tuple[Hashable, ...]]
    width: float
    height: float


def arrange(sizes: Mapping[Hashable, tuple[float, float]], edges: Mapping[tuple[Hashable, Hashable], float]) -> Layout:
    """Places boxes of given sizes; keys stand in an order in which every edge goes forwards.

    ``edges`` tells how much each edge wants to be straight. Edges of one source share their threads, so that a value
    read in many places is one line that branches.
    """
    cells = {key: Cell(*sizes[key], layer) for key, layer in _layers(sizes, list(edges)).items()}
    routes = [_thread(cells, source, target) for source, target in edges]
    for route, weight in zip(routes, edges.values(), strict=True):
        for upper, lower in zip(route, route[1:], strict=False):
            stiff = 12.0 if cells[upper].thread and cells[lower].thread else weight
            cells[upper].below[lower] = max(stiff, cells[upper].below.get(lower, 0.0))
            cells[lower].above[upper] = max(stiff, cells[lower].above.get(upper, 0.0))
    layers = _order(cells)
    _place_columns(cells, layers)
    height = _place_rows(cells, layers)
    left = min(cell.x - cell.width / 2 for cell in cells.values())
    for cell in cells.values():
        cell.x -= left
    return Layout(cells, routes, max(cell.x + cell.width / 2 for cell in cells.values()), height)


def _layers(keys: Iterable[Hashable], edges: Sequence[tuple[Hashable, Hashable]]) -> dict[Hashable, int]:
    """Longest path from the top; boxes that nothing leads to move down to their first reader."""
    layers = dict.fromkeys(keys, 0)
    for key in layers:
        layers[key] = max((layers[source] + 1 for source, target in edges if target == key), default=0)
    for key in layers:
        readers = [layers[target] for source, target in edges if source == key]
        if readers and all(target != key for _, target in edges):
            layers[key] = min(readers) - 1
    return layers


def _thread(cells: dict[Hashable, Cell], source: Hashable, target: Hashable) -> tuple[Hashable, ...]:
    between = range(cells[source].layer + 1, cells[target].layer)
    keys = [(source, "thread", layer) for layer in between]
    for key, layer in zip(keys, between, strict=True):
        cells.setdefault(key, Cell(THREAD, 0.0, layer, thread=True))
    return (source, *keys, target)


def _order(cells: Mapping[Hashable, Cell]) -> list[list[Hashable]]:
    """Layers with their cells ordered so that few edges cross: barycentre sweeps, the best one kept."""
    layers: list[list[Hashable]] = [[] for _ in range(1 + max(cell.layer for cell in cells.values()))]
    for key, cell in cells.items():
        layers[cell.layer].append(key)
    best, fewest = [list(layer) for layer in layers], _crossings(cells, layers)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for index in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            rank = {key: i for i, key in enumerate(layers[index - 1 if down else index + 1])}
            place = {}
            for i, key in enumerate(layers[index]):
                near = [rank[k] for k in (cells[key].above if down else cells[key].below)]
                place[key] = sum(near) / len(near) if near else float(i)
            layers[index].sort(key=place.__getitem__)
        count = _crossings(cells, layers)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
    return best


def _crossings(cells: Mapping[Hashable, Cell], layers: Sequence[Sequence[Hashable]]) -> int:
    total = 0
    for upper, lower in zip(layers, layers[1:], strict=False):
        rank = {key: i for i, key in enumerate(lower)}
        ends = [end for key in upper for end in sorted(rank[k] for k in cells[key].below)]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _place_columns(cells: Mapping[Hashable, Cell], layers: Sequence[Sequence[Hashable]]) -> None:
    """Each cell as near as its order allows to its neighbours; at the end, straight below or above the stiffest."""
    for layer in layers:
        _settle(cells, layer, [0.0] * len(layer))
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            _settle(cells, layer, [_mean(cells, {**cells[key].above, **cells[key].below}, key) for key in layer])
    for down in (False, True):
        for layer in layers if down else reversed(layers):
            goals = []
            for key in layer:
                sides = cells[key].above if down else cells[key].below
                stiffest = max(sides.values(), default=0.0)
                goals.append(_mean(cells, {k: w for k, w in sides.items() if w == stiffest}, key))
            _settle(cells, layer, goals)


def _mean(cells: Mapping[Hashable, Cell], sides: Mapping[Hashable, float], key: Hashable) -> float:
    """The weighted mean position of neighbours, the cell's own position if it has none."""
    if not sides:
        return cells[key].x
    return sum(weight * cells[k].x for k, weight in sides.items()) / sum(sides.values())


def _settle(cells: Mapping[Hashable, Cell], layer: Sequence[Hashable], wanted: Sequence[float]) -> None:
    """Least-squares positions in the given order without overlap: isotonic regression by pooling neighbours."""
    offset, offsets = 0.0, []
    for i, key in enumerate(layer):
        if i:
            offset += (cells[layer[i - 1]].width + cells[key].width) / 2 + GAP_X
        offsets.append(offset)
    pools: list[tuple[float, float, int]] = []  # weighted sum, weight, number of cells
    for key, goal, shift in zip(layer, wanted, offsets, strict=True):
        weight = 6.0 if cells[key].thread else 1.0
        pools.append((weight * (goal - shift), weight, 1))
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            a, b = pools.pop(), pools.pop()
            pools.append((a[0] + b[0], a[1] + b[1], a[2] + b[2]))
    positions = [total / weight for total, weight, count in pools for _ in range(count)]
    for key, position, shift in zip(layer, positions, offsets, strict=True):
        cells[key].x = position + shift


def _place_rows(cells: Mapping[Hashable, Cell], layers: Sequence[Sequence[Hashable]]) -> float:
    """Layers from the top; in a tall layer sources sit low, ends sit high. Returns the height of all."""
    top = 0.0
    for layer in layers:
        height = max(cells[key].height for key in layer)
        for key in layer:
            cell = cells[key]
            if cell.thread:
                cell.height = height
            rest = height - cell.height
            cell.y = top + (rest if not cell.above else 0.0 if not cell.below else rest / 2)
            cell.ceiling, cell.floor = top, top + height
        top += height + GAP_Y
    return top - GAP_Y
