"""Plain data of a graph: immutable option mappings, shapes, names, and the wording of errors."""

import difflib
import keyword
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from flowkit.nets import Recipe

Shape = tuple[int | None, ...]
"""Shape of a value without its batch dimension: (C, *spatial). A spatial entry None means any size; () one number."""

MAX_INTEGER = 2**31 - 1

MAX_CHANNELS = 2**20
"""Most channels of a value: keeps what is computed about a graph, such as index buffers, small."""


class Options(Mapping[str, Any]):
    """An immutable, hashable mapping of option names to plain values; equality does not depend on the order."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._items == other._items

    def __repr__(self) -> str:
        return repr(self._items)


def freeze(value: Any, where: str) -> Any:
    """``value`` as plain immutable data: None, bool, int, finite float, str, tuples of these, or a network recipe.

    Raises:
        ValueError: naming ``where``, if the value is of another type, not finite, or beyond 2**31.
    """
    if value is None or isinstance(value, (bool, str, Recipe)):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError(f"{where}: expected an integer of at most {MAX_INTEGER}, got {value}.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: expected a finite number, got {value}.")
        return float(value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(v, f"{where}[{i}]") for i, v in enumerate(value))
    raise ValueError(f"{where}: expected plain data (numbers, strings, lists), got {type(value).__name__}.")


def check_name(name: Any, what: str) -> str:
    """``name`` itself, if it can name an input, a node or an output: a Python identifier that is no keyword,
    not ``self`` and not ``__special``, which no call can pass by name and no module can hold.

    Raises:
        ValueError: otherwise, naming ``what``.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name) or keyword.iskeyword(name):
        raise ValueError(
            f"{what}: expected a name of letters, digits and underscores that is no Python keyword, got {name!r}."
        )
    if name == "self" or name.startswith("__"):
        raise ValueError(f"{what}: {name!r} has a meaning of its own in Python; choose another name.")
    return name


def check_shape(shape: Any, what: str) -> Shape:
    """``shape`` as a tuple: an int means (channels,); spatial entries may be None.

    Raises:
        ValueError: naming ``what``, if an entry is not a positive integer (or None where spatial).
    """
    if isinstance(shape, int) and not isinstance(shape, bool):
        shape = (shape,)
    if not isinstance(shape, (tuple, list)) or len(shape) > 4:
        raise ValueError(f"{what}: expected channels or a shape (C, *spatial) of up to 4 entries, got {shape!r}.")
    for axis, size in enumerate(shape):
        if size is None and axis > 0:
            continue
        most = MAX_INTEGER if axis else MAX_CHANNELS
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= most:
            part = "a spatial size" if axis else "a number of channels"
            raise ValueError(f"{what}: expected {part} of 1 to {most}, got {size!r} in shape {tuple(shape)}.")
    return tuple(shape)


def show_shape(shape: Shape) -> str:
    """A shape as a reader wants it: ``128``, ``3 × 32 × 32``, ``3 × ? × ?``."""
    return " × ".join("?" if size is None else str(size) for size in shape) or "()"


def suggest(name: Any, known: Collection[str]) -> str:
    """The end of an error about an unknown name: the closest known one, and all of them if they are few."""
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return hint + (f" Known: {', '.join(sorted(known))}." if len(known) <= 12 or not close else "")
