"""What each configuration is trained on and how: the published table (iin, section 3.2), and that of the digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.iin.optimisation import BASE_RATE
from zoo.training.draws import RandomExamples

Kind = Literal["autoencoder", "classifier", "whole", "factors"]
Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class System:
    """How one network is trained.

    Arguments:
        kind: what it is: a first stage, or a flow, whole or in factors.
        data: of :func:`dataset`.
        steps, every: optimiser steps, and those between validations.
        decay_start: step after which the learning rate falls to 0.
        batch: samples a step.
        rate: learning rate; for the paper's batches of 25, 4.5e-6 a sample.
        first: for flows, the registered name of the network whose latent they interpret.
        adversary: for autoencoders, the step from which a discriminator takes part; None for none.
        spectral: whether the discriminator is spectrally normalised, with four times the learning rate.
    """

    kind: Kind
    data: str
    steps: int
    every: int
    decay_start: int
    batch: int = 25
    rate: float = 25 * BASE_RATE
    first: str | None = None
    adversary: int | None = None
    spectral: bool = False


def _published(
    data: str, steps: int, every: int, decay_start: int, adversary: int, spectral: bool
) -> dict[str, System]:
    first = System("autoencoder", data, steps, every, decay_start, adversary=adversary, spectral=spectral)
    return {
        f"iin/{data}-ae": first,
        f"iin/{data}": System("whole", data, steps, every, decay_start, first=f"iin/{data}-ae"),
    }


def _coloured(kind: Kind, first: str | None = None) -> System:
    return System(kind, "cmnist", 120_000, 2_400, 100_001, first=first)


def _digits(kind: Kind, steps: int, rate: float, first: str | None = None, batch: int = 64) -> System:
    return System(kind, "digits", steps, steps // 5, steps // 2, batch, rate, first)


SYSTEMS: dict[str, System] = {
    **_published("mnist", 120_000, 2_400, 100_001, 25_001, False),
    **_published("fashionmnist", 120_000, 2_400, 100_001, 25_001, False),
    **_published("cifar", 600_000, 2_000, 505_001, 100_001, True),
    **_published("celeba", 651_080, 7_940, 505_001, 100_001, True),
    "iin/cmnist-ae": System("autoencoder", "cmnist", 120_000, 2_400, 100_001, adversary=25_001),
    "iin/cmnist-classifier": _coloured("classifier"),
    "iin/cmnist-factors": _coloured("factors", "iin/cmnist-ae"),
    "iin/cmnist-classifier-factors": _coloured("factors", "iin/cmnist-classifier"),
    "iin/celeba-factors": System("factors", "celeba", 651_080, 7_940, 505_001, first="iin/celeba-ae"),
    "iin/digits-ae": _digits("autoencoder", 2_500, 2e-3),
    "iin/digits-classifier": _digits("classifier", 1_000, 1e-3),
    "iin/digits": _digits("factors", 2_500, 1e-3, "iin/digits-ae"),
    "iin/digits-unsupervised": _digits("whole", 1_500, 1e-3, "iin/digits-ae"),
    "iin/digits-classifier-factors": _digits("factors", 1_500, 1e-3, "iin/digits-classifier"),
    "iin/tiny-ae": _digits("autoencoder", 20, 1e-3),
    "iin/tiny-classifier": _digits("classifier", 20, 1e-3),
    "iin/tiny": _digits("whole", 20, 1e-3, "iin/tiny-ae"),
    "iin/tiny-factors": _digits("factors", 20, 1e-3, "iin/tiny-ae"),
}


def system(name: str) -> System:
    """How a network is trained; ValueError for one that is not in the table."""
    if name not in SYSTEMS:
        raise ValueError(f"training: expected one of {', '.join(SYSTEMS)}, got {name!r}")
    return SYSTEMS[name]


def dataset(
    name: str, part: Part, folder: str, pairs: bool = False, names: Sequence[str] | None = None
) -> RandomExamples:
    """A part of a data set, single images or pairs that share a factor.

    Arguments:
        name: mnist, fashionmnist, cifar, cmnist, celeba or digits.
        part: "train", "validation" (of the digits; the paper takes the test part for it) or "test".
        folder: where the files are; the digits, which come with scikit-learn, need none.
        names: of the factors that pairs share, the residual last; of celeba, attributes such as male, else those that
            the data set has. None: the paper's.

    Raises:
        ValueError: without a folder, or with one for the digits; for a data set without pairs, or for factors that it
            does not have.
        FileNotFoundError: naming the files that are missing, and where they belong.
    """
    from zoo.data import standard
    from zoo.data.pairs import CMNIST_FACTORS
    from zoo.iin.digits import ColouredDigits

    if pairs and names is not None and name in ("digits", "cmnist") and tuple(names) != CMNIST_FACTORS:
        raise ValueError(f"factors: {name} has {', '.join(CMNIST_FACTORS)}, got {', '.join(names)}")
    if name == "digits":
        if folder:
            raise ValueError(f"data: expected none, the digits come with scikit-learn, got {folder!r}")
        return ColouredDigits(part, single=not pairs)
    part = "train" if part == "train" else "test"
    if not folder:
        raise ValueError(f"data: expected data=FOLDER, the one that holds {name}; `digits` configurations need none")
    if pairs and name not in ("cmnist", "celeba"):
        raise ValueError(f"data: {name} has no factors that pairs could share; cmnist, celeba and digits have")
    if name == "cmnist":
        return standard.ColouredMNIST(standard.mnist(Path(folder), part), part, single=not pairs)
    if name == "celeba":
        faces = standard.CelebA(folder, part)
        if not pairs:
            return faces
        return standard.CelebAPairs(faces, part, names[:-1]) if names else standard.CelebAPairs(faces, part)
    if name == "cifar":
        return standard.cifar10(folder, part)
    return standard.mnist(folder, part, fashion=name == "fashionmnist")


def factors(examples: Any) -> Sequence[str]:
    """The names of a data set's factors, the residual last."""
    names: Sequence[str] = examples.factors
    return names
