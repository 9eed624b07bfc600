"""Times every operator beside plain torch, torch.compile and a copy of the same bytes.

The contenders take turns, the table shows medians. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from flowkit.bench import overhead, report
from flowkit.bench.operators import OPERATORS
from flowkit.bench.runner import Row, measure
from flowkit.bench.suites import BUDGET, SUITES


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m flowkit bench`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--suite", choices=sorted(SUITES), default="quick", help="quick (default): under a minute")
    parser.add_argument("--op", metavar="NAME", help="only operators whose name contains NAME")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: as many as torch takes)")
    parser.add_argument("--device", default=device, help=f"cpu or cuda (default here: {device})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    cases = [case for case in SUITES[options.suite]() if not options.op or options.op in case.operator.name]
    if not cases:
        names = ", ".join(operator.name for operator in OPERATORS)
        print(f"no operator's name contains {options.op!r}; there are {names}", file=sys.stderr)
        return 2
    if options.threads is not None:
        if options.threads < 1:
            print(f"--threads must be at least 1, got {options.threads}", file=sys.stderr)
            return 2
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(0)
    machine = report.machine(device)
    place = machine["gpu"] if device.type == "cuda" else f"{machine['cpu']}, {machine['threads']} threads"
    backends = ", ".join(machine["backends"])
    instructions = machine["instruction_set"] or "no native kernels"
    print(f"{place}; torch {machine['torch']}; back ends {backends}; {instructions}\n")

    rows: list[Row] = []
    notes: list[str] = []
    print(report.HEADER)
    for case in cases:
        for row in measure(case, BUDGET[options.suite], device, notes):
            rows.append(row)
            print(report.row_line(row), flush=True)
    print(f"\n{report.EXPLANATION}\n\n{report.OVERHEAD_HEADER}")
    overheads = overhead.measure(device)
    for entry in overheads:
        print(report.overhead_line(entry), flush=True)
    for note in notes:
        print(f"\nnote: {note}")

    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": {**machine, "notes": notes}, "rows": rows, "overhead": overheads}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {options.json}")
    return 0
