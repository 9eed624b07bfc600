"""The pictures of Net2Net's verbs, as grids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from zoo import pictures
from zoo.data import video
from zoo.data.pairs import attribute_columns
from zoo.experts.labels import flipped
from zoo.net2net import translate
from zoo.net2net.opening import Opened
from zoo.verbs import Context, at_least_one

CHUNK = 16  # frames at a time


@torch.no_grad()
def samples(opened: Opened, count: int) -> None:
    """samples.png: a condition a row; what is real, then pictures of the same ``count`` v in every row."""
    at_least_one(samples=count)
    images = opened.images
    columns = {} if opened.low is None else {"condition": interpolate(opened.low, images.shape[2:])}
    columns |= {"real (held out)": images, "auto-encoded": opened.decode(opened.latents)}
    columns |= {f"v {k}": opened.picture(v, opened.known) for k, v in enumerate(opened.noise(count), 1)}
    _draw(opened, [*columns.values()], "samples", "Samples", [*columns])


@torch.no_grad()
def reconstructions(opened: Opened) -> None:
    """reconstruct.png: real, auto-encoded, through the flow and back, and given the next one's condition."""
    x, known = opened.latents, opened.known
    rows = [opened.images, opened.decode(x), opened.decode(translate.reconstruct(opened.flow, x, known)),
            opened.decode(translate.shift(opened.flow, x, known))]  # fmt: skip
    names = ["real", "auto-encoded", "through the flow", "next one's condition"]
    pictures.grid(torch.stack(rows), opened.path("reconstruct"), rows=names, title=_title("Reconstructions", opened))


@torch.no_grad()
def swaps(opened: Opened, alpha: float = 1.0) -> None:
    """swap.png: the column's condition with the row's v; latents are (1 - alpha) z + alpha z'."""
    table = torch.stack([_given(opened, c, alpha) for c in opened.known], 1)
    rows = ["condition of"] + [f"v of {label}" for label in opened.labels or map(str, range(1, len(table) + 1))]
    pictures.grid(torch.cat([opened.images[None], table]), opened.path("swap"), rows=rows,
                  columns=opened.labels or None, title=_title("Swap: column's condition, row's v", opened))  # fmt: skip


@torch.no_grad()
def transfers(opened: Opened, alpha: float) -> None:
    """transfer.png: pictures given every label, mixed with what they are by alpha."""
    every = domains(opened)
    columns = [opened.images, *(_given(opened, label, alpha) for label in every)]
    _draw(opened, columns, "transfer", "Transfer", ["real", *(f"label {k}" for k in range(len(every)))])


@torch.no_grad()
def all_labels(opened: Opened, count: int) -> None:
    """labels.png: a v a row, given every label."""
    at_least_one(count=count)
    every = domains(opened)
    z = translate.sample_all(opened.flow, opened.noise(count), every)
    columns = [opened.decode(z[:, k]) for k in range(len(every))]
    _draw(opened, columns, "labels", "The same v given every label", [f"label {k}" for k in range(len(every))])


def domains(opened: Opened) -> Tensor:
    """The conditions (K, K) of all labels; ValueError for a flow that is not between domains."""
    if not opened.domains:
        raise ValueError(f"{opened.context.name}: its condition is no label; expected a flow between domains, such as "
                         "net2net/anime-photography")  # fmt: skip
    return torch.eye(opened.domains)


@torch.no_grad()
def flips(opened: Opened, attributes: Sequence[str], alpha: float) -> None:
    """flip.png: pictures with one attribute after the other turned over; ValueError for an unknown one."""
    places = attribute_columns(attributes)
    own = opened.latents
    columns = [opened.images, opened.decode(own)]
    for place in places:
        moved = translate.transfer(opened.flow, own, opened.known, flipped(opened.known, place), alpha)
        columns.append(opened.decode(moved))
    _draw(opened, columns, "flip", "One attribute turned over", ["real", "auto-encoded", *attributes])


@torch.no_grad()
def film(opened: Opened, frames: Tensor | None, domain: int, label: int, steps: int, name: str) -> None:
    """A film of a transfer, the original at the left.

    Arguments:
        frames: (N, 3, S, S) of domain ``domain``, each transferred; None: the first held-out picture of
            another domain than ``label``, blended into its transfer in ``steps`` steps.
        name: of the file, see :func:`zoo.data.video.write`.

    Raises:
        ValueError: for a flow that is not between domains, no such domain, or fewer than 2 steps.
    """
    every = domains(opened)
    for option, number in (("domain", domain), ("label", label)):
        if not 0 <= number < len(every):
            raise ValueError(f"{option}: expected 0 to {len(every) - 1}, got {number}")
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, got {steps}")
    wanted = every[label : label + 1]
    if frames is None:
        others = [k for k, c in enumerate(opened.known) if not c[label]]
        x, known = opened.latents[others[:1]], opened.known[others[:1]]
        moved = translate.transfer(opened.flow, x, known, wanted)
        frames = opened.images[others[:1]].expand(steps, -1, -1, -1)
        z = torch.lerp(x, moved, torch.linspace(0, 1, steps)[:, None])
    else:
        assert opened.encode is not None
        x = torch.cat([opened.encode(chunk) for chunk in frames.split(CHUNK)])
        count = len(x)
        z = translate.transfer(opened.flow, x, every[domain].expand(count, -1), wanted.expand(count, -1))
    made = torch.cat([opened.decode(chunk) for chunk in z.split(CHUNK)])
    video.write(torch.cat([frames, made], 3), opened.context.out / name)


@torch.no_grad()
def interpolations(opened: Opened, steps: int) -> None:
    """interpolate.png: from each condition to the next one, with one v."""
    known = opened.known
    walk(opened, [(a, b) for a, b in zip(known, known.roll(-1, 0), strict=True)], steps)


@torch.no_grad()
def walk(opened: Opened, ends: list[tuple[Tensor, Tensor]], steps: int, labels: list[str] | None = None) -> None:
    """interpolate.png between given conditions (C,)."""
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, got {steps}")
    at, v = torch.linspace(0, 1, steps), opened.noise(1)
    rows = [opened.picture(v, torch.stack([torch.lerp(a, b, w) for w in at])) for a, b in ends]
    pictures.grid(torch.stack(rows), opened.path("interpolate"), rows=labels,
                  title=_title("Between two conditions", opened))  # fmt: skip


@torch.no_grad()
def prompts(opened: Opened, texts: list[str], count: int) -> None:
    """prompts.png: a text a row, a v a column. ValueError if the condition is no text."""
    at_least_one(samples=count)
    if opened.read is None:
        what = (
            "not conditioned on texts" if opened.see is None else "conditioned on pictures, not on texts; use superres"
        )
        raise ValueError(f"text2img: {opened.context.name} is {what}")
    if not texts:
        raise ValueError("prompt: expected at least one text, got none")
    known = opened.read(texts)
    drawn = [opened.picture(v, known) for v in opened.noise(count)]
    pictures.grid(torch.stack(drawn, 1), opened.path("prompts"), rows=texts, title=_title("Prompts", opened))


@torch.no_grad()
def diagnosis(opened: Opened, count: int) -> None:
    """diagnose.png: conditions that say less and less of the first picture, and what v then has to fill in.

    Texts lose words from the end, small pictures detail. ValueError for another condition.
    """
    at_least_one(samples=count)
    if opened.read is not None:
        words = opened.labels[0].split()
        rows = list(dict.fromkeys(" ".join(words[:kept]) for kept in (len(words), -(-len(words) // 2), 1)))
        conditions = opened.read(rows)
    elif opened.low is not None and opened.see is not None:
        low = opened.low[:1]
        sides = [low.shape[-1] >> step for step in range(4)]
        coarse = [interpolate(adaptive_avg_pool2d(low, side), low.shape[2:]) for side in sides]
        conditions, rows = opened.see(torch.cat(coarse)), [f"{side} pixels" for side in sides]
    else:
        raise ValueError(f"diagnose: {opened.context.name} is conditioned on neither texts, small pictures nor layers")
    drawn = [opened.picture(v, conditions) for v in opened.noise(count)]
    images = opened.images[:1].expand(len(rows), -1, -1, -1)
    _draw(opened, [images, *drawn], "diagnose", "Conditions that say less", _columns(count), rows)


@torch.no_grad()
def layers(seen: dict[str, Opened], count: int) -> None:
    """diagnose.png: a row for each flow: the picture, and others that its layer cannot tell from it.

    Raises:
        ValueError: if the flows, each with the data that it was trained on, were not opened with the same picture.
    """
    at_least_one(samples=count)
    first = next(iter(seen.values()))
    if not all(torch.equal(opened.images, first.images) for opened in seen.values()):
        raise ValueError(
            f"diagnose: {', '.join(seen)} were trained on other pictures each; expected data=FOLDER for all"
        )
    rows = [[opened.images[0], *(opened.picture(v, opened.known[:1])[0] for v in opened.noise(count))]
            for opened in seen.values()]  # fmt: skip
    pictures.grid(rows, first.path("diagnose"), rows=[*seen], columns=_columns(count),
                  title=_title("What each layer leaves open", first))  # fmt: skip


def autoencoded(context: Context, images: Tensor, restored: Tensor) -> None:
    """reconstruct.png of an autoencoder alone."""
    pictures.grid(torch.stack([images, restored]), context.out / "reconstruct.png", rows=["real", "auto-encoded"],
                  title=context.name)  # fmt: skip


def _columns(count: int) -> list[str]:
    return ["real (held out)", *(f"v {k}" for k in range(1, count + 1))]


def _given(opened: Opened, condition: Tensor, alpha: float) -> Tensor:
    """The pictures' v given one condition, mixed by alpha."""
    wanted = condition.expand(len(opened.known), *condition.shape)
    return opened.decode(translate.transfer(opened.flow, opened.latents, opened.known, wanted, alpha))


def _draw(opened: Opened, images: list[Tensor], name: str, what: str, columns: Sequence[str],
          rows: Sequence[str] | None = None) -> None:  # fmt: skip
    pictures.grid(torch.stack(images, 1), opened.path(name), rows=rows or opened.labels or None, columns=columns,
                  title=_title(what, opened))  # fmt: skip


def _title(what: str, opened: Opened) -> str:
    return f"{what}. {opened.note}" if opened.note else what
