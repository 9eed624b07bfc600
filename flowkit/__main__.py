"""Command line of the library: `python -m flowkit info` and `python -m flowkit bench`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from flowkit.bench import cli
from flowkit.info import describe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flowkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="back ends, instruction set, CUDA architectures, versions")
    bench = commands.add_parser("bench", help="time every operator beside plain torch", description=cli.__doc__)
    cli.add_options(bench)
    options = parser.parse_args(arguments)
    if options.command == "info":
        print(describe())
        return 0
    return cli.run(options)


if __name__ == "__main__":
    sys.exit(main())
