"""Graphs as modules: forward, inverse, the log-det along the invertible path, buffers shared along chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections import Bijection
from flowkit.bijections.base import CheckedLoading, batch_logdet, first_tensor
from flowkit.graph.arguments import Argument, arguments, bind, spread
from flowkit.graph.data import Graph, Node
from flowkit.graph.plain import Shape
from flowkit.graph.plan import Step, is_one_chain, plan_forward, plan_inverse
from flowkit.graph.registry import KINDS
from flowkit.graph.walk import can_walk, walk_back
from flowkit.nets import PairedMLP

PROBE = 64  # stands for a spatial size that a graph leaves open, to learn by how much the graph scales it


class BuiltGraph(CheckedLoading):
    """A graph as a module. Its parameters' names start with the names of the nodes.

    ``net(x=..., condition=...)`` takes the inputs by name (or by position: data first, then conditions).
    An invertible graph returns ``(*outputs, logdet)``, with log|det| (B,) summed along the invertible path. Any other
    graph returns its outputs alone: one tensor, or a tuple in the order of the outputs.

    ``net.inverse(z=..., condition=...)`` takes the outputs that depend on the data and the conditions, and returns
    ``(*inputs, logdet)`` with the log-det of the inverse. Nodes beside the invertible path, such as an embedder of the
    condition, run first in both directions. A condition may come with a batch of 1, for all samples alike: what lies
    beside the path then runs once, so that drawing many samples for one condition embeds it once; outputs have the
    batch of the first input all the same, those of the condition alone as views.

    Raises:
        ValueError: an input that is missing, unknown, of the wrong shape, type or device, or of another batch size than
            the first, a condition of batch 1 apart (integers are class indices: they fit inputs of shape () only);
            ``inverse`` of a graph that has none, naming the first node that is not invertible; at ``load_state_dict``,
            a value that is not finite.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        for node in graph.nodes:
            shapes = tuple(graph.shapes[source] for source in node.sources)
            self.add_module(node.name, build_node(node, shapes, bool(graph.facts[node.name].data)))
        self._obstacle = graph.paths.obstacle
        self._takes, self._takes_back = arguments(graph)
        self._gives = tuple(reference for _, reference in graph.outputs)
        self._gives_back = graph.paths.data_inputs
        self._forwards = plan_forward(graph, self._takes_workspace)
        self._backwards = plan_inverse(graph, self._takes_workspace) if graph.invertible else ()

    def forward(self, *values: Tensor | None, out: Any = None, **named: Tensor | None) -> Any:
        """The outputs, and the log-det (B,) if the graph is invertible; see the class."""
        outputs, logdet = self._run(self._forwards, self._takes, values, named, out, self._gives)
        if self._obstacle is None:
            return (*outputs, batch_logdet(outputs[0], 0.0) if logdet is None else logdet)
        return outputs[0] if len(outputs) == 1 else outputs

    def inverse(self, *values: Tensor | None, out: Any = None, **named: Tensor | None) -> Any:
        """The data inputs and the log-det (B,) of the inverse; see the class."""
        if self._obstacle is not None:
            raise ValueError(f"inverse: {self._obstacle}.")
        inputs, logdet = self._run(self._backwards, self._takes_back, values, named, out, self._gives_back)
        return (*inputs, batch_logdet(inputs[0], 0.0) if logdet is None else logdet)

    def optimize(
        self, *, training: bool = False, inference: bool = False, weights: torch.dtype | None = None
    ) -> BuiltGraph:
        """A module of :meth:`Graph.optimize`'s graph with the weights of this one.

        It shares the tensors that stay as they are; what is stacked or folded is a copy, so after training the weights
        come back by ``graph.optimize(training=True).restore(fast.state_dict())``. For inference it comes in evaluation
        mode. All of its parameters require gradients: frozen ones have to be frozen again.

        Arguments:
            weights: for inference, the dtype in which the couplings' pairs of networks keep their weights. With
                torch.bfloat16 few samples on a CPU, which are bound by reading the weights, take half the time. It is
                another function, by the rounding of the weights (of 8 bits); its inverse and log-det are as exact as
                ever. Inputs, sums and results stay what they are.

        Raises:
            ValueError: unless exactly one of the two is asked for; for inference, an actnorm that is not initialised;
                ``weights`` for training, or where no pair of networks is.
        """
        net = self.graph.optimize(training=training, inference=inference).build(self.state_dict())
        pairs = [module for module in net.modules() if isinstance(module, PairedMLP)]
        if weights is not None and (training or not pairs):
            found = "training=True" if training else "a graph without them"
            raise ValueError(f"optimize: weights= is for pairs of networks at inference, got {found}.")
        for pair in pairs:
            if weights is not None:
                pair.narrow(weights)
        return net.train(self.training and training)

    def _run(
        self,
        steps: Sequence[Step],
        takes: Sequence[Argument],
        values: Sequence[Tensor | None],
        named: Mapping[str, Tensor | None],
        out: ops.Workspace | Tensor | None,
        gives: Sequence[str],
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Runs the steps on the arguments; returns the values asked for and the summed log-det, None for zero."""
        if isinstance(out, Tensor):  # an input or output may be called "out" too
            named, out = {**named, "out": out}, None
        own = first_tensor(self)
        known = bind(takes, values, self._renamed(named), None if own is None else own.device)
        batch = known[takes[0].reference].shape[0]
        shared = any(value.shape[0] != batch for value in known.values())
        total: Tensor | None = None
        spaces: dict[int, ops.Workspace | None] = {}
        for step in steps:
            module: Any = self._modules[step.name]
            reads = [known[reference] for reference in step.reads]
            if shared and any(value.shape[0] == batch for value in reads):
                reads = [spread(value, batch) for value in reads]
            options = {}
            if step.chain is not None:
                if step.first:
                    fresh = ops.Workspace(reads[0]) if out is None and ops.use_workspace(reads[0]) else out
                    spaces[step.chain] = fresh
                options["out"] = spaces[step.chain]
            result = (module.inverse if step.invert else module)(*reads, **options)
            if step.counts is not None:
                result, logdet = result[:-1], result[-1]
                in_buffers = options.get("out") is not None
                if step.counts and logdet is not None and (step.last or not in_buffers):
                    total = logdet if total is None else total + logdet
            elif isinstance(result, Tensor):
                result = (result,)
            known.update(zip(step.writes, result, strict=True))
        results = (known[reference] for reference in gives)
        return tuple(spread(value, batch) if shared else value for value in results), total

    def _takes_workspace(self, name: str) -> bool:
        return bool(getattr(self._modules[name], "in_place", False))

    def _renamed(self, named: Mapping[str, Tensor | None]) -> Mapping[str, Tensor | None]:
        return named


class GraphBijection(BuiltGraph, Bijection):
    """A built graph with one data input, one output and at most one condition: also a Bijection.

    So it can stand wherever a bijection can: in ``Flow``, ``Compose``, ``check_bijection``. ``condition`` is accepted
    as a keyword whatever the graph calls its condition.
    """

    def __init__(self, graph: Graph) -> None:
        shapes, (data,) = graph.input_shapes, graph.paths.data_inputs
        for what, name in (("input", data), ("output", graph.outputs[0][0])):
            if name == "condition":
                raise ValueError(f"{what} 'condition': a bijection calls its condition so; rename the {what}.")
        super().__init__(graph)
        self.channels = shapes[data][0]
        self.condition_channels = sum((*shapes[name], 1)[0] or 0 for name in graph.paths.conditions)
        reads = [source for node in graph.nodes for source in node.sources]
        self.in_place = reads.count(data) == 1 and is_one_chain(self._forwards) and is_one_chain(self._backwards)
        self._walks = can_walk(self._forwards, self._modules, self.graph.paths.conditions)

    def _run(
        self,
        steps: Sequence[Step],
        takes: Sequence[Argument],
        values: Sequence[Tensor | None],
        named: Mapping[str, Tensor | None],
        out: ops.Workspace | Tensor | None,
        gives: Sequence[str],
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        if self.reversal is not None and not isinstance(out, ops.Workspace):
            named = named if out is None else {**named, "out": out}
            x, *conditions = bind(takes, values, self._renamed(named), None).values()
            condition = spread(conditions[0], x.shape[0]) if conditions else None
            if self.reversal.applies(self, x, condition, {}):
                y, logdet = self.reversal(self, x, condition, inverse=steps is self._backwards)
                return (y,), logdet
            out = None
        return super()._run(steps, takes, values, named, out, gives)

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        if not self._walks:
            return super().step_back(y, condition, inverse, walk)
        steps, (output,) = (self._backwards, self._gives_back) if inverse else (self._forwards, self._gives)
        given = {} if condition is None else dict.fromkeys(self.graph.paths.conditions, condition)
        return walk_back(steps, self._modules, (output, y), given, walk)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the output for a data input of ``input_shape``; any spatial sizes that fit."""
        (data,) = self.graph.paths.data_inputs
        inputs = tuple(replace(v, shape=tuple(input_shape)) if v.name == data else v for v in self.graph.inputs)
        (shape,) = replace(self.graph, inputs=inputs).output_shapes.values()
        return tuple(size or 0 for size in shape)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the data input that gives ``output_shape``; ValueError if none does."""
        (data,) = self.graph.paths.data_inputs
        channels, *spatial = self.graph.input_shapes[data]
        declared = (channels or 0, *(size or PROBE for size in spatial))
        ratios = zip(declared[1:], self.output_shape(declared)[1:], output_shape[1:], strict=True)
        candidate = (declared[0], *(given * before // after for before, after, given in ratios))
        if self.output_shape(candidate) != tuple(output_shape):
            raise self._wrong("y", f"shape {self.output_shape(declared)} or like it", tuple(output_shape))
        return candidate

    def _renamed(self, named: Mapping[str, Tensor | None]) -> Mapping[str, Tensor | None]:
        conditions = self.graph.paths.conditions
        if "condition" in named and "condition" not in conditions:
            named = {name: value for name, value in named.items() if name != "condition"} | (
                {conditions[0]: named["condition"]} if conditions else {"condition": named["condition"]}
            )
        return named


RESERVED = frozenset(dir(GraphBijection)) | {"graph", "training"}
"""Attributes of a built graph, which no node can be called; those that start with an underscore are not listed."""


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

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        """The carried value before the repeat; see :meth:`flowkit.Bijection.step_back`."""
        for step in self if inverse else reversed(self):
            y = walk.back(step, y, condition, inverse)
        return y

    def _run(self, calls: Sequence[Any], values: tuple[Tensor, ...], options: Mapping[str, Any]) -> Any:
        total: Tensor | None = None
        shared = options.get("out") is not None
        carried, others = values[: self.carried], values[self.carried :]
        for call in calls:
            result = call(*carried, *others, **options)
            if self.body_counts:
                result, logdet = result[:-1], result[-1]
                total = logdet if total is None or shared else total + logdet
            carried = (result,) if isinstance(result, Tensor) else result
        if self.counts:
            return (*carried, total)
        return carried[0] if len(carried) == 1 else carried


class Residual(BuiltGraph):
    """A graph of one output with a skip: its first input is added to the output."""

    def forward(self, *values: Tensor | None, **options: Any) -> Any:
        """x + graph(x, ...), of the shape of x."""
        names = (value.name for value in self.graph.inputs)
        result = super().forward(**dict(zip(names, values, strict=True)), **options)
        return values[0] + (result[0] if self._obstacle is None else result)


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
