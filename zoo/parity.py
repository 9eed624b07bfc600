"""``zoo parity``: our components beside recorded inputs and outputs of the authors' code, file by file."""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from zoo.parity_files import Fixture
from zoo.verbs import papers

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["TOLERANCE", "Checks", "Component", "Fixture", "Line", "Report", "checks_of", "compare", "main", "run"]

TOLERANCE = 1e-5
PEERS = "tests.parity.peers"
"""What runs files of other libraries, whose weights are read for tests alone."""

Component = Callable[[Fixture], Mapping[str, Tensor]]
"""Computes what a file expects, by the file's keys (``out/y``)."""
Tolerance = float | Callable[[Fixture, str], float]
"""Of an entry's relative error; a function of the file and the key where it depends on the file's configuration."""


@dataclass(frozen=True)
class Checks:
    """A paper's side of parity, ``CHECKS`` in its ``parity.py``.

    Arguments:
        components: by name, after which a file's name may go on (``embedder_gen``, ``dims2``); the longest one counts.
        tolerances: where it is not 1e-5: by ``component`` or ``component:key``, patterns allowed; 0 is exact.
        scaled: prefixes of keys whose errors are relative to what is below 1, too: to an entry's largest value or, if
            that is more, to the smaller of 1 and the largest value of all entries with the prefix.
        inputs: components whose files hold what other files start from, and nothing to compare.
    """

    components: Mapping[str, Component]
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    scaled: Sequence[str] = ()
    inputs: Sequence[str] = ()

    def name(self, fixture: Fixture) -> str:
        """The component that a file's name means; ValueError with the known names if it is none of them."""
        given = fixture.component
        found = [name for name in self.components if given.startswith(name) and not given[len(name) :][:1].isalpha()]
        if not found:
            raise ValueError(f"component: expected one of {', '.join(sorted(self.components))}, got {given!r}")
        return max(found, key=len)

    def tolerance(self, fixture: Fixture, key: str) -> float:
        """The tolerance of an entry: the last pattern that matches counts."""
        name = self.name(fixture)
        found = [v for pattern, v in self.tolerances.items() if _matches(pattern, name, key)]
        last = found[-1] if found else TOLERANCE
        return last(fixture, key) if callable(last) else last

    def least_scale(self, fixture: Fixture, key: str) -> float:
        """What an entry's error is relative to at least."""
        prefix = next((prefix for prefix in self.scaled if key.startswith(prefix)), None)
        if prefix is None:
            return 1.0
        together = [fixture[other].abs() for other in fixture.expected if other.startswith(prefix)]
        return min(1.0, max((float(values.max()) for values in together if values.numel()), default=1.0))


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
    """One file: its lines, or why it could not be run; and which of its options no code looked at."""

    path: Path
    lines: tuple[Line, ...] = ()
    fault: str = ""
    unread: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it could be run and all that the authors' code computed agrees."""
        return not self.fault and not any(line.fault for line in self.lines)


def compare(key: str, ours: Tensor | None, theirs: Tensor, tolerance: float, least_scale: float = 1.0) -> Line:
    """Errors of an entry; tensors may differ by axes of length 1 (vectors that the authors carry as 1x1 images).

    Arguments:
        tolerance: of the relative error, max|a - b| / max(least_scale, max|b|).
    """
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
    relative = absolute / (max(least_scale, float(b.abs().max())) or 1.0)
    return Line(key, absolute, relative, tolerance, "" if relative <= tolerance else f"error {relative:.1e}")


def run(path: str | Path) -> Report:
    """Runs one file; whatever goes wrong is in the report."""
    path = Path(path)
    try:
        fixture = Fixture(path)
    except (OSError, ValueError) as error:
        return Report(path, fault=str(error))
    try:
        checks = checks_of(fixture.system)
        name = checks.name(fixture)
        if not fixture.expected and name not in checks.inputs:
            given = ", ".join(fixture.arrays) or "none"
            raise ValueError(f"nothing to compare: expected entries such as out/y or loss/loss beside {given}")
        computed = checks.components[name](fixture)
        lines = tuple(
            compare(
                key, computed.get(key), fixture[key], checks.tolerance(fixture, key), checks.least_scale(fixture, key)
            )
            for key in fixture.expected
        )
        return Report(path, lines, unread=tuple(fixture.config.unread()))
    except Exception as error:  # a file that cannot be run is a failure of that file, never of the command
        where = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        unread = () if Path(where.filename) == Path(__file__) else tuple(fixture.config.unread())
        return Report(path, fault=fault, unread=unread)


def checks_of(system: str) -> Checks:
    """The checks of a paper, or of "peer", other libraries; ValueError for one that is not in the zoo."""
    known = {name: f"zoo.{name}.parity" for name in papers() if importlib.util.find_spec(f"zoo.{name}.parity")}
    if system not in {**known, "peer": PEERS}:
        raise ValueError(f"system: expected one of {', '.join(known)}, {system!r} is not in the zoo")
    if system == "peer" and (importlib.util.find_spec("tests") is None or importlib.util.find_spec(PEERS) is None):
        raise ValueError(f"system: files of other libraries need {PEERS}: run `python -m zoo parity` in the repository")
    found: Checks = importlib.import_module(known.get(system, PEERS)).CHECKS
    return found


def main(paths: list[Path], console: Console) -> bool:
    """Runs files (and the .npz files of folders), prints every error; whether all passed."""
    found = {path: sorted(path.rglob("*.npz")) if path.is_dir() else [path] for path in paths}
    for path in (path for path, files in found.items() if not files):
        console.print(
            f"{path}: expected .npz files, the folder has none", highlight=False, markup=False, soft_wrap=True
        )
    reports = []
    for file in (file for files in found.values() for file in files):
        report = run(file)
        reports.append(report)
        _print(report, console)
    passed = sum(report.passed for report in reports)
    console.print(f"{len(reports)} files: {passed} passed, {len(reports) - passed} failed", highlight=False)
    return bool(reports) and passed == len(reports)


def _print(report: Report, console: Console) -> None:
    from rich.markup import escape

    def say(words: str) -> None:
        console.print(words, highlight=False, markup=False, soft_wrap=True)

    verdict = "[green]passed[/green]" if report.passed else "[red]failed[/red]"
    console.print(f"{escape(report.path.name)}: {verdict}", highlight=False, soft_wrap=True)
    if report.fault:
        say(f"  {report.fault}")
    if report.passed and not report.lines:
        say("  inputs that other files start from: read, nothing to compare")
    width = max((len(line.key) for line in report.lines), default=0)
    if report.lines:
        say(f"  {'entry':<{width}}  absolute  relative  tolerance")
    for line in report.lines:
        numbers = f"{line.absolute:8.1e}  {line.relative:8.1e}  {line.tolerance:9.0e}"
        say(f"  {line.key:<{width}}  {numbers}  {line.fault}".rstrip())
    if report.unread and not report.passed:
        say(f"  options that were not looked at: {', '.join(report.unread)}")
