"""Operators that are not views, i.e. roughly kernel launches, of one spline coupling after its conditioner.

Counted by a dispatch mode on the CPU. Eager calls of flowkit go past torch's dispatcher, straight to the same native
function; under a mode they take the dispatcher, so that every native call is counted, as one operator. On a GPU the
profiler counts the kernels themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.parts import peers, spline
from benchmarks.parts.rows import Row, Settings, row, value
from flowkit.bench.runner import outputs


class Counter(TorchDispatchMode):
    """Counts the operators whose results are not all views of their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        self.count += not view
        return func(*args, **(kwargs or {}))


def count(work: Callable[[], object], device: torch.device) -> int:
    """Operators that are not views on a CPU, kernels on a GPU."""
    if device.type != "cuda":
        with Counter() as counter:
            work()
        return counter.count
    from torch.profiler import ProfilerActivity, profile

    work()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        work()
        torch.cuda.synchronize()
    kernels = [e for e in recorded.events() if e.device_type.name == "CUDA"]
    return sum(not e.name.startswith(("Memcpy", "Memset")) for e in kernels)


def both_ways(function: Callable[..., Any], x: Tensor, params: Tensor, device: torch.device) -> tuple[int, int]:
    """Launches of the forward, and of forward and backward together."""
    leaves = [x.clone().requires_grad_(), params.clone().requires_grad_()]
    with torch.no_grad():
        results = outputs(function(x, params))
        forward = count(lambda: function(x, params), device)
    ones = [torch.ones_like(t) for t in results]

    def recorded() -> object:
        return torch.autograd.grad(outputs(function(*leaves)), leaves, ones)

    return forward, count(recorded, device)


def rows(settings: Settings) -> Iterator[Row]:
    """Ours beside each library, forward and with backward."""
    size = spline.SIZE
    x, params = spline.inputs((16, size.features), settings.device)
    mine = both_ways(spline.OURS.forward, x, params, settings.device)
    notes: list[str] = []
    others = {
        library: both_ways(coupling[0], x, params, settings.device)
        for library, coupling in peers.installed(peers.splines(size), notes)
    }
    unit = "kernels" if settings.device.type == "cuda" else "operators"
    for index, (what, most) in enumerate((("forward", 1), ("forward and backward", 2))):
        for library, theirs in others.items() or [("", (None, None))]:
            target, text = value(most), f"launches of an RQS coupling, {what}"
            yield row(text, f"{size.bins} bins", mine[index], library, theirs[index], target, unit=unit)
    for note in notes:
        yield row("launches of an RQS coupling", "", None, note=note)
