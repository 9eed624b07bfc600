"""The zoo's command line: ``python -m zoo demo | list | show``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.extras import require


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 for a refused input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def overrides(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words as a dictionary; values are read as int, float, true/false or else text.

    Raises:
        ValueError: for a word without ``=``, or a key given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise ValueError(f"options: expected key=value, got {word!r}")
        if key in found:
            raise ValueError(f"options: {key} is given twice")
        found[key] = _value(text)
    return found


def _value(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m zoo", description="Published invertible networks, built on flowkit.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    demo = verbs.add_parser(
        "demo", help="train a small translation between two networks on handwritten digits, and report"
    )
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for everything (default: %(default)s)")
    demo.add_argument(
        "--seed", type=int, default=0, help="of the split, the training and the samples (default: %(default)s)"
    )
    demo.add_argument("--fresh", action="store_true", help="forget what an earlier run left")
    demo.add_argument("settings", nargs="*", metavar="key=value", help="settings of the demo, such as flow_epochs=40")
    demo.set_defaults(command=_demo)

    names = verbs.add_parser("list", help="the registered networks")
    names.add_argument("pattern", nargs="?", default="*", help="such as 'demo/*' (default: all)")
    names.set_defaults(command=_list)

    show = verbs.add_parser("show", help="a network as text, or as a picture")
    show.add_argument("name", help="as `list` prints it")
    show.add_argument("options", nargs="*", metavar="key=value", help="options of the network, such as depth=12")
    show.add_argument("--svg", type=Path, metavar="FILE", help="draw it into a file as well")
    show.set_defaults(command=_show)
    return parser


def _demo(options: argparse.Namespace) -> None:
    require("lightning", "matplotlib", "rich", "safetensors", "sklearn", "torchmetrics")
    from rich.console import Console

    from zoo.demo import job
    from zoo.demo.settings import Settings

    job.run(Settings.of(**{"seed": options.seed, **overrides(options.settings)}), options.out, Console(), options.fresh)


def _list(options: argparse.Namespace) -> None:
    names = registry.list(options.pattern)
    if not names:
        raise ValueError(f"pattern: nothing matches {options.pattern!r}; there are {', '.join(registry.list())}")
    width = max(map(len, names))
    for name in names:
        found = registry.entry(name)
        print(f"{name:{width}}  {found.graph().parameters:>11,} parameters  {found.summary}")


def _show(options: argparse.Namespace) -> None:
    given = overrides(options.options)
    graph = registry.graph(options.name, **given)
    print(graph)
    values = {**registry.entry(options.name).defaults, **given}
    print("options: " + ", ".join(f"{key}={value}" for key, value in values.items()))
    if options.svg is not None:
        graph.draw(options.svg)
        print(f"drawn: {options.svg}")
