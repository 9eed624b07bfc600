"""Models as data."""

from collections.abc import Callable
from typing import Any

from flowkit import nets
from flowkit.graph import kinds as _kinds, structure as _structure  # noqa: F401  they register the built-in kinds
from flowkit.graph.builder import Value, builder, call, graph, input, make, repeat, residual
from flowkit.graph.data import Graph, Input, Node
from flowkit.graph.module import BuiltGraph, GraphBijection
from flowkit.graph.plain import Options, Shape, suggest
from flowkit.graph.registry import KINDS, register

__all__ = [
    "KINDS", "BuiltGraph", "Graph", "GraphBijection", "Input", "Node", "Options", "Shape", "Value", "call", "graph",
    "input", "make", "nets", "register", "repeat", "residual",
]  # fmt: skip


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in KINDS:
        raise AttributeError(f"flowkit.graph has no {name!r}.{suggest(name, [*KINDS, *__all__])}")
    return builder(name)


def __dir__() -> list[str]:
    return [*__all__, *KINDS]
