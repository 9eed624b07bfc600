"""What a paper's system can be asked to do: functions registered as verbs of the command line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo import registry

if TYPE_CHECKING:
    from rich.console import Console

    from flowkit.graph.module import BuiltGraph

V = TypeVar("V", bound=Callable[..., None])


@dataclass(frozen=True)
class Context:
    """What every verb is given.

    Arguments:
        name: the registered network that the command names.
        out: folder for everything that is read and written: weights, pictures, metrics.
        console: where to print.
        seed: of everything that is drawn.
        fresh: whether to forget what an earlier run left in ``out``.
        weights: file (or published key) with the weights of ``name``, in place of those in ``out``.
        random: use freshly initialised weights, to try a verb out.
        options: options of the network ``name``, in place of its configuration's.
    """

    name: str
    out: Path
    console: Console
    seed: int = 0
    fresh: bool = False
    weights: str | None = None
    random: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Where the trained weights of a network are kept."""
        return self.out / f"{name.replace('/', '-')}.safetensors"

    def network(self, name: str | None = None) -> BuiltGraph:
        """A network in eval mode, ``name`` by default: of ``out``, of ``weights``, or with random weights.

        Raises:
            FileNotFoundError: if it has not been trained in ``out``.
        """
        import torch

        from zoo import weights

        own = name is None or name == self.name
        name = self.name if name is None else name
        options = self.options if own else {}
        if self.random:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                return registry.build(name, **options).eval()
        if own and self.weights is not None:
            return registry.load(name, self.weights, **options)
        if not self.file(name).is_file():
            raise FileNotFoundError(
                f"weights: no file {str(self.file(name))!r}; train it first (zoo train {self.name} --out {self.out}), "
                "give --weights FILE, or try the command with --random weights"
            )
        return weights.load(self.file(name))

    def begins_anew(self) -> None:
        """For trainings that draw their first weights: ValueError for ``--weights``, which would not count."""
        if self.weights is not None:
            raise ValueError(f"--weights: the training of {self.name} begins with weights of its own; leave it out")


def at_least_one(**numbers: int) -> None:
    """Raises ValueError for an option that counts something and is below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


_VERBS: dict[tuple[str, str], Callable[..., None]] = {}


def verb(function: V) -> V:
    """Decorator: makes ``function(context, *, option=default, ...)`` of a paper's ``verbs.py`` a verb of that paper.

    Every option has a default and an annotation; the first line of the docstring is its help. Import what is heavy
    inside the function. ValueError for an option without a default.
    """
    paper = function.__module__.rpartition(".")[0].rpartition(".")[2]
    bare = [p.name for p in [*inspect.signature(function).parameters.values()][1:] if p.default is p.empty]
    if bare:
        raise ValueError(f"{function.__qualname__}: expected a default for every option, {', '.join(bare)} has none")
    _VERBS[paper, function.__name__.replace("_", "-")] = function
    return function


def verbs(paper: str) -> dict[str, Callable[..., None]]:
    """The verbs of a paper by name."""
    if importlib.util.find_spec(f"zoo.{paper}") and importlib.util.find_spec(f"zoo.{paper}.verbs"):
        importlib.import_module(f"zoo.{paper}.verbs")
    return {name: function for (owner, name), function in _VERBS.items() if owner == paper}


def papers() -> list[str]:
    """The folders of the zoo that have verbs."""
    import zoo

    folders = [folder.name for folder in pkgutil.iter_modules(zoo.__path__) if folder.ispkg]
    return [name for name in folders if importlib.util.find_spec(f"zoo.{name}.verbs")]


def run(word: str, context: Context, given: Mapping[str, str]) -> None:
    """Runs a verb with options as a command line gives them; those that are not the verb's own are the network's.

    Raises:
        ValueError: for an unknown verb (with those there are), an unknown option or one of the wrong type.
    """
    paper = context.name.partition("/")[0]
    known = verbs(paper)
    if word not in known:
        raise ValueError(f"verb: {context.name} knows {', '.join(sorted(known)) or 'no verbs'}, got {word!r}")
    function, entry = known[word], registry.entry(context.name)
    own = [*inspect.signature(function).parameters][1:]
    rest = {key: text for key, text in given.items() if key not in own}
    strangers = [key for key in rest if key not in entry.defaults]
    if strangers:
        raise ValueError(
            f"{word} {context.name}: expected options of the verb ({', '.join(own) or 'none'}) or of the network "
            f"({', '.join(entry.defaults)}), got {', '.join(strangers)}"
        )
    mine = registry.read_options(function, {key: value for key, value in given.items() if key in own})
    options = registry.read_options(entry.make, rest)
    registry.check_options(f"{word} {context.name}", function, mine)
    registry.check_options(context.name, entry.make, options)
    function(Context(**{**vars(context), "options": options}), **mine)
