"""The pictures of Net2Net's verbs, as grids."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo import pictures
from zoo.net2net import small
from zoo.net2net.opening import Opened


@torch.no_grad()
def samples(opened: Opened, count: int) -> None:
    """samples.png: a condition a row; what is real, then pictures of the same ``count`` v in every row."""
    system, images, known = opened.system, opened.images, opened.known
    columns = {
        "real (held out)": images,
        "auto-encoded": system.autoencoder.decode(system.autoencoder.posterior(images)[0]),
    }
    if not opened.labels:
        low = known.unflatten(1, (3, small.LOW, small.LOW))
        columns = {"condition": torch.nn.functional.interpolate(low, images.shape[2:]), **columns}
    columns |= {f"v {k}": system.picture(v.expand(len(known), -1), known) for k, v in enumerate(opened.noise(count), 1)}
    pictures.grid(torch.stack([*columns.values()], 1), opened.path("samples"), rows=opened.labels or None,
                  columns=[*columns], title=_title("Samples", opened))  # fmt: skip


@torch.no_grad()
def reconstructions(opened: Opened) -> None:
    """reconstruct.png: real, auto-encoded, and through the flow and back."""
    system, images, known = opened.system, opened.images, opened.known
    rows = [images, system.autoencoder.decode(system.autoencoder.posterior(images)[0]),
            system.picture(system.residual(images, known), known)]  # fmt: skip
    pictures.grid(torch.stack(rows), opened.path("reconstruct"), rows=["real", "auto-encoded", "through the flow"],
                  title=_title("Reconstructions", opened))  # fmt: skip


@torch.no_grad()
def swaps(opened: Opened, alpha: float = 1.0) -> None:
    """swap.png: the column's condition with the row's v; latents are (1 - alpha) z + alpha z'."""
    system, images, known = opened.system, opened.images, opened.known
    own, mean = system.residual(images, known), system.autoencoder.posterior(images)[0]
    table = []
    for v, z in zip(own, mean, strict=True):
        moved = system.density.bijection.inverse(v.expand(len(known), -1), known)[0]
        table.append(system.autoencoder.decode((1 - alpha) * z + alpha * moved))
    rows = ["condition of"] + [f"v of {label}" for label in opened.labels or map(str, range(1, len(known) + 1))]
    pictures.grid(torch.cat([images[None], torch.stack(table)]), opened.path("swap"), rows=rows,
                  columns=opened.labels or None, title=_title("Swap: column's condition, row's v", opened))  # fmt: skip


@torch.no_grad()
def interpolations(opened: Opened, steps: int) -> None:
    """interpolate.png: from each condition to the next one, with one v."""
    known = opened.known
    walk(opened, [(a, b) for a, b in zip(known, known.roll(-1, 0), strict=True)], steps)


@torch.no_grad()
def walk(opened: Opened, ends: list[tuple[Tensor, Tensor]], steps: int, labels: list[str] | None = None) -> None:
    """interpolate.png between given conditions (C,)."""
    at, v = torch.linspace(0, 1, steps)[:, None], opened.noise(1).expand(steps, -1)
    rows = torch.stack([opened.system.picture(v, (1 - at) * a + at * b) for a, b in ends])
    pictures.grid(rows, opened.path("interpolate"), rows=labels, title=_title("Between two conditions", opened))


@torch.no_grad()
def prompts(opened: Opened, texts: list[str], count: int) -> None:
    """prompts.png: a text a row, a v a column. ValueError if the condition is no text."""
    if not opened.labels:
        raise ValueError(f"text2img: net2net/{opened.task.name} is conditioned on pictures; use superres")
    if not texts:
        raise ValueError("prompt: expected at least one text, got none")
    known = opened.task.represent(opened.images, texts)
    drawn = [opened.system.picture(v.expand(len(known), -1), known) for v in opened.noise(count)]
    pictures.grid(torch.stack(drawn, 1), opened.path("prompts"), rows=texts, title=_title("Prompts", opened))


@torch.no_grad()
def diagnosis(opened: Opened, count: int) -> None:
    """diagnose.png: conditions that say less and less of the first picture, and what v then has to fill in.

    Texts lose words from the end, small pictures detail.
    """
    image, known = opened.images[:1], opened.known[:1]
    if opened.labels:
        words = opened.labels[0].split()
        rows = list(dict.fromkeys(" ".join(words[:kept]) for kept in (len(words), -(-len(words) // 2), 1)))
        conditions = opened.task.represent(image.expand(len(rows), -1, -1, -1), rows)
    else:
        low = known.unflatten(1, (3, small.LOW, small.LOW))
        sides = [small.LOW >> step for step in range(4)]
        coarse = [torch.nn.functional.adaptive_avg_pool2d(low, side) for side in sides]
        conditions = torch.cat([torch.nn.functional.interpolate(c, low.shape[2:]) for c in coarse]).flatten(1)
        rows = [f"{side} pixels" for side in sides]
    drawn = [opened.system.picture(v.expand(len(rows), -1), conditions) for v in opened.noise(count)]
    columns = ["real (held out)", *(f"v {k}" for k in range(1, count + 1))]
    pictures.grid(torch.stack([image.expand(len(rows), -1, -1, -1), *drawn], 1), opened.path("diagnose"), rows=rows,
                  columns=columns, title=_title("Conditions that say less", opened))  # fmt: skip


def _title(what: str, opened: Opened) -> str:
    return f"{what}. {opened.note}" if opened.note else what
