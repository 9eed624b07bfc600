"""A frozen network with the flow that interprets its latent: what the verbs edit and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo import registry, weights
from zoo.iin.edits import Factors
from zoo.iin.first_stages import FirstStage
from zoo.iin.systems import System, system
from zoo.training.fit import fingerprint
from zoo.verbs import Context

STAGE = "first stage"
"""In the notes of a flow's weights: the fingerprint of the network whose latents it was trained on."""


@dataclass(frozen=True)
class Interpreter:
    """Images <-> latents z <-> factors.

    Arguments:
        flow: T, whole or in factors, fixed.
        first: the network whose latent it interprets.
    """

    flow: BuiltGraph
    first: FirstStage

    @property
    def names(self) -> list[str]:
        """Of the factors, the residual last; ["z"] of a whole flow."""
        return [name for name, _ in self.flow.graph.outputs]

    @property
    def sizes(self) -> list[int]:
        """Of the factors."""
        return [int(shape[0] or 0) for shape in self.flow.graph.output_shapes.values()]

    def index(self, factor: str) -> int:
        """The place of a factor, given by name or number.

        Raises:
            ValueError: if there is no such factor, listing those there are.
        """
        names = self.names
        if factor in names:
            return names.index(factor)
        if factor.isdecimal() and int(factor) < len(names):
            return int(factor)
        raise ValueError(f"factor: expected one of {', '.join(names)} or a number below {len(names)}, got {factor!r}")

    @torch.no_grad()
    def interpret(self, images: Tensor) -> Factors:
        """Images (B, ch, H, W) in [-1, 1] -> factors (B, N_k), from the posterior's mode."""
        return list(self.flow(self.first.mode(images))[:-1])

    @torch.no_grad()
    def latents(self, factors: Sequence[Tensor]) -> Tensor:
        """Factors (B, N_k) -> latents (B, C)."""
        z: Tensor = self.flow.inverse(*factors)[0]
        return z

    def images(self, factors: Sequence[Tensor]) -> Tensor:
        """Factors (B, N_k) -> images (B, ch, H, W) in [-1, 1]."""
        return self.first.decode(self.latents(factors))

    def noise(self, count: int, generator: torch.Generator) -> Factors:
        """Factors of ``count`` samples."""
        return list(torch.randn(count, sum(self.sizes), generator=generator).split(self.sizes, 1))


def interpreter(context: Context, first: str = "") -> Interpreter:
    """What a command names: its flow and the network below it, both from the run's folder unless said otherwise.

    Arguments:
        first: file (or published key) with the first stage's weights.

    Raises:
        ValueError: if the command names a first stage; if the folder's flow was trained on another one.
        FileNotFoundError: if a network has not been trained.
    """
    known = system(context.name)
    if known.first is None:
        raise ValueError(f"{context.name}: expected a flow, such as {_above(context.name)}, got a first stage")
    found = Interpreter(context.network().requires_grad_(False), first_stage(context, first))
    if not context.random and context.weights is None:
        trained = weights.notes(context.file(context.name)).get(STAGE)
        if trained not in (None, fingerprint(found.first.network)):
            raise ValueError(f"{context.name}: {known.first} has other weights than it was trained on; train it anew")
    return found


def first_stage(context: Context, first: str = "") -> FirstStage:
    """The frozen network of a command that names it or a flow above it; arguments and errors as :func:`interpreter`."""
    name = first_name(context)
    return FirstStage(registry.load(name, first) if first else context.network(name))


def first_name(context: Context) -> str:
    """The registered name of the frozen network."""
    known: System = system(context.name)
    return known.first or context.name


def _above(name: str) -> str:
    from zoo.iin.systems import SYSTEMS

    return " or ".join(flow for flow, known in SYSTEMS.items() if known.first == name)
