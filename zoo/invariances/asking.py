"""What the verbs share: opening the system that a command names, choosing images, telling figures."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.verbs import Context, verb

if TYPE_CHECKING:
    from torch import Generator

    from zoo.invariances.cuts import Choice
    from zoo.invariances.system import System

CHOICE = ("data", "autoencoder", "classifier", "others", "concepts_from")
Of = Callable[..., None]


def of_system(function: Of) -> Of:
    """Makes a verb of a function of (context, system, noise): its options, and those that say what the system is of.

    Those are ``data``, ``autoencoder``, ``classifier``, ``others`` and ``concepts_from``, see
    :class:`zoo.invariances.cuts.Choice`.
    """
    context, _, _, *own = inspect.signature(function).parameters.values()
    chosen = [inspect.Parameter(name, context.KEYWORD_ONLY, default="", annotation="str") for name in CHOICE]

    @functools.wraps(function)
    def run(context: Context, **options: Any) -> None:
        from zoo.invariances.cuts import Choice

        choice = Choice(**{name: options.pop(name, "") for name in CHOICE})
        function(context, *opened(context, choice), **options)

    known = [context, *own, *chosen]
    run.__signature__ = inspect.Signature(known)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in known}
    return verb(run)


def opened(context: Context, choice: Choice) -> tuple[System, Generator]:
    """The system of a command, and the generator of what is drawn."""
    from zoo.invariances import opening
    from zoo.training.batches import seeded

    return opening.system(context, choice), seeded(context.seed, *b"verbs")


def only_defaults(verb: Of, context: Context, given: Mapping[str, Any]) -> None:
    """Raises ValueError for options that a verb has for published networks alone."""
    known = inspect.signature(verb).parameters
    changed = [name for name, value in given.items() if value != known[name].default]
    if changed:
        raise ValueError(f"{context.name}: expected no {', '.join(changed)}, a small system has its own")


def own_cut(context: Context) -> str:
    """The cut that the network's own name ends in, if any."""
    from zoo.invariances import opening

    return opening.cut(context.name)


def some_images(system: System, first: int, count: int) -> Any:
    """Images (count, C, H, W) from a place on; ValueError if there are not as many."""
    if not 0 <= first < first + count <= len(system.images):
        there = f"the {len(system.images)} images, numbered from 0 on"
        raise ValueError(f"images: expected some of {there}; asked for {count} from number {first} on")
    return system.images[first : first + count]


def two_images(system: System, first: int, second: int) -> Any:
    """Two images (2, C, H, W) by their numbers; ValueError for others than there are."""
    if not all(0 <= k < len(system.images) for k in (first, second)):
        raise ValueError(f"first, second: expected 0 to {len(system.images) - 1}, got {first} and {second}")
    return system.images[[first, second]]


def say(context: Context, name: str, figures: Mapping[str, float]) -> None:
    """Prints a verb's figures, and writes them."""
    for key, value in figures.items():
        context.console.print(f"{key}: {value:.4g}", highlight=False)
    write(context, name, figures)


def write(context: Context, name: str, figures: Mapping[str, Any]) -> None:
    """Writes figures, if there are any, to ``NAME.json`` in the command's folder, and says where all is."""
    context.out.mkdir(parents=True, exist_ok=True)
    path: Path = context.out / f"{name}.json"
    if figures:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    context.console.print(f"written to {context.out}", highlight=False)
