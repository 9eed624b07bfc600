"""``zoo parity``: our components beside recorded inputs and outputs of the authors' code, file by file.

A file ``<system>_<component>[__<variant>].npz`` holds ``config`` (JSON), ``state/*`` (weights, the authors' names),
``in/*``, and what the authors' code computed: all else, such as ``out/*``, ``loss/*``, ``grad/*``, ``after/*``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from rich.console import Console

TOLERANCE = 1e-5
GIVEN = ("config", "state/", "in/")


class Fixture:
    """One file.

    Raises:
        ValueError: if it is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.system, _, rest = self.path.stem.partition("_")
        self.component, _, self.variant = rest.partition("__")
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, BadZipFile) as error:
            raise ValueError(f"expected an .npz file, {str(path)!r} is none ({error})") from error
        if "config" not in arrays:
            raise ValueError(f"expected an entry 'config', {str(path)!r} has {', '.join(arrays) or 'none'}")
        self.config: dict[str, Any] = json.loads(str(arrays.pop("config")))
        self.arrays: dict[str, np.ndarray] = arrays

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        """The entry as a tensor (of its bytes, if it is text); KeyError if there is none."""
        array = np.array(self.arrays[key])
        return text(str(array)) if array.dtype.kind == "U" else torch.from_numpy(array)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The entries below a prefix such as ``in/``, without it."""
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The stored weights; empty where a rule generates them."""
        return self.under("state/")

    @property
    def expected(self) -> list[str]:
        """What the authors' code computed."""
        return [key for key in self.arrays if not key.startswith(GIVEN)]


def text(words: str) -> Tensor:
    """JSON as a tensor of bytes, the same whatever the order of its keys."""
    plain = json.dumps(json.loads(words), sort_keys=True)
    return torch.from_numpy(np.frombuffer(plain.encode(), np.uint8).copy())


Component = Callable[[Fixture], Mapping[str, Tensor]]
"""Computes what a file expects, by the file's keys (``out/y``)."""
Tolerance = float | Callable[[Fixture, str], float]
"""Of max|a - b| / max(1, max|b|); a function of the file and the key where it depends on the file's configuration."""


@dataclass(frozen=True)
class Checks:
    """A paper's side of parity, ``CHECKS`` in its ``parity.py``.

    Arguments:
        components: by name, or by a pattern such as ``encoder_*`` for names that no other stands for.
        tolerances: where it is not 1e-5: by ``component`` or ``component:key``, patterns allowed; 0 is exact.
        left_out: ``component:key`` patterns of entries that are not computed, with the reason.
    """

    components: Mapping[str, Component]
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def component(self, name: str) -> Component:
        """What computes a component; ValueError with the known names for another."""
        found = self.components.get(name) or next((c for p, c in self.components.items() if fnmatchcase(name, p)), None)
        if found is None:
            raise ValueError(f"component: expected one of {', '.join(sorted(self.components))}, got {name!r}")
        return found

    def tolerance(self, fixture: Fixture, key: str) -> float:
        """The tolerance of an entry: the last pattern that matches counts."""
        found = [v for pattern, v in self.tolerances.items() if _matches(pattern, fixture.component, key)]
        last = found[-1] if found else TOLERANCE
        return last(fixture, key) if callable(last) else last

    def reason(self, component: str, key: str) -> str | None:
        """Why an entry is left out, None if it is not."""
        return next((why for pattern, why in self.left_out.items() if _matches(pattern, component, key)), None)


def _matches(pattern: str, component: str, key: str) -> bool:
    return fnmatchcase(f"{component}:{key}", pattern if ":" in pattern else f"{pattern}:*")


@dataclass(frozen=True)
class Line:
    """One entry: errors (NaN where there is nothing to compare), tolerance, and what is wrong (empty if nothing is)."""

    key: str
    absolute: float
    relative: float
    tolerance: float
    fault: str = ""


@dataclass(frozen=True)
class Report:
    """One file: its lines, or why it could not be run."""

    path: Path
    lines: tuple[Line, ...] = ()
    fault: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether it could be run and all that the authors' code computed agrees."""
        return not self.fault and not any(line.fault for line in self.lines)


def compare(key: str, ours: Tensor | None, theirs: Tensor, tolerance: float) -> Line:
    """Errors of an entry; tensors may differ by axes of length 1 (vectors that the authors carry as 1x1 images)."""
    nothing = float("nan")
    if ours is None:
        return Line(key, nothing, nothing, tolerance, "not computed")
    ours = ours.detach()
    if [n for n in ours.shape if n > 1] != [n for n in theirs.shape if n > 1]:
        return Line(key, nothing, nothing, tolerance, f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
    a, b = ours.reshape(theirs.shape).double(), theirs.double()
    if b.numel() == 0:
        return Line(key, 0.0, 0.0, tolerance)
    absolute = float((a - b).abs().max())
    relative = absolute / max(1.0, float(b.abs().max()))
    return Line(key, absolute, relative, tolerance, "" if relative <= tolerance else f"error {relative:.1e}")


def run(path: str | Path) -> Report:
    """Runs one file; whatever goes wrong is in the report."""
    path = Path(path)
    try:
        fixture = Fixture(path)
        checks = checks_of(fixture.system)
        computed = dict(checks.component(fixture.component)(fixture))
        wanted = {key: checks.reason(fixture.component, key) for key in fixture.expected}
        lines = tuple(
            compare(key, computed.get(key), fixture[key], checks.tolerance(fixture, key))
            for key, reason in wanted.items()
            if reason is None
        )
        fault = "nothing to compare" if wanted and not lines else ""  # a file may hold inputs of others alone
        return Report(path, lines, fault, {k: r for k, r in wanted.items() if r})
    except Exception as error:  # a file that cannot be run is a failure of that file, never of the command
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Report(path, fault=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def checks_of(system: str) -> Checks:
    """The checks of a paper; ValueError for an unknown one."""
    module = f"zoo.{system}.parity"
    if not system.isidentifier() or importlib.util.find_spec(f"zoo.{system}") is None or not _has(module):
        raise ValueError(f"system: expected a paper of the zoo with parity checks, got {system!r}")
    found: Checks = importlib.import_module(module).CHECKS
    return found


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def main(paths: list[Path], console: Console) -> bool:
    """Runs files (and the .npz files of folders), prints every error; whether all passed."""
    files = [file for path in paths for file in (sorted(path.glob("*.npz")) if path.is_dir() else [path])]
    reports = []
    for file in files:
        report = run(file)
        reports.append(report)
        _print(report, console)
    passed = sum(report.passed for report in reports)
    console.print(f"{len(reports)} files: {passed} passed, {len(reports) - passed} failed", highlight=False)
    return bool(reports) and passed == len(reports)


def _print(report: Report, console: Console) -> None:
    from rich.table import Table

    verdict = "[green]passed[/green]" if report.passed else "[red]failed[/red]"
    console.print(f"{report.path.name}: {verdict}", highlight=False)
    if report.fault:
        console.print(f"  {report.fault}", highlight=False, markup=False, soft_wrap=True)
    if report.passed and not report.lines:
        console.print("  nothing to compare: it holds inputs alone, from which other files start", highlight=False)
    table = Table(box=None, padding=(0, 2), show_header=bool(report.lines))
    for heading in ("entry", "absolute", "relative", "tolerance", ""):
        table.add_column(heading, justify="left" if heading in ("entry", "") else "right")
    for line in report.lines:
        table.add_row(line.key, f"{line.absolute:.1e}", f"{line.relative:.1e}", f"{line.tolerance:.0e}", line.fault)
    console.print(table)
    for key, reason in report.left_out.items():
        console.print(f"  {key}: not compared: {reason}", highlight=False, markup=False, soft_wrap=True)
