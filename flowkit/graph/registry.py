"""Node kinds: any Bijection or nn.Module becomes one by a decorator that reads its constructor's signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from flowkit.bijections import Bijection
from flowkit.graph.options import Option, check_options, realise, signature_options
from flowkit.graph.plain import Options, Shape, check_name, suggest

FILLED = ("channels", "in_channels", "in_features", "condition", "shape", "shapes")
"""Constructor parameters that a graph fills in from the incoming values, so that nobody states them twice."""

RESERVED = ("kind", "reads", "body", "name")

M = TypeVar("M", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Kind:
    """A kind of node.

    Arguments:
        name: how graphs call it.
        make: the nn.Module class, or a function that returns a module.
        options: what the constructor takes and a graph must state.
        filled: constructor parameters taken from the incoming shapes (see :data:`FILLED`).
        reads: how many values ``forward`` takes, (least, most); most is None for ``*values``.
        invertible: whether the module has ``inverse`` and returns a log-det.
        condition_required: whether a bijection cannot do without a condition.
        summary: first line of the class's docstring.
    """

    name: str
    make: Callable[..., nn.Module]
    options: Mapping[str, Option]
    filled: frozenset[str]
    reads: tuple[int, int | None]
    invertible: bool
    condition_required: bool
    summary: str

    @property
    def takes_condition(self) -> bool:
        """Whether the kind is a bijection that can depend on a condition."""
        return self.invertible and "condition" in self.filled

    def check_options(self, given: Mapping[str, Any], where: str) -> Options:
        """The options as checked plain data without defaults; ValueError names the wrong one."""
        return check_options(given, self.options, where)

    def build(self, options: Options, shapes: tuple[Shape, ...], condition: Shape | None) -> nn.Module:
        """A module for values of these shapes."""
        fills: dict[str, Any] = {"shapes": shapes}
        if shapes:
            fills["shape"] = shapes[0]
        if shapes and shapes[0]:
            fills.update(dict.fromkeys(("channels", "in_channels", "in_features"), shapes[0][0]))
        if condition is not None:
            fills["condition"] = condition[0]
        stated = {k: realise(v, self.options[k].type) for k, v in options.items()}
        return self.make(**stated, **{k: v for k, v in fills.items() if k in self.filled})


KINDS: dict[str, Kind] = {}


def register(name: str) -> Callable[[M], M]:
    """Decorator: makes a :class:`~flowkit.bijections.Bijection` or nn.Module class a node kind called ``name``.

    The kind is then a builder function ``g.<name>(x, ..., option=value)``, can stand in YAML, is printed, drawn and
    built. Its options are the constructor's parameters: their annotations (bool, int, float, str, None, Literal,
    unions, lists, tuples, Tensor, a callable that makes a conditioner network) are checked. These parameters are no
    options but filled in from the incoming values: ``channels``, ``in_channels`` or ``in_features`` (of the first),
    ``shape`` (of the first, without batch), ``shapes`` (of all), ``condition`` (channels of the condition; a Bijection
    takes a condition exactly if its constructor has this parameter). Output shapes come from the module's
    ``output_shape(*shapes)`` if it has one, else from a run on the meta device, which allocates nothing; for the same
    reason the constructor must not look at the values of the random, constant or empty tensors that it makes.

    A function that returns a module of one value is registered the same way; it is invertible if its return annotation
    is a Bijection. A bijection of several values has ``structural = True`` and ``forward`` and ``inverse`` that return
    ``(*values, logdet)``, with None for a log-det of zero.

    Raises:
        ValueError: if the name is no identifier or taken by another class, or the constructor cannot be stated as data.
    """
    check_name(name, "register")

    def decorate(make: M) -> M:
        known = KINDS.get(name)
        if known is not None and _identity(known.make) != _identity(make):
            raise ValueError(f"register: the kind {name!r} is already {_identity(known.make)}; choose another name.")
        KINDS[name] = read_kind(name, make)
        if known is not None:
            _forget()
        return make

    return decorate


def find_kind(name: Any, where: str) -> Kind:
    """The kind called ``name``; ValueError with the closest known name otherwise."""
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"{where}: unknown kind {name!r}.{suggest(name, list(KINDS))}")
    return KINDS[name]


def read_kind(name: str, make: Callable[..., nn.Module]) -> Kind:
    """A :class:`Kind` from the signatures of a constructor (or function) and of the module's ``forward``."""
    module = make if isinstance(make, type) else typing.get_type_hints(make).get("return")
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise ValueError(
            f"register({name!r}): expected a module class or a function annotated to return one, got {make!r}."
        )
    invertible = issubclass(module, Bijection) or getattr(module, "structural", False)
    one_value = module is not make or issubclass(module, Bijection)
    parameters = signature_options(make, f"register({name!r})")
    filled = frozenset(k for k in parameters if k in FILLED)
    taken = [k for k in parameters if k in RESERVED]
    if taken:
        raise ValueError(f"register({name!r}): graphs use the word {taken[0]!r} themselves; rename that parameter.")
    return Kind(
        name=name,
        make=make,
        options={k: v for k, v in parameters.items() if k not in filled},
        filled=filled,
        reads=(1, 1) if one_value else _count_reads(module),
        invertible=invertible,
        condition_required=invertible and "condition" in parameters and parameters["condition"].required,
        summary=(inspect.getdoc(make) or "").partition("\n")[0],
    )


def _count_reads(make: type[nn.Module]) -> tuple[int, int | None]:
    parameters = list(inspect.signature(make.forward).parameters.values())[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(p.default is p.empty for p in positional)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return max(least, 1), None
    return least, len(positional)


def _identity(make: Callable[..., Any]) -> str:
    return f"{make.__module__}.{getattr(make, '__qualname__', repr(make))}"


def _forget() -> None:
    from flowkit.graph.facts import module_facts

    module_facts.cache_clear()
