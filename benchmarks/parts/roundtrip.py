"""How exact 100 random blocks are in float32: back and forth, and the log-det beside the same weights in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.parts.rows import Row, Settings, row, value
from flowkit import bijections as bij
from flowkit import nets

BLOCKS, FEATURES, BATCH = 100, 32, 1024


def block(index: int) -> bij.Bijection:
    """The ``index``-th of the mixed layers, a coupling every other time.

    No leaky ReLU: its slope jumps at zero, where a rounding error of any size may change the log-det by log(slope).
    """
    net = nets.mlp(hidden=64, depth=1, activation="silu")
    order = torch.randperm(FEATURES)
    couplings = (
        lambda: bij.AffineCoupling(FEATURES, net, clamp="tanh", permutation=order),
        lambda: bij.AffineCoupling(FEATURES, net, clamp="atan", bound=1.0, transform_first=True),
        lambda: bij.AffineCoupling(FEATURES, net, clamp="sigmoid", bound=0.1, permutation="swap"),
        lambda: bij.AdditiveCoupling(FEATURES, net, permutation="flip"),
        lambda: bij.RationalQuadraticCoupling(FEATURES, net, permutation=order),
    )
    others = (
        lambda: bij.ActNorm(FEATURES),
        lambda: bij.InvertibleLinear(FEATURES, parameterization="lu"),
        lambda: bij.InvertibleLinear(FEATURES, parameterization="qr"),
        lambda: bij.Shuffle(FEATURES, seed=index),
    )
    kinds = others if index % 2 else couplings
    return kinds[index // 2 % len(kinds)]()


def random_flow(blocks: int, x: Tensor) -> bij.Compose:
    """A flow with random weights everywhere, its actnorms set by x.

    With conditioners of twice the gain, 100 blocks amplify a change of their input 1e20 times, in float64 too: such a
    map has no inverse in float32, whoever computes it. With this gain they amplify it a few times.
    """
    flow = bij.Compose(*map(block, range(blocks))).to(x.device)
    with torch.no_grad():
        for module in flow.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
                nn.init.normal_(module.bias, std=0.1)
        flow(x)
        for layer in flow:
            if isinstance(layer, bij.ActNorm):
                for p in layer.parameters():
                    p.add_(0.1 * torch.randn_like(p))
    return flow.eval()


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest error as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def rows(settings: Settings) -> Iterator[Row]:
    """Both errors, relative to the largest value."""
    torch.manual_seed(0)
    blocks = 16 if settings.quick else BLOCKS
    x = torch.randn(BATCH, FEATURES, device=settings.device)
    flow = random_flow(blocks, x)
    z, logdet = flow(x)
    back, inverse_logdet = flow.inverse(z)
    exact = copy.deepcopy(flow).double()
    _, exact_logdet = exact(x.double())
    _, exact_inverse_logdet = exact.inverse(z.double())
    size = f"{BATCH}x{FEATURES}, {blocks} blocks"
    errors = {
        "round trip": (relative(back, x), 1e-4),
        "log-det beside float64": (relative(logdet.double(), exact_logdet), 1e-5),
        "log-det of the inverse beside float64": (relative(inverse_logdet.double(), exact_inverse_logdet), 1e-5),
    }
    for what, (error, bound) in errors.items():
        yield row(f"random blocks in float32: {what}", size, error, target=value(bound), unit="relative error")
