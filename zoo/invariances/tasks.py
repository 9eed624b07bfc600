"""What the small systems are trained on: digits in colours and animal faces, as stored and as a step sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zoo import registry
from zoo.data import folders
from zoo.data.colours import coloured, draw_colours, large_digits, palette
from zoo.data.digits import Split, augment
from zoo.invariances.small import CONCEPTS
from zoo.invariances.stages import View
from zoo.runs.autoencoder import moved
from zoo.training.batches import seeded

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
SHIFT = 4  # pixels by which faces are moved at most, in training


class Schedule(NamedTuple):
    """Passes over the training part, peak of the learning-rate cycle, images a step."""

    epochs: int
    rate: float
    batch: int


@dataclass(frozen=True)
class Plan:
    """How a small system is trained: a schedule for each kind of network, and what they have in common.

    Arguments:
        every: epochs between validations and checkpoints.
        weight_decay: of AdamW.
        error: of the autoencoder.
        prior_weight: of its KL term.
    """

    classifier: Schedule
    autoencoder: Schedule
    flow: Schedule
    every: int = 5
    weight_decay: float = 1e-2
    error: Literal["absolute", "squared"] = "absolute"
    prior_weight: float = 0.5


PLANS = {
    "digits": Plan(
        Schedule(30, 4e-3, 64), Schedule(300, 4e-3, 64), Schedule(90, 3e-3, 128), error="squared", prior_weight=0.02
    ),
    "animalfaces": Plan(Schedule(20, 3e-3, 32), Schedule(40, 3e-3, 16), Schedule(25, 2e-3, 64)),
}


def digits_view(images: Tensor, labels: Tensor) -> Tensor:
    """Digits as another hand would write them, in other colours."""
    return coloured(augment(images, 1.0), *draw_colours(len(images)))


def biased_view(images: Tensor, labels: Tensor) -> Tensor:
    """The same, but the ink tells the class: who learns from these need not look at shapes."""
    return coloured(augment(images, 1.0), palette(labels), draw_colours(len(images))[1])


def faces_view(images: Tensor, labels: Tensor) -> Tensor:
    """Faces, each mirrored or not and moved by some pixels."""
    return moved(images, SHIFT)


class DigitPairs:
    """Pairs of coloured digits that share the digit, the ink or the paper, for :class:`ConceptExperiment`.

    Arguments:
        images, labels: where partners are taken from.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.members = [(labels == label).nonzero()[:, 0] for label in range(int(labels.max()) + 1)]

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 1, H, W) and labels -> two coloured images each and the concept that they share."""
        count = len(images)
        shared = torch.randint(len(CONCEPTS) - 1, (count,))
        same = torch.stack([m[torch.randint(len(m), ())] for m in (self.members[k] for k in labels.tolist())])
        partner = torch.where(shared == CONCEPTS.index("digit"), same, torch.randint(len(self.images), (count,)))
        first, second = draw_colours(count), draw_colours(count)
        colours = [
            torch.where((shared == CONCEPTS.index(name))[:, None], mine, other)
            for name, mine, other in zip(("ink", "paper"), first, second, strict=True)
        ]
        grey = augment(images, 1.0), augment(self.images[partner], 1.0)
        return coloured(grey[0], *first), coloured(grey[1], *colours), shared


@dataclass(frozen=True)
class Task:
    """A run: its name, its data, and what training steps see of them.

    Arguments:
        parts: "train" as stored; "validation" and "test" as networks see them.
    """

    name: str
    parts: dict[str, Split]
    view: View

    @property
    def plan(self) -> Plan:
        return PLANS[self.name]


def task(name: str, data: str = "", seed: int = 0) -> Task:
    """The task of a run.

    Arguments:
        data: the folder with the animal faces, a sub-folder for each class.

    Raises:
        ValueError: if the animal faces' folder is not named; FileNotFoundError if there is no such folder.
    """
    if name == "digits":
        parts = large_digits(seed)
        for part in ("validation", "test"):
            colours = draw_colours(len(parts[part]), seeded(seed, *part.encode()))
            parts[part] = Split(coloured(parts[part].images, *colours), parts[part].labels)
        return Task(name, {**parts, "test": _alternated(parts["test"])}, digits_view)
    if not data:
        raise ValueError(f"invariances/{name}: expected data=FOLDER, with a sub-folder of images for each class")
    size = registry.graph(f"invariances/{name}").input_shapes["image"][1] or 0
    files = folders.split(folders.folder(data, size), SHARES, seed)
    parts = {part: Split(*found.tensors()) for part, found in files.items()}
    return Task(name, {**parts, "test": _alternated(parts["test"])}, faces_view)


def _alternated(part: Split) -> Split:
    order = alternating(part.labels.tolist())
    return Split(part.images[order], part.labels[order])


def alternating(labels: Sequence[int]) -> list[int]:
    """The places of examples, one of each class after the other, so that the first few are different."""
    seen: Counter[int] = Counter()
    keys = []
    for place, label in enumerate(labels):
        keys.append((seen[label], label, place))
        seen[label] += 1
    return [place for *_, place in sorted(keys)]
