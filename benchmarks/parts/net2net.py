"""Sampling from Net2Net's conditional flow, as optimised for inference, beside its networks evaluated one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.parts.rows import Row, Settings, faster, row
from flowkit import graph as g
from flowkit.bench.timing import calling


def translator(dim: int, hidden: int, blocks: int) -> g.Graph:
    """Net2Net (arXiv 2005.13580): blocks of actnorm, two couplings with a scale and a shift network each, shuffle."""
    x, c = g.input("x", dim), g.input("condition", dim)
    net = (g.nets.mlp(hidden=hidden, depth=2, tanh_last=True), g.nets.mlp(hidden=hidden, depth=2))

    def step(x: g.Value, c: g.Value) -> g.Value:
        x = g.leaky_relu(g.actnorm(x, log_scale=False))
        x = g.affine_coupling(x, condition=c, net=net, clamp="none", permutation="swap")
        x = g.affine_coupling(x, condition=c, net=net, clamp="none")
        return g.shuffle(x)

    return g.graph(z=g.repeat(step, x, c, times=blocks, name="flow"))


@torch.no_grad()
def rows(settings: Settings) -> Iterator[Row]:
    """Batch 1, 25 and 256; the note tells how fast the weights pass, beside a plain sum over as many numbers."""
    dim, hidden, blocks = (8, 16, 2) if settings.quick else (128, 1024, 20)
    graph = translator(dim, hidden, blocks)
    net = graph.build().to(settings.device)
    net.train()(torch.randn(64, dim, device=settings.device), torch.randn(64, dim, device=settings.device))
    fast = net.eval().optimize(inference=True)
    numbers = torch.zeros(graph.parameters, device=settings.device)
    for batch in (1, 25, 256):
        z, c = (torch.randn(batch, dim, device=settings.device) for _ in range(2))
        contenders = {"ours": calling(fast.inverse, z, c), "plain": calling(net.inverse, z, c)}
        times = settings.times({**contenders, "read": calling(numbers.sum)})
        rates = {name: 4e-6 * graph.parameters / milliseconds for name, milliseconds in times.items()}
        note = f"GB/s of weights: {rates['ours']:.1f}, one by one {rates['plain']:.1f}, a sum {rates['read']:.1f}"
        size = f"{batch}x{dim}, {blocks} blocks, width {hidden}"
        target = faster(2) if batch < 256 else None
        yield row(
            "Net2Net cINN: sampling", size, times["ours"], "networks one by one", times["plain"], target, note=note
        )
