"""How much of a flow's time its conditioner networks take; the rest is the invertible layers' own."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.bijections import Bijection


@dataclass(frozen=True)
class TimeShares:
    """Median shares, 0 to 1.

    Arguments:
        training: of a training step's forward and backward pass.
        sampling: of an inverse pass without gradients.
    """

    training: float
    sampling: float


def conditioners(flow: nn.Module) -> list[nn.Module]:
    """The networks inside a flow: the outermost modules with parameters that hold no bijection."""
    if not any(isinstance(module, Bijection) for module in flow.modules()):
        return [flow] if any(True for _ in flow.parameters()) else []
    return [network for child in flow.children() for network in conditioners(child)]


def conditioner_time_shares(flow: Bijection, x: Tensor, condition: Tensor, repetitions: int = 40) -> TimeShares:
    """Times the conditioners against the whole flow; every repetition gives a ratio, and the median counts.

    Sampling: timers around the conditioners while the flow runs. Training: the conditioners' forward and backward pass
    alone, on the inputs that they had in the flow, over that of the whole flow, in turns.

    Arguments:
        x, condition: a batch as in training.
    """
    flow = copy.deepcopy(flow).requires_grad_()  # whose gradients are no one's business
    networks = conditioners(flow)
    calls = _recorded_calls(flow, networks, x, condition)
    _networks_alone(calls)
    _train_step(flow, x, condition)
    training, sampling = [], []
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(repetitions):
        alone = _seconds(lambda: _networks_alone(calls))
        training.append(alone / _seconds(lambda: _train_step(flow, x, condition)))
        sampling.append(_sampling_share(flow, networks, z, condition))
    return TimeShares(statistics.median(training), statistics.median(sampling))


@dataclass
class _Watch:
    """Adds up the time between the two hooks of each network."""

    total: float = 0.0
    begun: dict[nn.Module, float] = field(default_factory=dict)

    def start(self, module: nn.Module, inputs: Any) -> None:
        self.begun[module] = time.perf_counter()

    def stop(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.total += time.perf_counter() - self.begun[module]


@torch.no_grad()
def _sampling_share(flow: Bijection, networks: list[nn.Module], z: Tensor, condition: Tensor) -> float:
    watch = _Watch()
    hooks = [network.register_forward_pre_hook(watch.start) for network in networks]
    hooks += [network.register_forward_hook(watch.stop) for network in networks]
    whole = _seconds(lambda: flow.inverse(z, condition))
    for hook in hooks:
        hook.remove()
    return watch.total / whole


def _recorded_calls(
    flow: Bijection, networks: list[nn.Module], x: Tensor, condition: Tensor
) -> list[tuple[nn.Module, Tensor]]:
    """Each network with the input that it has in a forward pass, as a leaf that takes a gradient."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append((module, inputs[0].detach().clone().requires_grad_()))

    hooks = [network.register_forward_pre_hook(record) for network in networks]
    with torch.no_grad():
        flow(x, condition)
    for hook in hooks:
        hook.remove()
    return calls


def _train_step(flow: Bijection, x: Tensor, condition: Tensor) -> None:
    z, logdet = flow(x, condition)
    (0.5 * z.square().sum() - logdet.sum()).backward()


def _networks_alone(calls: list[tuple[nn.Module, Tensor]]) -> None:
    for network, given in calls:
        output = network(given)
        output.backward(torch.ones_like(output))


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
