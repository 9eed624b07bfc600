"""What a trained flow between two experts can be asked: samples, reconstructions, transfers between conditions.

The flow takes a latent x of the second expert and a condition c, a representation of the first, to z ~ N(0, 1); an
image is what the second expert decodes from a latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph


@torch.no_grad()
def sample(flow: BuiltGraph, condition: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A latent x (B, D) for each condition (B, K) or (B, K, H, W)."""
    dim = flow.graph.shapes[flow.graph.inputs[0].name][0]
    noise = torch.randn(len(condition), int(dim or 0), generator=generator)
    return backward(flow, noise.to(condition.device), condition)


@torch.no_grad()
def sample_all(flow: BuiltGraph, noise: Tensor, conditions: Tensor) -> Tensor:
    """Latents (B, N, D): the same noise z (B, D) under each of N conditions (N, K)."""
    count, many = len(noise), len(conditions)
    repeated = conditions.repeat(count, *[1] * (conditions.ndim - 1))
    return backward(flow, noise.repeat_interleave(many, 0), repeated).unflatten(0, (count, many))


@torch.no_grad()
def reconstruct(flow: BuiltGraph, x: Tensor, condition: Tensor) -> Tensor:
    """x (B, D) to z and back: x, up to rounding."""
    return backward(flow, flow(x, condition)[0], condition)


@torch.no_grad()
def transfer(flow: BuiltGraph, x: Tensor, source: Tensor, target: Tensor, alpha: float = 1.0) -> Tensor:
    """x (B, D) with the z that it has given ``source``, given ``target`` instead.

    Exemplar guidance (the target is of another input), attribute edits (an attribute flipped), unpaired transfer (the
    label of another domain) are all this.

    Arguments:
        alpha: of the blend (1 - alpha) * x + alpha * the transferred latent.
    """
    moved = backward(flow, flow(x, source)[0], target)
    return (1 - alpha) * x + alpha * moved


@torch.no_grad()
def shift(flow: BuiltGraph, x: Tensor, condition: Tensor) -> Tensor:
    """Each x (B, D) given the condition of the next sample of the batch; the last is given the first's."""
    return transfer(flow, x, condition, condition.roll(-1, 0))


def backward(flow: BuiltGraph, z: Tensor, condition: Tensor) -> Tensor:
    """z (B, D) to x (B, D)."""
    x: Tensor = flow.inverse(z, condition)[0]
    return x
