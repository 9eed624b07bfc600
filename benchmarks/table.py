"""Writes the figures into benchmarks/README.md: `python -m benchmarks.table results/figures.json`.

What stands between the two markers of the README is replaced; no number there is typed by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures: written by benchmarks.table, do not edit -->", "<!-- end of figures -->"
COLUMNS = ("what", "size", "ours", "beside", "takes", "ratio", "target", "met", "note")


def number(found: float | None) -> str:
    """Three digits, or as many as a whole number has."""
    if found is None:
        return "–"
    if found == int(found) or abs(found) >= 1000:
        return f"{found:.0f}"
    return f"{found:.3g}" if abs(found) >= 1e-3 else f"{found:.1e}"


def quantity(found: float | None, unit: str) -> str:
    """A number with its unit; launches and errors are plain numbers."""
    plain = found is None or unit in ("operators", "kernels", "relative error")
    return number(found) if plain else f"{number(found)} {unit}"


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of a row."""
    met = {True: "yes", False: "**no**", None: "–"}[row["met"]]
    ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}x"
    ours, theirs = (quantity(row[key], row["unit"]) for key in ("ours", "theirs"))
    return [row["what"], row["size"], ours, row["peer"] or "–", theirs, ratio, row["target"] or "–", met, row["note"]]


def lines(rows: list[list[str]]) -> Iterator[str]:
    """A markdown table; the notes are a column where there are any."""
    width = len(COLUMNS) if any(row[-1] for row in rows) else len(COLUMNS) - 1
    yield f"| {' | '.join(COLUMNS[:width])} |"
    yield f"|{' --- |' * width}"
    for row in rows:
        yield f"| {' | '.join(row[:width])} |"


def place(machine: dict[str, Any]) -> str:
    """The machine's facts in a sentence."""
    if machine["device"].startswith("cuda"):
        return f"{machine['gpu']}, torch {machine['torch']}."
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    kernels = machine["instruction_set"] or "no native kernels"
    return f"{machine['cpu']}, {threads}, {kernels}, torch {machine['torch']}. Not measured on a GPU."


def markdown(content: dict[str, Any]) -> Iterator[str]:
    """All parts, each with its table, under the facts of the machine that it was measured on."""
    before = None
    for name, part in content["parts"].items():
        if (now := place(part["machine"])) != before:
            yield f"\nMeasured on {now}\n"
            before = now
        yield f"\n**{name}** ({part['date']}, {part['seconds']:.0f} s{', quick: not a figure' * part['quick']})\n"
        yield from lines([cells(row) for row in part["rows"]])


def summary(content: dict[str, Any]) -> str:
    """How many targets are met."""
    held = [row["met"] for part in content["parts"].values() for row in part["rows"] if row["met"] is not None]
    return f"{sum(held)} of {len(held)} targets are met."


def write(content: dict[str, Any], readme: Path = README) -> None:
    """Replaces what stands between the markers; ValueError if they are missing."""
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme}: expected the markers {BEGIN!r} and {END!r}, where the table goes")
    head, rest = text.split(BEGIN, 1)
    body = "\n".join([summary(content), *markdown(content)])
    readme.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what benchmarks.figures wrote with --json")
    write(json.loads(parser.parse_args().file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
