"""What a call costs when there is next to nothing to compute: one operator beside torch.add, a step of a tiny flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import bijections, ops
from flowkit.bench.operators import SLOPE, order, per_channel, random, rotation
from flowkit.bench.timing import Contender, calling, interleave

SHAPE = (2, 4)
BATCH, CHANNELS, HIDDEN, STEPS = 64, 8, 32, 4  # the tiny flow
SECONDS = 1.0  # of measuring, for the calls, and again for the training steps


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


class PlainStep(nn.Module):
    """Actnorm, affine coupling and flip as one would write them in plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(CHANNELS)), nn.Parameter(torch.zeros(CHANNELS))
        self.net = conditioner(CHANNELS // 2, CHANNELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C) and log|det dy/dx| (B,)."""
        x = x * self.scale.exp() + self.shift
        passive, active = x.chunk(2, 1)
        scale, shift = self.net(passive).chunk(2, 1)
        scale = torch.tanh(scale)
        y = torch.cat([passive, active * scale.exp() + shift], 1).flip(1)
        return y, self.scale.sum() + scale.sum(1)


class PlainFlow(nn.Module):
    """The same flow in plain torch, with its parameters in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(PlainStep() for _ in range(STEPS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, C) and log|det dz/dx| (B,)."""
        total = x.new_zeros(x.size(0))
        for step in self.steps:
            x, logdet = step(x)
            total = total + logdet
        return x, total


def training_step(flow: nn.Module, x: Tensor) -> Contender:
    """One step of maximum likelihood under a standard normal base."""
    flow = flow.to(x.device)
    flow(x)  # a first batch initialises actnorm
    optimizer = torch.optim.SGD(flow.parameters(), lr=1e-4)

    def step(_: object) -> None:
        optimizer.zero_grad()
        z, logdet = flow(x)
        loss = (0.5 * z.square().sum(1) - logdet).mean()
        loss.backward()
        optimizer.step()

    return Contender(step)


def operator_calls(device: torch.device) -> dict[str, Contender]:
    """torch.add, and each operator on a tiny tensor without autograd: with a fresh output, and inside a workspace."""
    x = torch.rand(SHAPE, device=device)  # positive: a thousand leaky ReLUs in place leave it as it is
    half = SHAPE[1] // 2
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
        "affine_coupling": (ops.affine_coupling, (x, random(x, SHAPE[1])), {"begin": half}),
        "additive_coupling": (ops.additive_coupling, (x, random(x, half)), {"begin": half}),
        "actnorm": (ops.actnorm, (x, *per_channel(x)), {"log_scale": True}),
        "channel_linear": (ops.channel_linear, (x, rotation(x)), {}),
        "permute_channels": (ops.permute_channels, (x, order(x)), {}),
        "leaky_relu": (ops.leaky_relu, (x, SLOPE), {}),
    }
    workspace = ops.Workspace(x)
    contenders = {"torch.add": calling(torch.add, x, x)}
    for name, (function, arguments, options) in calls.items():
        contenders[name] = calling(function, *arguments, **options)
        y = function(*arguments, **options, out=workspace)
        buffer = y if isinstance(y, Tensor) else y[0]
        contenders[f"{name} in place"] = calling(function, buffer, *arguments[1:], **options, out=workspace)
    return contenders


def measure(device: torch.device) -> list[dict[str, Any]]:
    """Rows ``{"case", "baseline", "ours_us", "baseline_us"}``: microseconds of a call of ours and of the baseline."""
    rows: list[dict[str, Any]] = []

    def add(case: str, baseline: str, ours_ms: float, baseline_ms: float) -> None:
        rows.append({"case": case, "baseline": baseline, "ours_us": ours_ms * 1e3, "baseline_us": baseline_ms * 1e3})

    with torch.no_grad():
        times = interleave(operator_calls(device), SECONDS, device)
    size = "x".join(map(str, SHAPE))
    for name, milliseconds in times.items():
        if name != "torch.add":
            add(f"{name} {size}", "torch.add", milliseconds, times["torch.add"])
    x = torch.randn(BATCH, CHANNELS, device=device)
    steps = {"ours": training_step(tiny_flow(), x), "plain": training_step(PlainFlow(), x)}
    times = interleave(steps, SECONDS, device)
    add(f"training step, {STEPS} steps of {BATCH}x{CHANNELS}", "plain torch flow", times["ours"], times["plain"])
    return rows
