"""The walk back through a built graph whose activations were not stored; see :class:`flowkit.ops.Reversal`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.graph.plan import Step
from flowkit.ops import Reversal


def can_walk(steps: Sequence[Step], modules: Mapping[str, Any], conditions: Iterable[str]) -> bool:
    """Whether the steps can be walked back one by one: what conditions them follows from the conditions alone."""
    beside = set(conditions)
    for step in steps:
        if not step.counts:
            if not beside.issuperset(step.reads):
                return False
            beside.update(step.writes)
        elif not _is_structural(modules[step.name]):
            plain = hasattr(modules[step.name], "step_back") and len(step.writes) == 1
            if not plain or len(step.reads) > 2 or not beside.issuperset(step.reads[1:]):
                return False
    return True


def walk_back(
    steps: Sequence[Step],
    modules: Mapping[str, Any],
    y: tuple[str, Tensor],
    condition: Mapping[str, Tensor],
    walk: Reversal,
) -> Tensor:
    """The data input of steps that gave ``y``; both it and the condition come with their reference.

    Nodes beside the path run first, and their gradients are taken last. A value is rebuilt in the buffers of its own
    branch, so that no branch writes over another.
    """
    path = [step for step in steps if step.counts]
    side = [step for step in steps if not step.counts]
    known = dict(condition)
    with torch.enable_grad():
        for step in side:
            result = modules[step.name](*(known[reference] for reference in step.reads))
            result = result if step.counts is None else result[:-1]  # a log-det beside the path does not count
            known.update(zip(step.writes, (result,) if isinstance(result, Tensor) else result, strict=True))
    leaves = {reference: _leaf(value) for reference, value in known.items() if reference not in condition}
    given = {**known, **leaves}
    reached = {y[0]: (y[1], walk)}
    for step in reversed(path):
        module, outputs = modules[step.name], [reached.pop(reference) for reference in step.writes]
        if _is_structural(module):
            undo = module.forward if step.invert else module.inverse  # moves gradients as it moves values
            *values, _ = undo(*(value for value, _ in outputs))
            *grads, _ = undo(*(branch.grad for _, branch in outputs))
            inputs = [(value, walk.part(value, grad)) for value, grad in zip(values, grads, strict=True)]
        else:
            ((value, branch),) = outputs
            rest = [given[reference] for reference in step.reads[1:]]
            inputs = [(branch.back(module, value, rest[0] if rest else None, step.invert), branch)]
        reached.update(zip(step.reads, inputs, strict=False))
    for reference, leaf in leaves.items():
        if leaf in walk.gradients:
            walk.wait(known[reference], walk.gradients.pop(leaf))
    owners: list[nn.Module | Tensor] = [modules[step.name] for step in side]
    walk.collect(*owners, *condition.values())
    ((x, branch),) = reached.values()
    walk.grad = branch.grad
    return x


def _is_structural(module: Any) -> bool:
    return getattr(module, "structural", False)


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_(value.requires_grad)
