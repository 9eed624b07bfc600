"""Graphs as modules: forward, inverse, the log-det along the invertible path, buffers shared along chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections import Bijection
from flowkit.bijections.base import batch_logdet
from flowkit.graph.data import Graph, Node
from flowkit.graph.plain import Shape, show_shape, suggest
from flowkit.graph.plan import Step, is_one_chain, plan_forward, plan_inverse
from flowkit.graph.registry import KINDS


class BuiltGraph(nn.Module):
    """A graph as a module. Its parameters' names start with the names of the nodes.

    ``net(x=..., condition=...)`` takes the inputs by name (or by position: data first, then conditions).
    An invertible graph returns ``(*outputs, logdet)``, with log|det| (B,) summed along the invertible path. Any other
    graph returns its outputs alone: one tensor, or a tuple in the order of the outputs.

    ``net.inverse(z=..., condition=...)`` takes the outputs that depend on the data and the conditions, and returns
    ``(*inputs, logdet)`` with the log-det of the inverse. Nodes beside the invertible path, such as an embedder of the
    condition, run first in both directions.

    Raises:
        ValueError: an input that is missing, unknown or of the wrong shape; ``inverse`` of a graph that has none, naming
            the first node that is not invertible.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        for node in graph.nodes:
            shapes = tuple(graph.shapes[source] for source in node.sources)
            if hasattr(self, node.name):
                raise ValueError(f"node {node.name!r}: a built module uses this name itself; rename the node.")
            self.add_module(node.name, build_node(node, shapes, bool(graph.facts[node.name].data)))
        paths = graph.paths
        self._invertible = graph.invertible
        data = paths.data_inputs if self._invertible else ()
        self._inputs = (*data, *(value.name for value in graph.inputs if value.name not in data))
        self._outputs = tuple(reference for _, reference in graph.outputs)
        self._forwards = plan_forward(graph, self._takes_workspace)
        self._backwards = plan_inverse(graph, self._takes_workspace) if self._invertible else ()

    def forward(self, *values: Tensor | None, out: ops.Workspace | None = None, **named: Tensor | None) -> Any:
        """The outputs, and the log-det (B,) if the graph is invertible; see the class."""
        shapes = self.graph.input_shapes
        known = self._bind(values, named, {name: shapes[name] for name in self._inputs}, "input")
        logdet = self._run(self._forwards, known, out)
        outputs = tuple(known[reference] for reference in self._outputs)
        if self._invertible:
            return (*outputs, batch_logdet(outputs[0], 0.0) if logdet is None else logdet)
        return outputs[0] if len(outputs) == 1 else outputs

    def inverse(self, *values: Tensor | None, out: ops.Workspace | None = None, **named: Tensor | None) -> Any:
        """The data inputs and the log-det (B,) of the inverse; see the class."""
        paths = self.graph.paths
        if paths.obstacle is not None:
            raise ValueError(f"inverse: {paths.obstacle}.")
        shapes = {n: s for n, s in self.graph.output_shapes.items() if n in paths.data_outputs}
        shapes |= {name: self.graph.input_shapes[name] for name in paths.conditions}
        given = self._bind(values, named, shapes, "output or condition")
        references = dict(self.graph.outputs)
        known = {references[name]: given[name] for name in paths.data_outputs}
        known |= {name: given[name] for name in paths.conditions}
        logdet = self._run(self._backwards, known, out)
        inputs = tuple(known[name] for name in paths.data_inputs)
        return (*inputs, batch_logdet(inputs[0], 0.0) if logdet is None else logdet)

    def _takes_workspace(self, name: str) -> bool:
        return bool(getattr(self._modules[name], "in_place", False))

    def _run(self, steps: Sequence[Step], known: dict[str, Tensor], out: ops.Workspace | None) -> Tensor | None:
        """Runs the steps on the known values; returns the summed log-det, None for zero."""
        total: Tensor | None = None
        spaces: dict[int, ops.Workspace | None] = {}
        for step in steps:
            module: Any = self._modules[step.name]
            reads = [known[reference] for reference in step.reads]
            options = {}
            if step.chain is not None:
                if step.first:
                    fresh = ops.Workspace(reads[0]) if out is None and ops.use_workspace(reads[0]) else out
                    spaces[step.chain] = fresh
                options["out"] = spaces[step.chain]
            result = (module.inverse if step.invert else module)(*reads, **options)
            if step.counts is not None:
                *result, logdet = result
                shared = options.get("out") is not None
                if step.counts and logdet is not None and (step.last or not shared):
                    total = logdet if total is None else total + logdet
            elif isinstance(result, Tensor):
                result = (result,)
            known.update(zip(step.writes, result, strict=True))
        return total

    def _bind(
        self, values: Sequence[Tensor | None], named: Mapping[str, Tensor | None], shapes: Mapping[str, Shape], what: str
    ) -> dict[str, Tensor]:
        """Arguments by name, their shapes checked."""
        names = list(shapes)
        for name in named:
            if name not in shapes and named[name] is not None:
                raise ValueError(f"{name}: there is no such {what}.{suggest(name, names)}")
        if any(value is not None for value in values[len(names) :]):
            raise ValueError(f"expected {len(names)} values ({', '.join(names)}), got {len(values)}.")
        bound = {**dict(zip(names, values, strict=False)), **{k: v for k, v in named.items() if v is not None}}
        checked = {}
        for name, shape in shapes.items():
            value = bound.get(name)
            if value is None:
                raise ValueError(f"{name}: expected a tensor of shape (B, {show_shape(shape)}), got none.")
            if value.ndim != len(shape) + 1 or any(
                size is not None and size != given for size, given in zip(shape, value.shape[1:], strict=True)
            ):
                raise ValueError(f"{name}: expected a tensor of shape (B × {show_shape(shape)}), got {tuple(value.shape)}.")
            checked[name] = value
        return checked


class GraphBijection(BuiltGraph, Bijection):
    """A built graph with one data input, one output and at most one condition: also a Bijection.

    So it can stand wherever a bijection can: in ``Flow``, ``Compose``, ``check_bijection``. ``condition`` is accepted
    as a keyword whatever the graph calls its condition.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        shapes, (data,) = graph.input_shapes, graph.paths.data_inputs
        self.channels = shapes[data][0]
        self.condition_channels = sum(shapes[name][0] or 0 for name in graph.paths.conditions)
        reads = [source for node in graph.nodes for source in node.sources]
        self.in_place = reads.count(data) == 1 and is_one_chain(self._forwards) and is_one_chain(self._backwards)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the output for a data input of ``input_shape``; spatial sizes that the graph leaves open included."""
        (data,) = self.graph.paths.data_inputs
        inputs = tuple(replace(v, shape=tuple(input_shape)) if v.name == data else v for v in self.graph.inputs)
        (shape,) = replace(self.graph, inputs=inputs).output_shapes.values()
        return tuple(size or 0 for size in shape)

    def _bind(
        self, values: Sequence[Tensor | None], named: Mapping[str, Tensor | None], shapes: Mapping[str, Shape], what: str
    ) -> dict[str, Tensor]:
        conditions = self.graph.paths.conditions
        if "condition" in named and "condition" not in shapes and conditions:
            named = {**named, conditions[0]: named["condition"], "condition": None}
        return super()._bind(values, named, shapes, what)


class Repeat(nn.ModuleList):
    """The same graph several times, each time with parameters of its own; children are named "0", "1", ..."""

    def __init__(self, body: Graph, times: int, counts: bool) -> None:
        super().__init__(build_graph(body) for _ in range(times))
        self.carried, self.counts, self.body_counts = len(body.outputs), counts, body.invertible
        self.in_place = counts and all(getattr(step, "in_place", False) for step in self)

    def forward(self, *values: Tensor, **options: Any) -> Any:
        """The carried values after the last step, and the summed log-det (B,) if the repeat is invertible."""
        return self._run([step.forward for step in self], values, options)

    def inverse(self, *values: Tensor, **options: Any) -> Any:
        """The carried values before the first step, and the log-det (B,) of the inverse."""
        return self._run([step.inverse for step in reversed(self)], values, options)

    def _run(self, calls: Sequence[Any], values: tuple[Tensor, ...], options: Mapping[str, Any]) -> Any:
        total: Tensor | None = None
        shared = options.get("out") is not None
        carried, others = values[: self.carried], values[self.carried :]
        for call in calls:
            result = call(*carried, *others, **options)
            if self.body_counts:
                *result, logdet = result
                total = logdet if total is None or shared else total + logdet
            carried = (result,) if isinstance(result, Tensor) else tuple(result)
        if self.counts:
            return (*carried, total)
        return carried[0] if len(carried) == 1 else carried


class Residual(BuiltGraph):
    """A graph of one output with a skip: its first input is added to the output."""

    def forward(self, *values: Tensor | None, **options: Any) -> Any:
        """x + graph(x, ...), of the shape of x."""
        known = dict(zip((value.name for value in self.graph.inputs), values, strict=True))
        result = super().forward(**known, **options)
        return values[0] + (result[0] if self._invertible else result)


def build_graph(graph: Graph) -> BuiltGraph:
    """The module of a graph: a :class:`GraphBijection` where that is possible."""
    paths = graph.paths
    one_each = len(paths.data_inputs) == len(paths.data_outputs) == len(graph.outputs) == 1
    if graph.invertible and one_each and len(paths.conditions) <= 1:
        return GraphBijection(graph)
    return BuiltGraph(graph)


def build_node(node: Node, shapes: tuple[Shape, ...], counts: bool) -> nn.Module:
    """The module of a node whose sources have these shapes; ``counts`` tells whether it has an inverse."""
    if node.body is None:
        condition = None if node.condition is None else shapes[-1]
        return KINDS[node.kind].build(node.options, shapes[: len(node.reads)], condition)
    if node.kind == "repeat":
        return Repeat(node.body, node.options["times"], counts)
    return Residual(node.body) if node.kind == "residual" else build_graph(node.body)
