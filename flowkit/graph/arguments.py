"""Arguments of a built graph: what forward and inverse take, by name or position, and the check of what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowkit.graph.plain import Shape, suggest

if TYPE_CHECKING:
    from flowkit.graph.data import Graph


INDICES = (torch.int64, torch.int32)
"""Types that an embedding reads."""

INTEGERS = (*INDICES, torch.int16, torch.int8, torch.uint8)
"""Types of one number a sample, shape (), besides floating point, if no embedding reads it."""


@dataclass(frozen=True)
class Argument:
    """A tensor (B, *shape) that a built graph takes under a name.

    Arguments:
        reference: the value that it stands for.
        indices: whether it holds class indices, integers, since an embedding reads it.
        shared: whether it may come with a batch of 1, which then holds for all samples: conditions may.
    """

    name: str
    reference: str
    shape: Shape
    indices: bool = False
    shared: bool = False


def arguments(graph: Graph) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
    """What ``forward`` and ``inverse`` take, data before conditions.

    Raises:
        ValueError: if ``inverse`` would take an output and a condition of one name.
    """
    paths, shapes = graph.paths, graph.input_shapes
    first = paths.data_inputs if graph.invertible else ()
    indices = _indices(graph)
    others = [Argument(n, n, shapes[n], n in indices, bool(first)) for n in shapes if n not in first]
    forward = [*(Argument(n, n, shapes[n], n in indices) for n in first), *others]
    if not graph.invertible:
        return tuple(forward), ()
    back = [Argument(n, ref, graph.shapes[ref]) for n, ref in graph.outputs if n in paths.data_outputs]
    for argument in back:
        if argument.name in paths.conditions:
            raise ValueError(f"output {argument.name!r}: inverse also takes a condition of this name; rename one.")
    return tuple(forward), (*back, *(Argument(n, n, shapes[n], n in indices, True) for n in paths.conditions))


def _indices(graph: Graph) -> frozenset[str]:
    """The inputs that an embedding reads, here or in a graph inside."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.kind == "embedding":
            found.update(node.reads)
        elif node.body is not None:
            inside = _indices(node.body)
            found.update(s for s, v in zip(node.reads, node.body.inputs, strict=True) if v.name in inside)
    return frozenset(found)


def bind(
    takes: Sequence[Argument],
    values: Sequence[Tensor | None],
    named: Mapping[str, Tensor | None],
    device: torch.device | None,
) -> dict[str, Tensor]:
    """The given tensors by reference; None counts as not given. ``device`` is that of the module, None for any.

    Raises:
        ValueError: for an argument that is missing, given twice, unknown, of the wrong shape or type, on another device
            than the module or the first argument, or of another batch size than the first argument (but for a condition
            of batch 1).
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
    known = {argument.reference: _checked(argument, given.get(argument.name)) for argument in takes}
    first = known[takes[0].reference]
    own, place = (first.device, f"{takes[0].name}'s") if device is None else (device, "the module's")
    for argument, value in zip(takes, known.values(), strict=True):
        if value.device != own:
            raise ValueError(f"{argument.name}: expected a tensor on {place} device {own}, got one on {value.device}.")
        if value.shape[0] != first.shape[0] and not (argument.shared and value.shape[0] == 1):
            raise ValueError(
                f"{argument.name}: expected a batch of {first.shape[0]}, like {takes[0].name}'s, got {value.shape[0]}."
            )
    return known


def spread(value: Tensor, batch: int) -> Tensor:
    """A condition of batch 1 for as many samples as there are; anything else as it is."""
    return value if value.shape[0] != 1 else value.expand(batch, *value.shape[1:])


def _checked(argument: Argument, value: Tensor | None) -> Tensor:
    if not isinstance(value, Tensor):
        raise _wrong(argument, "none" if value is None else type(value).__name__)
    fits = value.ndim == len(argument.shape) + 1 and all(
        size is None or size == given for size, given in zip(argument.shape, value.shape[1:], strict=True)
    )
    if not fits:
        raise _wrong(argument, tuple(value.shape))
    if argument.indices:
        if value.dtype not in INDICES:
            raise ValueError(f"{argument.name}: expected class indices, int64 or int32, got {value.dtype}.")
    elif not value.is_floating_point() and (argument.shape or value.dtype not in INTEGERS):
        advice = "" if value.is_complex() else f"; use {argument.name}.float()"
        raise ValueError(f"{argument.name}: expected a floating-point tensor, got {value.dtype}{advice}.")
    return value


def _wrong(argument: Argument, given: object) -> ValueError:
    shape = " × ".join(["B", *("?" if size is None else str(size) for size in argument.shape)])
    return ValueError(f"{argument.name}: expected a tensor of shape ({shape}), got {given}.")
