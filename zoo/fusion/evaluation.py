"""How well Network Fusion's pictures keep to their conditions: described again, and compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.fusion.system import Fusion, painted
from zoo.metrics.retrieval import found_among
from zoo.net2net.losses import likelihood

AMONG = 20


@dataclass(frozen=True)
class Kept:
    """Of held-out samples of the BigGAN and of pictures for their descriptions.

    Arguments:
        own: (N, S), cosines between the description of a picture and the one that it was made for.
        others: (N, S), the same picture's mean cosine to the descriptions that it was not made for.
        found: share of pictures whose own description is the nearest among ``AMONG``.
        nll, nll_shuffled: of the held-out latents given their own descriptions, and given those of others; nats.
    """

    own: Tensor
    others: Tensor
    found: float
    nll: float
    nll_shuffled: float

    def figures(self) -> dict[str, float]:
        """Means, for a file or a table."""
        return {
            "cosine to the own description": float(self.own.mean()),
            "cosine to the descriptions of others": float(self.others.mean()),
            f"own description found among {AMONG}": self.found,
            "chance": 1 / AMONG,
            "nll": self.nll,
            "nll given the description of another": self.nll_shuffled,
        }


@torch.no_grad()
def measure(
    fusion: Fusion, dequantise: nn.Module, describe: nn.Module, held_out: tuple[Tensor, Tensor], samples: int, seed: int
) -> Kept:
    """Paints ``samples`` pictures for the description of every held-out sample, and describes them.

    Cosines are of descriptions around the mean of the held-out ones: what all pictures have in common does not count.

    Arguments:
        held_out: codes (N, Z) and classes (N,).

    Raises:
        ValueError: for fewer than ``AMONG`` held-out samples.
    """
    z, chosen = held_out
    if len(z) < AMONG:
        raise ValueError(f"count: expected at least {AMONG}, got {len(z)}")
    known = describe(painted(fusion.generator, z, chosen))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        target = torch.cat([z, dequantise(fusion.generator.embed(chosen))], 1)
        nlls = [
            float(likelihood(*fusion.flow(target, condition))["total_loss"]) for condition in (known, known.roll(1, 0))
        ]
    images = fusion.samples(known, samples, torch.Generator().manual_seed(seed))
    said = describe(images.flatten(0, 1)).unflatten(0, (len(z), samples))
    directions = F.normalize(said - known.mean(0), dim=-1) @ F.normalize(known - known.mean(0), dim=-1).mT
    own = directions.diagonal(dim1=0, dim2=2).mT
    others = (directions.sum(2) - own) / (len(z) - 1)
    return Kept(own, others, found_among(said, known, AMONG, seed), *nlls)
