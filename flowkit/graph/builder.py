"""The functional builder: symbolic values that carry their shape, and one function for each kind of node."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowkit.graph.check import checked_node
from flowkit.graph.data import Graph, Input, Node
from flowkit.graph.facts import node_facts
from flowkit.graph.plain import Options, Shape, check_name, check_shape, show_shape
from flowkit.graph.registry import KINDS, find_kind

_order = itertools.count()


@dataclass(frozen=True, eq=False)
class _Origin:
    """Where values come from: an input (no node) or a node; remembered in the order in which they were made."""

    name: str | None
    node: Node | None = None
    parents: tuple[Value, ...] = ()
    ports: tuple[str, ...] = ()
    order: int = field(default_factory=lambda: next(_order))


@dataclass(frozen=True, eq=False)
class Value:
    """A symbolic value: what a node will compute. ``shape`` is (C, *spatial), without the batch."""

    shape: Shape
    origin: _Origin
    port: int = 0

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.shape[0] or 0)

    def __add__(self, other: Value) -> Value:
        return make("add", self, other)

    def __mul__(self, other: Value) -> Value:
        return make("multiply", self, other)

    def __repr__(self) -> str:
        return f"Value({show_shape(self.shape)})"


def input(name: str, shape: int | Sequence[int | None]) -> Value:
    """A named input: a tensor (B, *shape).

    Arguments:
        shape: channels, or (C, *spatial) with up to three spatial sizes, None for one that may vary; () for a number
            a sample, such as a class index.

    Raises:
        ValueError: if the name is no identifier or a size is not positive.
    """
    check_name(name, "input")
    return Value(check_shape(shape, f"input {name!r}"), _Origin(name))


def make(kind: str, *values: Any, condition: Value | None = None, name: str | None = None, **options: Any) -> Any:
    """A node: ``make("actnorm", x)`` is ``g.actnorm(x)``.

    Arguments:
        values: the values that the node reads, then options by position.
        condition: for bijections that take one.
        name: unique in its graph; by default the kind, with a number from the second on.
        options: see the kind's constructor.

    Returns:
        A value, or a tuple of values if the kind has several outputs.

    Raises:
        ValueError: for a wrong option or shape, naming the node; the last line of the caller in the traceback is the
            line that made it.
    """
    shown = name if name is not None else kind
    found = find_kind(kind, f"node {shown!r}")
    reads = tuple(itertools.takewhile(lambda v: isinstance(v, Value), values))
    positional = values[len(reads) :]
    if len(positional) > len(found.options):
        raise ValueError(
            f"node {shown!r} ({kind}): expected values and up to {len(found.options)} options, got {values}."
        )
    for option, value in zip(found.options, positional, strict=False):
        if option in options:
            raise ValueError(f"node {shown!r} ({kind}): option {option!r} is given twice.")
        options[option] = value
    if condition is not None and not isinstance(condition, Value):
        raise ValueError(f"node {shown!r} ({kind}): condition: expected a value of the graph, got {condition!r}.")
    return _node(kind, reads, condition, Options(options), name)


def call(graph: Graph, *values: Value, name: str | None = None) -> Any:
    """A graph as a node, with parameters of its own; ``values`` are its inputs in order.

    Raises:
        ValueError: for a wrong number of values or wrong shapes.
    """
    return _node("call", values, None, Options(), name, graph)


def repeat(step: Callable[..., Any], x: Value, *others: Value, times: int, name: str | None = None) -> Any:
    """``step`` applied ``times`` times, each time with parameters of its own; one node in the graph.

    Arguments:
        step: takes (x, *others) and returns x anew, or the first few of its arguments anew, in their shapes; the rest
            is given to every repetition. A :class:`Graph` will do as well.
        times: 1 to 10,000.

    Raises:
        ValueError: if a shape changes in a step, or the step ignores a value.
    """
    return _node("repeat", (x, *others), None, Options({"times": times}), name, _traced(step, (x, *others)))


def residual(function: Callable[..., Any], x: Value, *others: Value, name: str | None = None) -> Value:
    """``x + function(x, *others)``; the function (or graph) must keep the shape of x.

    Raises:
        ValueError: if the shapes differ, or the function ignores a value.
    """
    return _node("residual", (x, *others), None, Options(), name, _traced(function, (x, *others)))


def graph(*, inputs: Iterable[Value] | None = None, **outputs: Value) -> Graph:
    """The graph that computes the named outputs.

    Arguments:
        inputs: the order of the inputs, and a check that all are used; by default those that the outputs depend on, in
            the order in which they were made.

    Raises:
        ValueError: if names repeat, an output is no value, or an input is not used.
    """
    if isinstance(inputs, Value):
        raise ValueError("output 'inputs': this word lists the inputs in their order; choose another name.")
    for name, value in outputs.items():
        if not isinstance(value, Value):
            raise ValueError(f"output {name!r}: expected a value of the graph, got {type(value).__name__}.")
    origins = _ancestors(outputs.values())
    given = [origin for origin in origins if origin.node is None]
    if inputs is not None:
        stated = [value.origin for value in inputs]
        missing = [origin.name for origin in given if origin not in stated]
        if missing:
            raise ValueError(
                f"input {missing[0]!r}: the outputs depend on it, but it is not among the inputs stated; "
                "a step gets every value that it reads as an argument."
            )
        shapes = {value.origin: value.shape for value in inputs}
        given = stated
    else:
        shapes = _input_shapes(outputs.values(), origins)
    names = _names(given, [origin for origin in origins if origin.node is not None])
    nodes = [_named(origin, names) for origin in origins if origin.node is not None]
    return Graph(
        inputs=tuple(Input(names[origin], shapes[origin]) for origin in given),
        nodes=tuple(nodes),
        outputs=tuple((name, _reference(value, names)) for name, value in outputs.items()),
    )


def builder(kind: str) -> Callable[..., Any]:
    """The builder function of a kind, with its documentation and signature."""
    found = KINDS[kind]

    def build(*values: Any, condition: Value | None = None, name: str | None = None, **options: Any) -> Any:
        return make(kind, *values, condition=condition, name=name, **options)

    build.__name__ = build.__qualname__ = kind
    build.__doc__ = inspect.getdoc(found.make)
    return build


def _node(
    kind: str,
    reads: tuple[Value, ...],
    condition: Value | None,
    options: Options,
    name: str | None,
    body: Graph | None = None,
) -> Any:
    parents = reads if condition is None else (*reads, condition)
    for parent in parents:
        if not isinstance(parent, Value):
            raise ValueError(f"node {name or kind!r}: expected values of the graph, got {type(parent).__name__}.")
    if name is not None:
        check_name(name, f"node ({kind})")
    shown = tuple(_provisional(value) for value in reads)
    node = checked_node(
        Node(name or kind, kind, shown, None if condition is None else _provisional(condition), options, body)
    )
    facts = node_facts(node, tuple(parent.shape for parent in parents))
    origin = _Origin(name, node, parents, facts.ports)
    values = tuple(Value(shape, origin, port) for port, shape in enumerate(facts.outputs))
    return values if len(values) > 1 else values[0]


def _traced(step: Callable[..., Any] | Graph, values: tuple[Value, ...]) -> Graph:
    """The graph of a function of values: inputs are named as its parameters, outputs as the parameters they replace."""
    if isinstance(step, Graph):
        return step
    names = _parameter_names(step, len(values))
    inner = [input(name, value.shape) for name, value in zip(names, values, strict=True)]
    returned = step(*inner)
    results = returned if isinstance(returned, tuple) else (returned,)
    if len(results) > len(names):
        raise ValueError(f"{_title(step)}: expected at most {len(names)} values returned, got {len(results)}.")
    return graph(inputs=inner, **dict(zip(names, results, strict=False)))


def _parameter_names(step: Callable[..., Any], count: int) -> list[str]:
    parameters = inspect.signature(step).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        names += [f"value_{i}" for i in range(len(names), count)]
    required = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
    if not required <= count <= len(names):
        raise ValueError(f"{_title(step)}: takes {len(names)} values ({', '.join(names)}), got {count}.")
    return names[:count]


def _title(step: Callable[..., Any]) -> str:
    return f"function {getattr(step, '__name__', repr(step))!r}"


def _ancestors(values: Iterable[Value]) -> list[_Origin]:
    """All origins that the values depend on, in the order in which they were made."""
    found: set[_Origin] = set()
    waiting = [value.origin for value in values]
    while waiting:
        origin = waiting.pop()
        if origin not in found:
            found.add(origin)
            waiting.extend(parent.origin for parent in origin.parents)
    return sorted(found, key=lambda origin: origin.order)


def _input_shapes(values: Iterable[Value], origins: Iterable[_Origin]) -> dict[_Origin, Shape]:
    everything = itertools.chain(values, *(origin.parents for origin in origins))
    return {value.origin: value.shape for value in everything if value.origin.node is None}


def _names(inputs: list[_Origin], nodes: list[_Origin]) -> dict[_Origin, str]:
    """A name for each origin: its own, or the first free one of kind, kind_2, kind_3 ..."""
    names = {origin: origin.name for origin in (*inputs, *nodes) if origin.name is not None}
    taken = set(names.values())
    for origin in nodes:
        if origin not in names and origin.node is not None:
            candidates = (f"{origin.node.kind}_{i}" if i > 1 else origin.node.kind for i in itertools.count(1))
            names[origin] = next(name for name in candidates if name not in taken)
            taken.add(names[origin])
    return names


def _named(origin: _Origin, names: dict[_Origin, str]) -> Node:
    assert origin.node is not None
    sources = tuple(_reference(parent, names) for parent in origin.parents)
    has_condition = origin.node.condition is not None
    return replace(
        origin.node,
        name=names[origin],
        reads=sources[:-1] if has_condition else sources,
        condition=sources[-1] if has_condition else None,
    )


def _reference(value: Value, names: dict[_Origin, str]) -> str:
    name, ports = names[value.origin], value.origin.ports
    return f"{name}.{ports[value.port]}" if len(ports) > 1 else name


def _provisional(value: Value) -> str:
    """What an error message calls a value before all names are settled."""
    origin = value.origin
    name = origin.name or (origin.node.kind if origin.node is not None else "input")
    return f"{name}.{origin.ports[value.port]}" if len(origin.ports) > 1 else name
