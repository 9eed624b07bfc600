"""Flows as the figures use them, whichever library they come from, and flowkit's own; what one step of each costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import graph as g
from flowkit import nets
from flowkit.bench.timing import Contender


@dataclass(frozen=True)
class Model:
    """A flow: ``forward(x)`` gives the latents (a tensor or several) and the log-det (B,), ``inverse(latents)`` x."""

    module: nn.Module
    forward: Callable[[Tensor], tuple[Any, Tensor]]
    inverse: Callable[[Any], Any]

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    def start(self, x: Tensor) -> Any:
        """Initialises what depends on a first batch, leaves training mode, and gives the latents of x."""
        self.module.to(x.device)
        with torch.no_grad():
            self.module.train()
            self.forward(x)
            self.module.eval()
            return self.forward(x)[0]


@dataclass(frozen=True)
class Vectors:
    """A tabular flow: ``blocks`` times actnorm, coupling, permutation; ``bins`` 0 is affine, else a spline's bins."""

    features: int = 64
    blocks: int = 8
    hidden: int = 128
    batch: int = 4096
    bins: int = 0

    @property
    def outputs(self) -> int:
        """Numbers that the conditioner gives for a transformed feature."""
        return 3 * self.bins - 1 if self.bins else 2


@dataclass(frozen=True)
class Images:
    """Glow: ``levels`` times squeeze and ``steps`` steps, half of the channels leaving between levels."""

    channels: int = 3
    side: int = 32
    levels: int = 3
    steps: int = 8
    hidden: int = 64
    batch: int = 16

    def widths(self) -> list[int]:
        """Channels of each level, from the data on."""
        return [self.channels * 2 ** (level + 2) for level in range(self.levels)]


BOUND = 3.0  # of the splines' box


def vector_flow(size: Vectors) -> g.Graph:
    """Ours, as data."""
    net = nets.mlp(hidden=size.hidden, depth=1, activation="relu")

    def step(x: g.Value) -> g.Value:
        x = g.actnorm(x)
        if size.bins:
            x = g.rational_quadratic_coupling(x, net=net, bins=size.bins, bound=BOUND, gain=size.hidden**-0.5)
        else:
            x = g.affine_coupling(x, net=net)
        return g.shuffle(x)

    x = g.input("x", size.features)
    for _ in range(size.blocks):
        x = step(x)
    return g.graph(z=x)


def image_flow(size: Images) -> g.Graph:
    """Ours, as data; an output for each level."""
    net = nets.convnet(hidden=size.hidden, zero_last=True)
    x = g.input("x", (size.channels, size.side, size.side))
    latents: dict[str, g.Value] = {}
    for level, width in enumerate(size.widths()):
        x = g.squeeze(x)
        for _ in range(size.steps):
            x = g.invertible_conv1x1(g.actnorm(x), parameterization="lu")
            x = g.affine_coupling(x, net=net, clamp="sigmoid")
        if level + 1 < size.levels:
            x, latents[f"z{level}"] = g.split(x, [width // 2, width // 2])
    latents[f"z{size.levels - 1}"] = x
    return g.graph(inputs=None, **latents)


def ours(graph: g.Graph) -> Model:
    """A graph of ours as a model."""
    return wrapped(graph.build())


def optimised(model: Model, training: bool) -> Model:
    """One of ours as `optimize` makes it for training or for sampling, with the same weights."""
    net: Any = model.module
    return wrapped(net.optimize(training=training, inference=not training))


def wrapped(net: g.BuiltGraph) -> Model:
    """A built graph as a model."""

    def forward(x: Tensor) -> tuple[Any, Tensor]:
        *latents, logdet = net(x)
        return latents, logdet

    return Model(net, forward, lambda latents: net.inverse(*latents)[0])


def tensors(latents: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """The latents one by one."""
    return [latents] if isinstance(latents, Tensor) else latents


def training_step(model: Model, x: Tensor) -> Contender:
    """Forward, negative log-likelihood under a standard normal, backward; no optimiser, which is the same for all."""

    def run(_: object) -> None:
        latents, logdet = model.forward(x)
        energy = sum(0.5 * z.square().flatten(1).sum(1) for z in tensors(latents))
        (energy - logdet).mean().backward()

    return Contender(recording(run), lambda: model.module.zero_grad(set_to_none=True))


def sampling(model: Model, latents: Any) -> Contender:
    """From given latents to data, without autograd."""

    @torch.no_grad()
    def run(_: object) -> object:
        return model.inverse(latents)

    return Contender(run)


def recording(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with autograd on, also inside of no_grad."""
    return torch.enable_grad()(function)


def conditioners(model: Model, x: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """The conditioner networks of one of our flows, each with the input it gets for x, contiguous."""
    found: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        found.append((module, inputs[0].detach().clone(memory_format=torch.contiguous_format)))

    kinds = (nets.MLP, nets.ConvNet)
    hooks = [m.register_forward_hook(note) for m in model.module.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model.forward(x)
    for hook in hooks:
        hook.remove()
    return found


def conditioners_alone(pairs: list[tuple[nn.Module, Tensor]], training: bool) -> Contender:
    """What no flow with these conditioners can avoid: each one on its input, with its backward in training."""
    if not training:

        @torch.no_grad()
        def sample(_: object) -> object:
            return [net(given) for net, given in pairs]

        return Contender(sample)
    inputs = [(net, given.clone().requires_grad_()) for net, given in pairs]
    with torch.no_grad():
        gradients = [torch.ones_like(net(given)) for net, given in pairs]

    def clear() -> None:
        for net, given in inputs:
            net.zero_grad(set_to_none=True)
            given.grad = None

    def step(_: object) -> None:
        torch.autograd.backward([net(given) for net, given in inputs], gradients)

    return Contender(recording(step), clear)
