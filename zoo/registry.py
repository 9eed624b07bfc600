"""Names for graphs: one decorator registers a function that returns a graph, with its named configurations."""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from flowkit.graph import Graph
    from flowkit.graph.module import BuiltGraph

F = TypeVar("F", bound="Callable[..., Graph]")


@dataclass(frozen=True)
class Entry:
    """A registered configuration.

    Arguments:
        name: ``paper/network`` or ``paper/network_variant``.
        make: the function that returns the graph.
        options: the configuration: what ``make`` is called with unless overridden.
    """

    name: str
    make: Callable[..., Graph]
    options: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option with the value it has in this configuration."""
        parameters = inspect.signature(self.make).parameters.values()
        return {parameter.name: self.options.get(parameter.name, parameter.default) for parameter in parameters}

    def graph(self, **overrides: Any) -> Graph:
        """The graph; ValueError for an option that does not exist or a value of the wrong type."""
        check_options(self.name, self.make, overrides)
        return self.make(**{**self.options, **overrides})


_ENTRIES: dict[str, Entry] = {}


def register(configurations: Mapping[str, Mapping[str, Any]] | None = None) -> Callable[[F], F]:
    """Decorator: registers a function of a paper's ``graph.py`` that returns a graph.

    Each configuration is called ``<paper>/<key>``, where ``<paper>`` is the folder, and holds the options that it sets.
    Without any, there is one with the function's name. Every parameter of the function needs a default and an
    annotation.

    Raises:
        ValueError: if a name is taken, a configuration sets an option that the function does not have, or a parameter
            has no default.
    """

    def decorate(make: F) -> F:
        paper = make.__module__.rpartition(".")[0].rpartition(".")[2] or make.__module__
        bare = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
        if bare:
            raise ValueError(f"{make.__qualname__}: expected a default for every parameter, {', '.join(bare)} has none")
        for configuration, options in (configurations or {make.__name__: {}}).items():
            name = f"{paper}/{configuration}"
            entry = Entry(name, make, dict(options))
            check_options(name, make, options)
            if name in _ENTRIES and _identity(_ENTRIES[name].make) != _identity(make):
                raise ValueError(f"name: {name!r} is already registered by {_identity(_ENTRIES[name].make)}")
            _ENTRIES[name] = entry
        return make

    return decorate


def _identity(make: Callable[..., Any]) -> str:
    return f"{make.__module__}.{make.__qualname__}"


def list(pattern: str = "*") -> builtins.list[str]:
    """The registered names that match a pattern such as ``demo/*``, sorted."""
    _import_papers()
    return sorted(name for name in _ENTRIES if fnmatchcase(name, pattern))


def entry(name: str) -> Entry:
    """The entry of a name; ValueError lists the names that exist, those of the paper if there is one of that name."""
    names = list()
    if name not in _ENTRIES:
        close = get_close_matches(name, names, n=1)
        hint = f" did you mean {close[0]!r}?" if close else ""
        known = list(f"{name.partition('/')[0]}/*") or names
        raise ValueError(f"name: got {name!r};{hint} expected one of {', '.join(known)}")
    return _ENTRIES[name]


def graph(name: str, **overrides: Any) -> Graph:
    """The graph of a name.

    Arguments:
        overrides: options of the registered function, in place of the configuration's.

    Raises:
        ValueError: for an unknown name or option (the message lists those that exist), or a value of the wrong type.
    """
    return entry(name).graph(**overrides)


def build(name: str, **overrides: Any) -> BuiltGraph:
    """A freshly initialised module of :func:`graph`; errors as there."""
    return graph(name, **overrides).build()


def load(name: str, weights: str | Path | None = None, **overrides: Any) -> BuiltGraph:
    """The module of a name with trained weights, in eval mode.

    Arguments:
        weights: a safetensors file of ours, whose own graph counts; a torch file of the authors; the key of a published
            file (``zoo show NAME``
            names it), which is downloaded once and checked; None for the published file of this name. With the authors'
            files, the options that reproduce their code are switched on, unless overridden.

    Raises:
        ValueError: as :func:`graph`; and, in one message, every missing, unexpected, misshapen or non-finite tensor.
        FileNotFoundError: if there is no such file, and no network to fetch it: it says which file to put where.
    """
    from zoo import published
    from zoo import weights as files

    if weights is not None and Path(weights).suffix == ".safetensors":
        return files.load_as(entry(name), weights, overrides)
    if weights is not None and Path(weights).is_file():
        return published.load(name, weights, overrides)
    return published.load(name, published.fetch(name, None if weights is None else str(weights)), overrides)


@functools.cache
def _import_papers() -> None:
    """Imports the graph.py of every folder of the zoo, which registers what it holds."""
    import zoo

    for folder in pkgutil.iter_modules(zoo.__path__, "zoo."):
        if folder.ispkg and importlib.util.find_spec(f"{folder.name}.graph"):
            importlib.import_module(f"{folder.name}.graph")


def fits(value: object, wanted: type) -> bool:
    """Whether a value is of a plain type; an int will do as a float, a bool is no int."""
    return type(value) is wanted or (wanted is float and type(value) is int)


def read_options(function: Callable[..., Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Words of a command line as the values that a function's annotations ask for; what is to be text stays text."""
    hints = typing.get_type_hints(function)
    return {key: text if hints.get(key) is str else read_value(text) for key, text in texts.items()}


def read_value(text: str) -> bool | int | float | str:
    """What a word looks like: true or false, a whole number, a number, or else text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def check_options(owner: str, function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that a function does not have (with those it has) or of the wrong type."""
    known = {k: p for k, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValueError(f"{owner}: expected options among {', '.join(known) or 'none'}, got {', '.join(unknown)}")
    hints = typing.get_type_hints(function)
    for key, value in given.items():
        wanted = hints.get(key, object)
        choices = typing.get_args(wanted)
        if typing.get_origin(wanted) is typing.Literal and value not in choices:
            raise ValueError(f"{owner}: {key} expects one of {', '.join(map(str, choices))}, got {value!r}")
        if isinstance(wanted, type) and not fits(value, wanted):
            raise ValueError(f"{owner}: {key} expects {wanted.__name__}, got {value!r}")
