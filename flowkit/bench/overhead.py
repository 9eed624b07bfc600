"""What a call costs when there is next to nothing to compute: one operator beside torch.add, a step of a tiny flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowkit import bijections, ops
from flowkit.bench.operators import OPERATORS
from flowkit.bench.timing import Contender, interleave

SHAPE = (2, 4)
BATCH, CHANNELS, HIDDEN, STEPS = 64, 8, 32, 4  # the tiny flow
SECONDS = 1.0  # of measuring, each table half


def conditioner(inputs: int, outputs: int) -> nn.Module:
    """The network of both tiny flows."""
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))


def tiny_flow() -> nn.Module:
    """Actnorm and affine coupling with a flip, four times, from flowkit's layers."""
    layers: list[bijections.Bijection] = []
    for _ in range(STEPS):
        layers.append(bijections.ActNorm(CHANNELS))
        layers.append(bijections.AffineCoupling(CHANNELS, conditioner, permutation="flip"))
    return bijections.Compose(*layers)


class PlainFlow(nn.Module):
    """The same flow as one would write it in plain torch, with its parameters in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        for _ in range(STEPS):
            step = nn.Module()
            step.scale, step.shift = nn.Parameter(torch.zeros(CHANNELS)), nn.Parameter(torch.zeros(CHANNELS))
            step.net = conditioner(CHANNELS // 2, CHANNELS)
            self.steps.append(step)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and log|det dz/dx| (B,)."""
        logdet = x.new_zeros(x.size(0))
        for step in self.steps:
            x = x * step.scale.exp() + step.shift
            logdet = logdet + step.scale.sum()
            passive, active = x.chunk(2, 1)
            scale, shift = step.net(passive).chunk(2, 1)
            scale = torch.tanh(scale)
            x = torch.cat([passive, active * scale.exp() + shift], 1).flip(1)
            logdet = logdet + scale.sum(1)
        return x, logdet


def training_step(flow: nn.Module, x: Tensor) -> Contender:
    """One step of maximum likelihood under a standard normal base."""
    flow.to(x.device)(x)  # a first batch initialises actnorm
    optimizer = torch.optim.SGD(flow.parameters(), lr=1e-4)

    def step(_: object) -> None:
        optimizer.zero_grad()
        z, logdet = flow(x)
        loss = (0.5 * z.square().sum(1) - logdet).mean()
        loss.backward()
        optimizer.step()

    return Contender(step)


def operator_calls(device: torch.device) -> dict[str, Contender]:
    """Each operator once on a tiny tensor without autograd, fresh and into a workspace, and torch.add."""
    x = torch.randn(SHAPE, device=device)
    workspace = ops.Workspace(x)
    contenders = {"torch.add": Contender(lambda _: torch.add(x, x))}
    for operator in OPERATORS:
        if operator.name.startswith("affine_coupling_"):
            continue
        call, inputs = operator.forward, (x, *operator.operands(x))
        contenders[operator.name] = Contender(lambda _, call=call, inputs=inputs: call(*inputs))
        contenders[f"{operator.name}, out="] = Contender(
            lambda _, call=call, inputs=inputs: call(*inputs, out=workspace)
        )
    return contenders


def measure(device: torch.device, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Rows ``{"case", "baseline", "ours_us", "baseline_us"}``: microseconds of a call of ours and of the baseline."""
    rows: list[dict[str, Any]] = []

    def add(case: str, baseline: str, ours_ms: float, baseline_ms: float) -> None:
        rows.append({"case": case, "baseline": baseline, "ours_us": ours_ms * 1e3, "baseline_us": baseline_ms * 1e3})

    with torch.no_grad():
        times = interleave(operator_calls(device), seconds, device)
    size = "x".join(map(str, SHAPE))
    for name, milliseconds in times.items():
        if name != "torch.add":
            add(f"{name} {size}", "torch.add", milliseconds, times["torch.add"])
    x = torch.randn(BATCH, CHANNELS, device=device)
    times = interleave(
        {"ours": training_step(tiny_flow(), x), "plain": training_step(PlainFlow(), x)}, seconds, device
    )
    add(f"training step, {STEPS} steps of {BATCH}x{CHANNELS}", "plain torch flow", times["ours"], times["plain"])
    return rows
