"""Figures of a system: variance explained by cut and concept, how well samples keep z, Fréchet distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from zoo.invariances.analysis import Similarity, cosines, pairwise_distance, similarity, statistics, variance_explained
from zoo.invariances.pictures import bars
from zoo.invariances.system import Layer, System
from zoo.invariances.views import class_kept
from zoo.metrics.frechet import Features, Spread, frechet_spread, spread

PIXELS = 2**23  # of the images that are measured at a time


@dataclass(frozen=True)
class Explanation:
    """Variance explained, mean and deviation over repetitions.

    Arguments:
        latent: for each cut, the share of the latent's variance that v explains (Fig. 5).
        concepts: for each cut, the share of each concept's variance that z explains (Fig. 4).
    """

    latent: dict[str, Spread]
    concepts: dict[str, dict[str, Spread]]


def explain(system: System, images: Tensor, draws: int, repeats: int, noise: torch.Generator) -> Explanation:
    """Draws ``draws`` invariances for each of N images, ``repeats`` times."""
    latent, concepts = {}, {}
    for cut, layer in system.layers.items():
        z = system.represent(layer, images)
        found = [_explained(system, layer, z, draws, noise) for _ in range(repeats)]
        shares = {name: spread(once[name] for once in found) for name in found[0]}
        latent[cut] = Spread(1 - shares["latent"].mean, shares.pop("latent").std)
        concepts[cut] = shares
    return Explanation(latent, concepts)


@torch.no_grad()
def _explained(system: System, layer: Layer, z: Tensor, draws: int, noise: torch.Generator) -> dict[str, float]:
    """By z: the share of the latent's variance, and of each concept's."""
    latents = system.draw(layer, z, draws, noise)
    shares = {"latent": variance_explained(latents).by_z}
    if system.concepts is not None:
        *values, _ = system.concepts(latents.flatten(0, 1))
        for name, value in zip(system.names, values, strict=True):
            shares[name] = variance_explained(value.unflatten(0, latents.shape[:2])).by_z
    return shares


def draw_explanation(found: Explanation, folder: Path) -> None:
    """``explained_latent.png``, as Fig. 5, and with concepts ``explained_concepts.png``, as Fig. 4."""
    bars(
        {cut: {"by v": share} for cut, share in found.latent.items()},
        folder / "explained_latent.png",
        title="Variance of the latent that the representation leaves open",
    )
    if any(found.concepts.values()):
        bars(found.concepts, folder / "explained_concepts.png", title="Variance of each concept explained by z")


def explanation_table(found: Explanation) -> Table:
    """The same as a table, in percent."""
    table = Table(title="Variance explained, %", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    names = list(next(iter(found.concepts.values())))
    for heading in ("cut", "latent by v", *[f"{name} by z" for name in names]):
        table.add_column(heading, justify="left" if heading == "cut" else "right")
    for cut, share in found.latent.items():
        cells = [share, *found.concepts[cut].values()]
        table.add_row(cut, *[f"{100 * cell.mean:.1f} ± {100 * cell.std:.1f}" for cell in cells])
    return table


@dataclass(frozen=True)
class CutFigures:
    """Of one cut's samples: spread, distance of two, class kept (if any), similarity of their z, Fréchet distance."""

    variance: float
    distance: float
    class_kept: float | None
    similarity: Similarity
    frechet: Spread


def measure(system: System, layer: Layer, features: Features, draws: int, noise: torch.Generator) -> CutFigures:
    """Figures of ``draws`` samples for each held-out image; each draw is one set of the Fréchet distance.

    Images are read and samples drawn some at a time.
    """
    count = len(system.images)
    places = torch.arange(count).tensor_split(-(-count * system.autoencoder.size**2 // PIXELS))
    found = [_measured(system, layer, features, system.images[some.tolist()], draws, noise) for some in places]
    means = {key: sum(some.means[key] * len(some.real) for some in found) / count for key in found[0].means}
    cosine = (torch.cat(parts) for parts in zip(*(some.cosines for some in found), strict=True))
    real, made = torch.cat([some.real for some in found]), torch.cat([some.made for some in found], 1)
    return CutFigures(
        means["variance"],
        means["distance"],
        means.get("class_kept"),
        similarity(*cosine),
        frechet_spread(real, made),
    )


class _Measured(NamedTuple):
    """Of some images: figures, cosines of representations, features (N, F) and those of samples (M, N, F)."""

    means: dict[str, float]
    cosines: tuple[Tensor, Tensor]
    real: Tensor
    made: Tensor


@torch.no_grad()
def _measured(
    system: System, layer: Layer, features: Features, images: Tensor, draws: int, noise: torch.Generator
) -> _Measured:
    z = system.represent(layer, images)
    drawn = system.samples(layer, z, draws, noise)
    again = torch.stack([system.represent(layer, samples) for samples in drawn])
    means = {"variance": statistics(drawn).spread, "distance": pairwise_distance(drawn)}
    return _Measured(
        means | class_kept(system, images, drawn),
        cosines(z, again, noise),
        features(images),
        torch.stack([features(samples) for samples in drawn]),
    )


def measures_table(found: Mapping[str, CutFigures]) -> Table:
    """A row for each cut."""
    table = Table(title="Samples of each cut", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("cut", "variance", "distance", "class kept", "cos z", "cos of random pairs", "Fréchet distance"):
        table.add_column(heading, justify="left" if heading == "cut" else "right")
    for cut, f in found.items():
        own, other = f.similarity
        table.add_row(
            cut,
            f"{f.variance:.4f}",
            f"{f.distance:.2f}",
            "" if f.class_kept is None else f"{f.class_kept:.1%}",
            f"{own.mean:.3f} ± {own.std:.3f}",
            f"{other.mean:.3f} ± {other.std:.3f}",
            f"{f.frechet.mean:.2f} ± {f.frechet.std:.2f}",
        )
    return table
