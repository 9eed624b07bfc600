"""The same Glow in normflows and FrEIA: as many levels and steps, conditioners of one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.parts.models import Images, Model


def convnet(inputs: int, outputs: int, hidden: int) -> nn.Module:
    """The conditioner: kernels 3, 1, 3, as Glow has it."""
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 3, padding=1),
    )


def normflows(size: Images) -> Model:
    """normflows' GlowBlock: coupling with the same convolutions, 1x1 convolution in LU form, actnorm."""
    import normflows as nf

    flows, merges, bases = [], [], []
    for level, width in reversed(list(enumerate(size.widths()))):  # from the coarsest latents to the data
        steps = [nf.flows.GlowBlock(width, size.hidden, split_mode="channel") for _ in range(size.steps)]
        flows.append([*steps, nf.flows.Squeeze()])
        last, side = level + 1 == size.levels, size.side // 2 ** (level + 1)
        merges += [] if level == 0 else [nf.flows.Merge()]
        bases.append(nf.distributions.DiagGaussian((width if last else width // 2, side, side), trainable=False))
    flow = nf.MultiscaleFlow(bases, flows, merges, class_cond=False)
    return Model(flow, flow.inverse_and_log_det, lambda z: flow.forward_and_log_det(z)[0])


def freia(size: Images) -> Model:
    """FrEIA's AllInOneBlock with a soft permutation: its 1x1 convolution is a fixed rotation, ours and Glow's learn."""
    from FrEIA import framework, modules

    node: Any = framework.InputNode(size.channels, size.side, size.side, name="x")
    nodes = [node]
    options = {
        "subnet_constructor": lambda i, o: convnet(i, o, size.hidden),
        "global_affine_type": "EXP",
        "permute_soft": True,
    }
    for level, width in enumerate(size.widths()):
        nodes.append(node := framework.Node(node, modules.IRevNetDownsampling, {}))
        for _ in range(size.steps):
            nodes.append(node := framework.Node(node, modules.AllInOneBlock, options))
        if level + 1 < size.levels:
            sections = [width // 2, width // 2]
            nodes.append(split := framework.Node(node, modules.Split, {"section_sizes": sections, "dim": 0}))
            nodes.append(framework.OutputNode(split.out1, name=f"z{level}"))
            node = split.out0
    nodes.append(framework.OutputNode(node, name="z"))
    net = framework.GraphINN(nodes)
    return Model(net, net, lambda z: net(z, rev=True)[0])


def image_flows(size: Images) -> dict[str, Callable[[], Model]]:
    """Makers of Glow in each library that can."""
    makers = {"normflows": normflows, "FrEIA": freia}
    return {library: lambda make=make: make(size) for library, make in makers.items()}  # type: ignore[misc]
