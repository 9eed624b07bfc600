"""The zoo's command line: ``zoo VERB ...``, its own verbs and those of the papers (``zoo VERB NAME key=value``)."""

from __future__ import annotations

import argparse
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo import registry, verbs
from zoo.extras import require


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 for a refused input or a failed check, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = OWN if not (words[:1] == ["demo"] and any("/" in w and "=" not in w for w in _positional(words))) else ()
    if not words or words[0] in (*own, "-h", "--help"):
        options = _parser().parse_args(words)
    else:
        options = _paper_parser(words[0]).parse_intermixed_args(words)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except CheckFailed:
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _positional(words: Sequence[str]) -> list[str]:
    """The words that are neither options nor the values of ``--out`` and the like."""
    return [w for before, w in zip(words, words[1:], strict=False) if not w.startswith("-") and before not in VALUED]


def overrides(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words as a dictionary; values are read as int, float, true/false or else text.

    Raises:
        ValueError: for a word without ``=``, or a key given twice.
    """
    return {key: registry.read_value(text) for key, text in texts(words).items()}


def texts(words: Sequence[str]) -> dict[str, str]:
    """``key=value`` words as a dictionary of texts; errors as :func:`overrides`."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise ValueError(f"options: expected key=value, got {word!r}")
        if key in found:
            raise ValueError(f"options: {key} is given twice")
        found[key] = text
    return found


def _paper_parser(word: str) -> argparse.ArgumentParser:
    """The parser of a verb that papers define."""
    parser = argparse.ArgumentParser(f"zoo {word}", description=_verb_help(word), formatter_class=_Text)
    parser.add_argument("verb")
    parser.add_argument("name", help="a registered network, as `zoo list` prints it")
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="key=value", help="options of the verb or of the network"
    )
    parser.add_argument("--out", type=Path, help="folder for weights, pictures, metrics (default: out/NAME)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run left in the folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="FILE", help="weights of NAME: a file, ours or theirs, or a published key")
    source.add_argument("--random", action="store_true", help="fresh weights instead of trained ones, to try a verb")
    parser.set_defaults(command=_verb)
    return parser


class _Text(argparse.RawDescriptionHelpFormatter):
    pass


def _verb_help(word: str) -> str:
    """Who knows the verb, and with which options, their defaults and choices."""
    lines = []
    for paper in verbs.papers():
        function = verbs.verbs(paper).get(word)
        if function is not None:
            summary, *more = (inspect.getdoc(function) or "").splitlines()
            lines += [f"{paper}: {summary}", *(f"    {line}".rstrip() for line in more if line)]
            hints = typing.get_type_hints(function)
            for parameter in [*inspect.signature(function).parameters.values()][1:]:
                hint = hints[parameter.name]
                choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
                lines.append(f"    {parameter.name}={parameter.default}{'  of ' * bool(choices)}{', '.join(choices)}")
    return "\n".join(lines) or f"No paper of the zoo knows {word!r}."


def _verb(options: argparse.Namespace) -> None:
    require("lightning", "matplotlib", "rich", "safetensors", "torchmetrics", "torchvision")
    from rich.console import Console

    registry.entry(options.name)
    out = options.out or Path("out") / options.name
    context = verbs.Context(options.name, out, Console(), options.seed, options.fresh, options.weights, options.random)
    verbs.run(options.verb, context, texts(options.settings))


class CheckFailed(Exception):
    """A check that the command was asked for did not hold; it has been printed."""


OWN = ("demo", "list", "show", "convert", "parity")
VALUED = ("--out", "--seed", "--weights")


def _parser() -> argparse.ArgumentParser:
    known: dict[str, list[str]] = {}
    for paper in verbs.papers():
        for word in verbs.verbs(paper):
            known.setdefault(word, []).append(paper)
    parser = argparse.ArgumentParser(
        "zoo",
        description="Published invertible networks, built on flowkit.",
        formatter_class=_Text,
        epilog="verbs of the papers (zoo VERB NAME key=value ..., zoo VERB --help):\n"
        + "\n".join(f"  {word:<14} {', '.join(sorted(owners))}" for word, owners in sorted(known.items())),
    )
    verbs_ = parser.add_subparsers(required=True, metavar="VERB")

    demo = verbs_.add_parser(
        "demo", help="train a small translation between two networks on handwritten digits, and report"
    )
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for everything (default: %(default)s)")
    demo.add_argument(
        "--seed", type=int, default=0, help="of the split, the training and the samples (default: %(default)s)"
    )
    demo.add_argument("--fresh", action="store_true", help="forget what an earlier run left")
    demo.add_argument("settings", nargs="*", metavar="key=value", help="settings of the demo, such as flow_epochs=40")
    demo.set_defaults(command=_demo)

    names = verbs_.add_parser("list", help="the registered networks")
    names.add_argument("pattern", nargs="?", default="*", help="such as 'demo/*' (default: all)")
    names.set_defaults(command=_list)

    show = verbs_.add_parser("show", help="a network as text or as a picture, and what its authors published")
    show.add_argument("name", help="as `list` prints it")
    show.add_argument(
        "options", nargs="*", default=[], metavar="key=value", help="options of the network, such as depth=12"
    )
    show.add_argument("--svg", type=Path, metavar="FILE", help="draw it into a file as well")
    show.set_defaults(command=_show)

    convert = verbs_.add_parser("convert", help="the authors' weights into ours, and ours into theirs")
    convert.add_argument("file", type=Path, help="a torch file of the authors, or a safetensors file of ours")
    convert.add_argument("name", help="the network whose weights it holds")
    convert.add_argument("options", nargs="*", default=[], metavar="key=value", help="options of the network")
    convert.add_argument("--to", type=Path, help="the file to write (default: beside, .safetensors or .ckpt)")
    convert.set_defaults(command=_convert)

    parity = verbs_.add_parser("parity", help="our components beside recorded numbers of the authors' code")
    parity.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=".npz files, or folders of them")
    parity.set_defaults(command=_parity)
    return parser


def _convert(options: argparse.Namespace) -> None:
    require("safetensors")
    import torch

    from zoo import published, weights

    given = overrides(options.options)
    if options.file.suffix == ".safetensors":
        target = options.to or options.file.with_suffix(".ckpt")
        model = weights.load(options.file) if not given else registry.load(options.name, options.file, **given)
        entry = registry.entry(options.name)
        theirs = published.export(options.name, model, {**entry.defaults, **given})
        _write_new(target, lambda file: torch.save({"state_dict": theirs}, file))
    else:
        target = options.to or options.file.with_suffix(".safetensors")
        model = published.load(options.name, options.file, given)
        _write_new(target, lambda file: weights.save(model, file, {"converted from": options.file.name}))
    print(f"{options.file} -> {target}: {len(model.state_dict())} tensors, {model.graph.parameters:,} parameters")


def _write_new(target: Path, write: Callable[[Path], object]) -> None:
    if target.exists():
        raise ValueError(f"convert: {str(target)!r} exists; remove it or name another file with --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target)


def _parity(options: argparse.Namespace) -> None:
    require("rich")
    from rich.console import Console

    from zoo import parity

    if not parity.main(options.paths, Console()):
        raise CheckFailed


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
    from zoo import published

    given = overrides(options.options)
    graph = registry.graph(options.name, **given)
    print(graph)
    values = {**registry.entry(options.name).defaults, **given}
    print("options: " + ", ".join(f"{key}={value}" for key, value in values.items()))
    for line in published.describe(options.name):
        print(line)
    if options.svg is not None:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        graph.draw(options.svg)
        print(f"drawn: {options.svg}")
