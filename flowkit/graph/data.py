"""The graph itself: frozen dataclasses for inputs, nodes and whole graphs, valid from the moment they exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flowkit.graph.plain import Options, Shape, check_shape

if TYPE_CHECKING:
    from flowkit.graph.facts import Facts
    from flowkit.graph.module import BuiltGraph
    from flowkit.graph.optimize import Optimized
    from flowkit.graph.paths import Paths


@dataclass(frozen=True)
class Input:
    """A named input: a tensor (B, *shape)."""

    name: str
    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_shape(self.shape, f"input {self.name!r}"))


@dataclass(frozen=True)
class Node:
    """One step of a graph.

    Arguments:
        name: unique in its graph; also the prefix of the parameters' names in the state dict.
        kind: a registered kind, see :func:`flowkit.graph.register`.
        reads: references to values: the name of an input or of a node, or ``name.port`` for one of several outputs.
        condition: a reference too, for the bijections that take a condition.
        options: plain data; what the constructor of the kind takes beside sizes, without what equals the default.
        body: the graph inside ``call``, ``repeat`` and ``residual``.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    condition: str | None = None
    options: Options = Options()
    body: Graph | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """All references that the node reads, the condition last."""
        return self.reads if self.condition is None else (*self.reads, self.condition)


@dataclass(frozen=True)
class Graph:
    """A model as a value: comparable, hashable, printable, picklable.

    Nodes stand in an order in which they can be computed. ``outputs`` are pairs of a name and the reference behind it.
    An optimisation pass is a function from graph to graph, by ``dataclasses.replace``.

    Raises:
        ValueError: if names repeat or are no identifiers, a reference is unknown, nodes form a cycle, an input or node
            is not used, an option is unknown or of the wrong type, or shapes do not fit; the message names the node.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        from flowkit.graph.check import checked_nodes

        object.__setattr__(self, "nodes", checked_nodes(self))
        self.facts  # noqa: B018  shapes that do not fit raise here

    @cached_property
    def facts(self) -> Mapping[str, Facts]:
        """Per node: the shapes of its outputs, its parameters, its part in the invertible path."""
        from flowkit.graph.facts import graph_facts

        return graph_facts(self)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every value, by reference."""
        shapes = {value.name: value.shape for value in self.inputs}
        for node in self.nodes:
            facts = self.facts[node.name]
            shapes.update(zip(facts.references(node.name), facts.outputs, strict=True))
        return shapes

    @cached_property
    def paths(self) -> Paths:
        """Which inputs and nodes form the invertible path, and how to run it backwards."""
        from flowkit.graph.paths import find_paths

        return find_paths(self)

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """The shape of every input, by name."""
        return {value.name: value.shape for value in self.inputs}

    @property
    def output_shapes(self) -> dict[str, Shape]:
        """The shape of every output, by name."""
        return {name: self.shapes[reference] for name, reference in self.outputs}

    @property
    def parameters(self) -> int:
        """How many trainable numbers the built graph has; nothing is allocated to count them."""
        return sum(self.facts[node.name].parameters for node in self.nodes)

    @cached_property
    def repetitions(self) -> int:
        """The most modules that one node becomes: ``times`` of the repeats inside each other, multiplied."""
        inside = (1 if node.body is None else node.body.repetitions for node in self.nodes)
        return (
            max(
                (node.options.get("times", 1) if node.kind == "repeat" else 1) * count
                for node, count in zip(self.nodes, inside, strict=True)
            )
            if self.nodes
            else 1
        )

    @property
    def invertible(self) -> bool:
        """Whether :meth:`build` gives a module with log-det and inverse."""
        return self.paths.obstacle is None

    def build(self) -> BuiltGraph:
        """A module with freshly initialised parameters, see :class:`flowkit.graph.BuiltGraph`."""
        from flowkit.graph.module import build_graph

        return build_graph(self)

    def optimize(self, *, training: bool = False, inference: bool = False) -> Optimized:
        """A graph of the same function that passes over memory less often, and how weights go there and back.

        Both: repeats and calls are written out; permutations merge and become part of the coupling before them; a
        coupling, its permutation and the actnorm behind it become one ``affine_step`` (or ``additive_step``); a scale
        and a shift network of one shape run as one of double width.
        ``training``: an actnorm beside a linear map becomes a factor of its matrix, composed at every call; no
        parameter changes, and an actnorm that waits for its first batch still does. ``inference``: linear maps, with
        the actnorms and permutations beside them, become one stored matrix and its stored inverse.

        Returns:
            :class:`flowkit.graph.optimize.Optimized`: ``.graph``, ``.convert(state)``, ``.restore(state)``,
            ``.build(state)``.

        Raises:
            ValueError: unless exactly one of the two is asked for.
        """
        from flowkit.graph.optimize import optimize

        return optimize(self, training=training, inference=inference)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The graph as YAML text, also written to ``path`` if given."""
        from flowkit.graph.serialise import to_yaml

        text = to_yaml(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @staticmethod
    def from_yaml(source: str | Path) -> Graph:
        """The graph in a YAML text (a string with a line break) or file (a path). Runs no code, allocates no weights.

        Raises:
            ValueError: naming the node, what was expected and what came.
            FileNotFoundError: if ``source`` is a path to no file.
        """
        from flowkit.graph.serialise import from_yaml

        if isinstance(source, Path) or "\n" not in source:
            source = Path(source).read_text(encoding="utf-8")
        return from_yaml(source)

    def draw(self, path: str | Path | None = None) -> str:
        """The graph as an SVG picture (text), also written to ``path`` if given."""
        from flowkit.graph.draw import draw

        svg = draw(self)
        if path is not None:
            Path(path).write_text(svg, encoding="utf-8")
        return svg

    def __str__(self) -> str:
        from flowkit.graph.table import table

        return table(self)
