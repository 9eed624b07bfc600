"""Arguments of a built graph: what forward and inverse take, by name or position, and the check of what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from flowkit.graph.plain import Shape, suggest

if TYPE_CHECKING:
    from flowkit.graph.data import Graph


@dataclass(frozen=True)
class Argument:
    """A tensor (B, *shape) that a built graph takes under a name; ``reference`` is the value that it stands for."""

    name: str
    reference: str
    shape: Shape


def arguments(graph: Graph) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
    """What ``forward`` and ``inverse`` take, data before conditions.

    Raises:
        ValueError: if ``inverse`` would take an output and a condition of one name.
    """
    paths, shapes = graph.paths, graph.input_shapes
    first = paths.data_inputs if graph.invertible else ()
    forward = [Argument(n, n, shapes[n]) for n in (*first, *(n for n in shapes if n not in first))]
    if not graph.invertible:
        return tuple(forward), ()
    back = [Argument(n, ref, graph.shapes[ref]) for n, ref in graph.outputs if n in paths.data_outputs]
    for argument in back:
        if argument.name in paths.conditions:
            raise ValueError(f"output {argument.name!r}: inverse also takes a condition of this name; rename one.")
    return tuple(forward), (*back, *(Argument(n, n, shapes[n]) for n in paths.conditions))


def bind(
    takes: Sequence[Argument], values: Sequence[Tensor | None], named: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """The given tensors by reference; None counts as not given.

    Raises:
        ValueError: for an argument that is missing, given twice, unknown or of the wrong shape.
    """
    names = [argument.name for argument in takes]
    if any(value is not None for value in values[len(names) :]):
        raise ValueError(f"expected {len(names)} tensors ({', '.join(names)}), got {len(values)}.")
    given = dict(zip(names, values, strict=False))
    for name, value in named.items():
        if value is None:
            continue
        if name not in names:
            raise ValueError(f"{name}: expected one of the arguments {', '.join(names)}.{suggest(name, names)}")
        if given.get(name) is not None:
            raise ValueError(f"{name}: expected once, got by position and by name.")
        given[name] = value
    return {argument.reference: _checked(argument, given.get(argument.name)) for argument in takes}


def _checked(argument: Argument, value: Tensor | None) -> Tensor:
    if not isinstance(value, Tensor):
        raise _wrong(argument, "none" if value is None else type(value).__name__)
    fits = value.ndim == len(argument.shape) + 1 and all(
        size is None or size == given for size, given in zip(argument.shape, value.shape[1:], strict=True)
    )
    if not fits:
        raise _wrong(argument, tuple(value.shape))
    return value


def _wrong(argument: Argument, given: object) -> ValueError:
    shape = " × ".join(["B", *("?" if size is None else str(size) for size in argument.shape)])
    return ValueError(f"{argument.name}: expected a tensor of shape ({shape}), got {given}.")
