"""A classifier's cuts, an autoencoder and the flows between them: what the invariances' verbs work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo.invariances.autoencoders import Autoencoder
from zoo.invariances.graph import beyond_embedder

CHUNK, PIXELS = 256, 2**20  # images and pixels that a network sees at once, at most
Expert = Callable[[Tensor], Tensor]


class Images(Protocol):
    """Images (N, C, H, W) in [-1, 1], by slices and lists of places: a tensor, or files that are read only then."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice | list[int], /) -> Tensor: ...


@dataclass(frozen=True)
class Unread:
    """Images that are read each time they are indexed.

    Arguments:
        count: N.
        read: the image (C, H, W) at a place.
    """

    count: int
    read: Callable[[int], Tensor]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, chosen: slice | list[int]) -> Tensor:
        places = range(self.count)[chosen] if isinstance(chosen, slice) else chosen
        return torch.stack([self.read(place) for place in places])


@dataclass(frozen=True)
class Layer:
    """A cut: its representation z of images, and the flow t that a latent goes through to v, given z."""

    represent: Expert
    flow: BuiltGraph

    @cached_property
    def beyond_embedder(self) -> BuiltGraph:
        """The flow, given the embedding of z."""
        return beyond_embedder(self.flow)


@dataclass(frozen=True)
class System:
    """All that a verb needs.

    Arguments:
        layers: cuts by name, from the image to the decision.
        logits: images -> (B, K), with a gradient; None for a network that tells no classes, such as FaceNet.
        autoencoder: E and D.
        features: images -> (B, F), for Fréchet distances offline and for how far an edit moves them.
        images, labels: held-out examples, see :class:`Images`, and (N,); no labels where the images' classes are not
            those of the classifier.
        biases: two cuts or more, of classifiers with different biases, by what those are.
        concepts: the flow of latents to concepts, with ``names`` for them.
    """

    layers: Mapping[str, Layer]
    logits: Expert | None
    autoencoder: Autoencoder
    features: Expert
    images: Images
    labels: Tensor | None
    biases: Mapping[str, Layer] = field(default_factory=dict)
    concepts: BuiltGraph | None = None
    names: Sequence[str] = ()

    def layer(self, name: str) -> Layer:
        """A cut by name, the last one for an empty name; ValueError lists those that exist."""
        if not self.layers:
            raise ValueError("layer: there is none; expected the name of a cut, such as invariances/alexnet-fc7")
        if not name:
            return [*self.layers.values()][-1]
        if name not in self.layers:
            raise ValueError(f"layer: expected one of {', '.join(self.layers)}, got {name!r}")
        return self.layers[name]

    def chosen(self, name: str) -> dict[str, Layer]:
        """The cut of this name, or all of them for an empty one."""
        return {name: self.layer(name)} if name else dict(self.layers)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> classes (B,); ValueError for a network that tells none."""
        if self.logits is None:
            raise ValueError("classes: expected a classifier, this network tells no classes")
        return _chunked(self.logits, images).argmax(1)

    @torch.no_grad()
    def represent(self, layer: Layer, images: Tensor) -> Tensor:
        """z (B, K) or (B, K, S, S)."""
        return _chunked(layer.represent, images)

    @torch.no_grad()
    def mean(self, images: Tensor) -> Tensor:
        """The mean of the posterior over latents, (B, D)."""
        return _chunked(lambda chunk: self.autoencoder.posterior(chunk)[0], images)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """D: latents (B, D) -> images."""
        return _chunked(self.autoencoder.decode, latents, self.autoencoder.size)

    @torch.no_grad()
    def invariances(self, layer: Layer, latents: Tensor, z: Tensor) -> Tensor:
        """v = t(latent | z), (B, D)."""
        v: Tensor = layer.flow(latents, z)[0]
        return v

    @torch.no_grad()
    def latents(self, layer: Layer, v: Tensor, z: Tensor) -> Tensor:
        """The latent t^-1(v | z) (B, D), for z of one image or as many as v has."""
        return torch.as_tensor(layer.flow.inverse(v, z)[0])

    def render(self, layer: Layer, v: Tensor, z: Tensor) -> Tensor:
        """D(t^-1(v | z)): the image (B, C, H, W) that is v apart from what z says."""
        return self.decode(self.latents(layer, v, z))

    @torch.no_grad()
    def draw(self, layer: Layer, z: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Latents (M, N, D) of ``count`` = M invariances for each of N representations, each embedded once."""
        dim = layer.flow.graph.input_shapes["x"][0] or 0
        noise = torch.randn(count, len(z), dim, generator=generator)
        embedded = layer.flow.embedder(z)  # type: ignore[operator]
        return torch.stack([layer.beyond_embedder.inverse(v, embedded)[0] for v in noise])

    def samples(self, layer: Layer, z: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (M, N, C, H, W) of ``count`` = M invariances for each of N representations."""
        latents = self.draw(layer, z, count, generator)
        return self.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])


def _chunked(expert: Expert, values: Tensor, side: int = 0) -> Tensor:
    """Applied piece by piece; ``side`` of the images that come of it, by default of those that go in."""
    return torch.cat([expert(chunk) for chunk in values.split(_chunk(side or values.shape[-1]))])


def _chunk(side: int) -> int:
    return max(1, min(CHUNK, PIXELS // side**2))
