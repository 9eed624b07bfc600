"""The figures that flowkit is held against, beside other libraries: `python -m benchmarks.figures [part ...]`.

Each part prints its rows as it goes; with --json they are also kept, beside the parts that the file already holds, so
that the parts can be measured one by one. `python -m benchmarks.table FILE` then writes the table of the README.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks import table
from benchmarks.parts import calls, elementwise, emerging, flows, launches, net2net, reversible, roundtrip, spline
from benchmarks.parts.rows import Row, Settings
from flowkit.bench.report import machine

PARTS: Mapping[str, Callable[[Settings], Iterator[Row]]] = {
    "elementwise": elementwise.rows,
    "spline": spline.rows,
    "tabular": flows.vectors,
    "glow": flows.images,
    "emerging": emerging.rows,
    "net2net": net2net.rows,
    "launches": launches.rows,
    "calls": calls.rows,
    "reversible": reversible.rows,
    "exactness": roundtrip.rows,
}


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """One part: its rows, printed as they come, with the machine's facts and the time it took."""
    begin, rows = time.perf_counter(), []
    print(f"\n{name}\n{' | '.join(table.COLUMNS)}")
    torch.manual_seed(0)
    for row in PARTS[name](settings):
        rows.append(row)
        print(" | ".join(table.cells(row)), flush=True)
    return {
        "machine": machine(settings.device),
        "date": date.today().isoformat(),
        "seconds": time.perf_counter() - begin,
        "quick": settings.quick,
        "rows": rows,
    }


def keep(file: Path, name: str, part: dict[str, Any]) -> None:
    """Adds a part to the file, or replaces it there."""
    held = json.loads(file.read_text(encoding="utf-8"))["parts"] if file.exists() else {}
    parts = {**held, name: part}
    ordered = {key: parts[key] for key in PARTS if key in parts}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"parts": ordered}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"default all: {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows in FILE")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: as many as torch takes)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: tries the code, measures nothing")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measures the parts asked for; returns the exit code, 1 if a part failed."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = Settings(torch.device(options.device), options.quick)
    failed = []
    for name in options.parts or PARTS:
        try:
            part = measure(name, settings)
        except Exception:  # the other parts are still worth measuring
            traceback.print_exc()
            failed.append(name)
            continue
        if options.json is not None:
            keep(options.json, name, part)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
