"""Recipes: a kind of network with its options, as a value, before its channel counts are known."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

KINDS: dict[str, Callable[..., nn.Module]] = {}


@dataclass(frozen=True, repr=False)
class Recipe:
    """A network to be: ``recipe(in_channels, out_channels)`` builds it, with further options of the caller's if any.

    Compares by value, pickles, and prints as the call that makes it, e.g. ``mlp(hidden=64)``. ``kind`` and the options
    that differ from their defaults (numbers, names and tuples of them) are all it holds.
    """

    kind: str
    items: tuple[tuple[str, Any], ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return dict(self.items)

    def __call__(self, in_channels: int, out_channels: int, **more: Any) -> nn.Module:
        return KINDS[self.kind](in_channels, out_channels, **{**self.options, **more})

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.items)})"


def register(kind: str, module: Callable[..., nn.Module]) -> Callable[..., Recipe]:
    """Makes a network class usable as a conditioner under the name ``kind``.

    Arguments:
        module: ``module(in_channels, out_channels, **options)``, every option with a default.

    Returns:
        The function from options to a :class:`Recipe`.

    Raises:
        ValueError: a name that another class has.
    """
    if KINDS.setdefault(kind, module) is not module:
        raise ValueError(f"kind: expected a new name, got {kind!r}, which is {KINDS[kind]!r}")

    def recipe(**options: Any) -> Recipe:
        return make(kind, **options)

    recipe.__name__ = recipe.__qualname__ = kind
    recipe.__doc__ = f"A recipe for {module.__name__}; its options by name.\n\n{inspect.getdoc(module)}"
    return recipe


def make(kind: str, **options: Any) -> Recipe:
    """The recipe of a registered kind; ValueError for an unknown kind or option."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    known = dict(list(inspect.signature(KINDS[kind]).parameters.items())[2:])
    for name in options:
        if name not in known:
            raise ValueError(f"{kind}: expected options among {', '.join(known)}, got {name!r}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    return Recipe(kind, tuple((n, values[n]) for n in known if n in values and values[n] != known[n].default))
