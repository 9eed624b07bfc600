"""Types of node options: reads them from a constructor's annotations, checks values against them, realises values."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Callable as AbstractCallable
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor, nn

from flowkit import nets
from flowkit.graph.plain import MAX_INTEGER, Options, freeze, suggest

Factory = Callable[[int, int], nn.Module]
"""The type of a ``net`` option: ``net(in_channels, out_channels)`` makes a conditioner network."""

COUNTS = {"depth": 1_000, "parts": 1_000, "times": 10_000}
"""Largest value of the options that count modules or values: an untrusted file must not stall its reader."""

LENGTHS = {"hidden": COUNTS["depth"], "sizes": COUNTS["parts"]}
"""Most entries of the options that list layers or values, for the same reason."""


@dataclass(frozen=True)
class Option:
    """One option of a kind: its name, annotated type and default (``required`` if there is none)."""

    name: str
    type: Any
    default: Any = None
    required: bool = False

    def check(self, value: Any, where: str) -> Any:
        """``value`` as plain data of the option's type.

        Raises:
            ValueError: naming ``where``, what was expected and what came.
        """
        value = _match(value, self.type, where)
        limit = COUNTS.get(self.name)
        if limit is not None and isinstance(value, int) and value > limit:
            raise ValueError(f"{where}: expected at most {limit}, got {value}.")
        longest = LENGTHS.get(self.name)
        if longest is not None and isinstance(value, tuple) and len(value) > longest:
            raise ValueError(f"{where}: expected at most {longest} entries, got {len(value)}.")
        return value


def realise(value: Any, annotation: Any) -> Any:
    """The constructor's argument for a plain option value: tensors are made here."""
    return torch.tensor(value, device="cpu") if isinstance(value, tuple) and _accepts_tensor(annotation) else value


def describe(annotation: Any) -> str:
    """A type as an error message names it."""
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return " | ".join(repr(v) for v in get_args(annotation))
    if _is_union(annotation):
        return " or ".join(describe(a) for a in get_args(annotation))
    if _is_net(annotation):
        return "a network such as g.nets.mlp(...) or {kind: mlp, ...}"
    if annotation is Tensor:
        return "a list of numbers"
    if _is_sequence(annotation):
        return f"a list of {describe(_item(annotation))}"
    return getattr(annotation, "__name__", str(annotation))


def _match(value: Any, annotation: Any, where: str) -> Any:
    if _is_union(annotation):
        return _match_union(value, get_args(annotation), where, describe(annotation))
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if any(value == c and type(value) is type(c) for c in choices):
            return value
        hint = suggest(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
        raise ValueError(f"{where}: expected {describe(annotation)}, got {value!r}.{hint}")
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is int and isinstance(value, int) and not isinstance(value, bool):
        return freeze(value, where)
    if annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return freeze(float(value) if abs(value) <= MAX_INTEGER else value, where)
    if annotation is str and isinstance(value, str):
        return value
    if annotation is type(None) and value is None:
        return value
    if annotation is Tensor and isinstance(value, (Tensor, list, tuple)):
        return freeze(value.tolist() if isinstance(value, Tensor) else value, where)
    if _is_net(annotation) and isinstance(value, (nets.Recipe, Mapping)):
        return net_from_mapping(net_to_mapping(value) if isinstance(value, nets.Recipe) else value, where)
    if _is_sequence(annotation) and isinstance(value, (list, tuple)):
        return _match_sequence(value, annotation, where)
    if annotation is Any:
        return freeze(value, where)
    raise ValueError(f"{where}: expected {describe(annotation)}, got {_show(value)}.{_hint(value, annotation)}")


def _match_union(value: Any, choices: Sequence[Any], where: str, expected: str) -> Any:
    exact = [a for a in choices if isinstance(a, type) and type(value) is a]
    failures = []
    for choice in [*exact, *choices]:
        try:
            return _match(value, choice, where)
        except ValueError as error:
            failures.append(str(error))
    detailed = [f for f in failures if not f.startswith(f"{where}: expected")]
    raise ValueError(detailed[0] if detailed else f"{where}: expected {expected}, got {_show(value)}.")


def _match_sequence(value: Sequence[Any], annotation: Any, where: str) -> tuple[Any, ...]:
    items = get_args(annotation)
    if get_origin(annotation) is tuple and items and items[-1] is not Ellipsis:
        if len(items) != len(value):
            raise ValueError(f"{where}: expected {len(items)} entries, got {len(value)}.")
        return tuple(_match(v, t, f"{where}[{i}]") for i, (v, t) in enumerate(zip(value, items, strict=True)))
    return tuple(_match(v, _item(annotation), f"{where}[{i}]") for i, v in enumerate(value))


def net_from_mapping(data: Mapping[str, Any], where: str) -> nets.Recipe:
    """A network recipe from ``{kind: ..., option: value, ...}``, its options checked against the signature."""
    options = dict(data)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"{where}: expected a network as {{kind: name, option: value, ...}}, got {_show(dict(data))}.")
    if kind not in nets.KINDS:
        raise ValueError(f"{where}: unknown network {kind!r}.{suggest(kind, list(nets.KINDS))}")
    known = signature_options(nets.KINDS[kind], f"{where}: network {kind!r}")
    sizes = ("in_channels", "out_channels")
    checked = check_options(options, {k: v for k, v in known.items() if k not in sizes}, f"{where}: network {kind!r}")
    return nets.make(kind, **checked)


def net_to_mapping(net: nets.Recipe) -> dict[str, Any]:
    """The inverse of :func:`net_from_mapping`."""
    return {"kind": net.kind, **net.options}


def signature_options(make: Callable[..., Any], where: str) -> dict[str, Option]:
    """The parameters of a constructor or function as options, in order.

    Raises:
        ValueError: for parameters that cannot be stated by name, or annotations that cannot be read.
    """
    if isinstance(make, type) and getattr(make, "__init__") is nn.Module.__init__:  # noqa: B009
        return {}
    try:
        hints = typing.get_type_hints(getattr(make, "__init__") if isinstance(make, type) else make)  # noqa: B009
    except NameError as error:
        raise ValueError(f"{where}: cannot read the annotations: {error}.") from error
    options = {}
    for name, parameter in inspect.signature(make).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"{where}: a parameter like {parameter} cannot be stated as data; name every parameter.")
        option = Option(name, hints.get(name, Any), required=parameter.default is parameter.empty)
        if not option.required:
            option = Option(name, option.type, _plain_default(option, parameter.default))
        options[name] = option
    return options


def _plain_default(option: Option, default: Any) -> Any:
    try:
        return option.check(default, "default")
    except ValueError:
        return default


def check_options(given: Mapping[str, Any], known: Mapping[str, Option], where: str) -> Options:
    """Checked options in the order of the signature, those equal to their defaults left out.

    Raises:
        ValueError: naming the option that is unknown, missing or of the wrong type.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: unknown option {name!r}.{suggest(name, list(known))}")
    checked = {}
    for name, option in known.items():
        if name not in given:
            if option.required:
                raise ValueError(f"{where}: option {name!r} is missing: expected {describe(option.type)}.")
            continue
        value = option.check(given[name], f"{where}: option {name!r}")
        if option.required or value != option.default or type(value) is not type(option.default):
            checked[name] = value
    return Options(checked)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_net(annotation: Any) -> bool:
    return (
        annotation is Callable
        or get_origin(annotation) is AbstractCallable
        or (
            isinstance(annotation, type)
            and getattr(annotation, "_is_protocol", False)
            and "__call__" in vars(annotation)
        )
    )


def _is_sequence(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and origin is not str and issubclass(origin, Sequence)


def _item(annotation: Any) -> Any:
    items = get_args(annotation)
    return items[0] if items else Any


def _accepts_tensor(annotation: Any) -> bool:
    return annotation is Tensor or (_is_union(annotation) and any(_accepts_tensor(a) for a in get_args(annotation)))


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _hint(value: Any, annotation: Any) -> str:
    if annotation is float and isinstance(value, str):
        try:
            return f" YAML reads this as text; write {float(value)!r} with a point, such as 1.0e-6."
        except ValueError:
            return ""
    return ""
