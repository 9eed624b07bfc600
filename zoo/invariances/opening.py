"""From a network's name to the system that the verbs work with, and the images they are given."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data import video
from zoo.data.folders import read_image
from zoo.data.images import nchw, smallest_centre
from zoo.invariances import cuts, runs, tasks
from zoo.invariances.cuts import Choice
from zoo.invariances.small import CUTS
from zoo.invariances.system import System
from zoo.training.batches import seeded
from zoo.verbs import Context

FIRST = 16  # images that initialise random flows
FRAMES = 24  # of the made-up film
SWING = math.radians(15)


def small(name: str) -> str | None:
    """The run that a network belongs to: "digits" or "animalfaces"; None for a published one."""
    start = name.rpartition("/")[2].partition("-")[0]
    return start if start in tasks.PLANS else None


def cut(name: str) -> str:
    """The cut that a small flow's name ends in, such as "dense" of ``invariances/digits-dense``; empty if none."""
    _, _, rest = name.rpartition("/")[2].partition("-")
    return rest if small(name) and rest in CUTS else ""


def task(context: Context, data: str) -> tasks.Task:
    """The run that a network belongs to, with its data; ValueError for one of no run, or a folder for the digits."""
    run = small(context.name)
    if run is None:
        raise ValueError(
            f"{context.name}: expected a network of invariances/digits or invariances/animalfaces, with the classifier "
            "and the autoencoder that go with it"
        )
    if run == "digits" and data:
        raise ValueError(f"data: expected none, the digits come with scikit-learn, got {data!r}")
    return tasks.task(run, data, context.seed)


def system(context: Context, choice: Choice) -> System:
    """The system of a name.

    Raises:
        ValueError: for a network that no system is built around, or one of other experts for a small system.
        FileNotFoundError: if it has not been trained.
    """
    found = _system(context, choice)
    if context.random:
        _initialise(found, context.seed)
    return found


def _system(context: Context, choice: Choice) -> System:
    if small(context.name) is None:
        return cuts.system(context, choice)
    given = [key for key, value in asdict(replace(choice, data="")).items() if value]
    if given:
        raise ValueError(f"{context.name}: expected no {', '.join(given)}, a small system has its own")
    return runs.system(task(context, choice.data), context)


@torch.no_grad()
def _initialise(system: System, seed: int) -> None:
    """Initialises the actnorms of random flows, by the first images and by noise for latents."""
    noise = seeded(seed, *b"initialise")
    latents = torch.randn(min(FIRST, len(system.images)), system.autoencoder.latent, generator=noise)
    for layer in [*system.layers.values(), *system.biases.values()]:
        layer.flow(latents, system.represent(layer, system.images[:FIRST]))
    if system.concepts is not None:
        system.concepts(latents)


def frames(system: System, path: str) -> Tensor:
    """The frames of a film; without a path, the first held-out image swinging: (N, 3, S, S) in [-1, 1]."""
    size = system.autoencoder.size
    if path:
        return video.read(path, size)
    turn = torch.linspace(0, 2 * math.pi, FRAMES + 1)[:-1]
    angle, zoom = SWING * turn.sin(), 1 + 0.1 * (1 - turn.cos())
    cos, sin, none = zoom * angle.cos(), zoom * angle.sin(), torch.zeros(FRAMES)
    maps = torch.stack([torch.stack([cos, -sin, none], 1), torch.stack([sin, cos, none], 1)], 1)
    image = system.images[:1].expand(FRAMES, -1, -1, -1)
    grid = F.affine_grid(maps, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def still(system: System, text: str) -> Tensor:
    """One image (1, 3, S, S): the held-out one of this number (2 by default), or a file.

    Raises:
        ValueError: for a number beyond the held-out images; FileNotFoundError for no file.
    """
    if text.isdigit() or not text:
        number = int(text or 2)
        if number >= len(system.images):
            raise ValueError(f"still: expected a file or a number below {len(system.images)}, got {number}")
        return system.images[number : number + 1]
    return nchw(smallest_centre(read_image(Path(text)), system.autoencoder.size))[None]
