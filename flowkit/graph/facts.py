"""What a graph knows of its nodes before a weight exists: output shapes, parameter counts, invertible ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flowkit.graph.plain import Options, Shape, check_shape, show_shape
from flowkit.graph.registry import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowkit.graph.data import Graph, Node

PROBES = (1024, 1536)
"""Two sizes tried in place of an unknown one; an output size that differs between them is unknown too."""


@dataclass(frozen=True)
class Facts:
    """What is known of one node.

    Arguments:
        outputs: a shape for each output.
        ports: names of the outputs when there are several; a single output has no port.
        parameters: trainable numbers.
        data: positions in ``node.sources`` of the values that ``inverse`` gives back; empty if not invertible.
        kept: positions in ``outputs`` of the values that ``inverse`` takes.
    """

    outputs: tuple[Shape, ...]
    ports: tuple[str, ...]
    parameters: int
    data: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()

    def references(self, name: str) -> tuple[str, ...]:
        """The references to the outputs of the node called ``name``."""
        return tuple(f"{name}.{port}" for port in self.ports) if len(self.ports) > 1 else (name,)


def graph_facts(graph: Graph) -> dict[str, Facts]:
    """The facts of every node, by name.

    Raises:
        ValueError: naming the node whose shapes do not fit.
    """
    shapes = graph.input_shapes
    facts = {}
    for node in graph.nodes:
        known = node_facts(
            node, tuple(_shape_of(source, shapes, f"node {node.name!r}: reads") for source in node.sources)
        )
        facts[node.name] = known
        shapes.update(zip(known.references(node.name), known.outputs, strict=True))
    for name, reference in graph.outputs:
        _shape_of(reference, shapes, f"output {name!r}: stands for")
    return facts


def _shape_of(reference: str, shapes: Mapping[str, Shape], where: str) -> Shape:
    if reference not in shapes:
        base = reference.partition(".")[0]
        known = [name for name in shapes if name.partition(".")[0] == base]
        raise ValueError(f"{where} unknown {reference!r}; {base!r} has the outputs {', '.join(known)}.")
    return shapes[reference]


def node_facts(node: Node, shapes: tuple[Shape, ...]) -> Facts:
    """The facts of a node whose sources have these shapes.

    Raises:
        ValueError: naming the node, the shapes that it reads and what does not fit.
    """
    kind = KINDS[node.kind]
    try:
        if node.body is not None:
            return _body_facts(node, node.body, shapes)
        reads = shapes[: len(node.reads)]
        condition = shapes[-1] if node.condition is not None else None
        if kind.takes_condition:
            _check_condition(reads[0], condition)
        return module_facts(node.kind, node.options, reads, condition)
    except ValueError as error:
        read = ", ".join(f"{s!r} ({show_shape(shape)})" for s, shape in zip(node.sources, shapes, strict=True))
        raise ValueError(f"node {node.name!r} ({node.kind}), reading {read}: {error}") from error


@lru_cache(maxsize=4096)
def module_facts(kind_name: str, options: Options, shapes: tuple[Shape, ...], condition: Shape | None) -> Facts:
    """The facts of a module of a kind for values of these shapes; its weights are never allocated."""
    kind = KINDS[kind_name]
    with weightless():
        try:
            module = kind.build(options, shapes, condition)
        except (TypeError, RuntimeError, IndexError) as error:
            detail = str(error).partition("\n")[0][:300]
            raise ValueError(f"cannot be made on the meta device with {options}: {detail}") from error
    outputs = _output_shapes(module, shapes)
    parameters = sum(p.numel() for p in module.parameters())
    ports = tuple(str(i) for i in range(len(outputs)))
    if not kind.invertible:
        return Facts(outputs, ports, parameters)
    return Facts(outputs, ports, parameters, tuple(range(len(shapes))), tuple(range(len(outputs))))


def _body_facts(node: Node, body: Graph, shapes: tuple[Shape, ...]) -> Facts:
    for value, shape in zip(body.inputs, shapes, strict=True):
        if value.shape != shape:
            raise ValueError(f"its graph takes {show_shape(value.shape)} as {value.name!r}, got {show_shape(shape)}.")
    outputs = tuple(body.output_shapes.values())
    ports = tuple(body.output_shapes)
    times = node.options.get("times", 1) if node.kind == "repeat" else 1
    parameters = body.parameters * times
    if node.kind == "residual":
        if outputs != shapes[:1]:
            came = ", ".join(show_shape(s) for s in outputs)
            raise ValueError(f"its graph must keep the shape of the first value, {show_shape(shapes[0])}; got {came}.")
        return Facts(outputs, ports, parameters)
    if node.kind == "repeat" and outputs != shapes[: len(outputs)]:
        came, first = (", ".join(show_shape(s) for s in group) for group in (outputs, shapes[: len(outputs)]))
        raise ValueError(f"a step must return its first values in their shapes: expected {first}, got {came}.")
    names, paths = [value.name for value in body.inputs], body.paths
    data = tuple(i for i, name in enumerate(names) if name in paths.data_inputs)
    kept = tuple(i for i, name in enumerate(ports) if name in paths.data_outputs)
    carried = tuple(range(len(outputs)))
    if not body.invertible or (node.kind == "repeat" and (data != carried or kept != carried)):
        return Facts(outputs, ports, parameters)
    return Facts(outputs, ports, parameters, data, kept)


def _check_condition(x: Shape, condition: Shape | None) -> None:
    if condition is None:
        return
    if len(condition) != 1 and (
        len(condition) != len(x)
        or any(a is not None and b is not None and a != b for a, b in zip(x[1:], condition[1:], strict=True))
    ):
        spatial = f" or an image of x's spatial size, (K × {show_shape(x[1:])})" if len(x) > 1 else ""
        raise ValueError(f"condition: expected a vector (K){spatial}, got {show_shape(condition)}.")


def _output_shapes(module: nn.Module, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    unknown = any(size is None for shape in shapes for size in shape)
    results = [_run(module, shapes, probe) for probe in (PROBES if unknown else PROBES[:1])]
    return tuple(
        check_shape(tuple(a if a == b else None for a, b in zip(first, last, strict=True)), "output")
        for first, last in zip(results[0], results[-1], strict=True)
    )


def _run(module: nn.Module, shapes: tuple[Shape, ...], probe: int) -> tuple[tuple[int, ...], ...]:
    sizes = [tuple(probe if size is None else size for size in shape) for shape in shapes]
    rule: Any = getattr(module, "output_shape", None)
    if rule is not None:
        result = rule(*sizes)
        return tuple(map(tuple, result)) if result and isinstance(result[0], (tuple, list)) else (tuple(result),)
    module = module.to("meta").eval()
    with torch.no_grad():
        try:
            outputs = module(*(torch.empty(2, *size, device="meta") for size in sizes))
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(f"cannot run on these shapes: {str(error).splitlines()[0]}") from error
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    if not isinstance(outputs, (tuple, list)) or not all(isinstance(o, Tensor) and o.ndim > 0 for o in outputs):
        raise ValueError("expected a tensor or a tuple of tensors with a batch dimension from its forward.")
    return tuple(tuple(o.shape[1:]) for o in outputs)


_FACTORIES = (
    torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.linspace, torch.normal,
)  # fmt: skip


class _MetaFactories(TorchFunctionMode):
    """Sends the factories of weights to the meta device; index tensors, which constructors look into, stay real."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        if func is torch.geqrf and args[0].is_meta:  # torch has no meta kernel for it
            return torch.return_types.geqrf((torch.empty_like(args[0]), args[0].new_empty(min(args[0].shape))))
        return func(*args, **kwargs)


@contextmanager
def weightless() -> Iterator[None]:
    """Modules made inside have the right shapes but no weights; the random state is left as it was."""
    with torch.random.fork_rng(devices=[]), _MetaFactories():
        yield
