"""How results are shown: aligned text tables, and facts about the machine for the JSON file."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from flowkit.info import info

HEADER = (
    f"{'operator':<25}{'direction':<10}{'layout':<15}{'dtype':<10}{'shape':<15}{'output':<10}"
    f"{'ours':>10}{'eager':>9}{'compile':>9}{'of copy':>9}"
)
EXPLANATION = (
    "ours: milliseconds.  eager, compile: how many times longer plain torch and torch.compile take.\n"
    "of copy: share of the speed of a plain copy that moves the same bytes into a given buffer.\n"
    "output: a fresh tensor, or the buffer of a workspace (in place)."
)


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def machine(device: torch.device) -> dict[str, Any]:
    """The facts that a timing depends on."""
    facts = info()
    facts.update(cpu=cpu_name(), cores=os.cpu_count(), threads=torch.get_num_threads(), device=str(device))
    return facts


def ratio(numerator: float | None, denominator: float) -> str:
    """``numerator / denominator`` as a factor, a dash where it was not measured."""
    return "-" if numerator is None else f"{numerator / denominator:.2f}x"


def row_line(row: dict[str, Any]) -> str:
    """One row of the operator table, in line with HEADER."""
    ours = row["ours_ms"]
    shape = "x".join(map(str, row["shape"]))
    output = "in place" if row["in_place"] else "fresh"
    return (
        f"{row['op']:<25}{row['direction']:<10}{row['layout']:<15}{row['dtype']:<10}{shape:<15}{output:<10}"
        f"{ours:>10.3f}{ratio(row['eager_ms'], ours):>9}{ratio(row['compile_ms'], ours):>9}"
        f"{row['copy_ms'] / ours:>9.2f}"
    )


OVERHEAD_HEADER = f"{'call':<45}{'ours':>12}{'compared with':>25}{'takes':>12}{'ours/it':>10}"


def overhead_line(row: dict[str, Any]) -> str:
    """One row of the overhead table, in line with OVERHEAD_HEADER."""
    ours, baseline = row["ours_us"], row["baseline_us"]
    return f"{row['case']:<45}{ours:>9.2f} us{row['baseline']:>25}{baseline:>9.2f} us{ours / baseline:>9.2f}x"
