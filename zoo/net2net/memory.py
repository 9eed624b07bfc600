"""Which experts a flow was trained with: written beside its weights, read by commands that do not name them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zoo.verbs import Context


def remember(context: Context, experts: Mapping[str, str]) -> None:
    """Writes down the words of a command for each expert, and whether others were random."""
    file = _file(context)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**experts, "random": context.random}, indent=2) + "\n", encoding="utf-8")


def remembered(context: Context, experts: Mapping[str, str]) -> tuple[Context, dict[str, str]]:
    """The words that the training of the flow in the folder was given, where a command has none of its own.

    They do not count with ``--random`` or ``--weights``, which are of another flow than the folder's.
    """
    file = _file(context)
    if context.random or context.weights is not None or not file.is_file():
        return context, {**experts}
    before = json.loads(file.read_text(encoding="utf-8"))
    return replace(context, random=before["random"]), {key: text or before[key] for key, text in experts.items()}


def absolute(path: str) -> str:
    """The path of a file or folder that exists, from whatever folder a later command is given; other text as it is."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _file(context: Context) -> Path:
    return context.file(context.name).with_suffix(".experts.json")
