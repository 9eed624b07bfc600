"""Weight files: safetensors with the graph's YAML in the metadata, so that a file is enough to rebuild its model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from zoo.extras import require

if TYPE_CHECKING:
    from flowkit.graph.module import BuiltGraph
    from zoo.registry import Entry

GRAPH_KEY = "flowkit.graph"
M = TypeVar("M", bound=nn.Module)


def save(model: BuiltGraph, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
    """Writes the weights of a built graph; the file appears whole or not at all.

    Arguments:
        notes: further metadata, text by name.
    """
    require("safetensors")
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={**(notes or {}), GRAPH_KEY: model.graph.to_yaml()})
    partial.replace(path)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: with the path tried.
        ValueError: if it is not a safetensors file.
    """
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    require("safetensors")
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"weights: expected a safetensors file, {str(path)!r} is none ({error})") from error


def read_torch(path: str | Path) -> Any:
    """What is in a torch file of any age: nested dictionaries and lists of tensors, numbers and text, on the CPU.

    Raises:
        FileNotFoundError: with the path tried.
        ValueError: if it is broken or no torch file, or holds objects that are neither tensors nor plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {str(path)!r}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler stumbles over broken bytes wherever it happens to be
        raise ValueError(
            f"weights: expected a torch file of tensors and plain data, {str(path)!r} is none ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """What torch found in a file, a sentence, without its advice to load the file unsafely."""
    _, _, found = str(error).rpartition("WeightsUnpickler error:")
    first = re.split(r"[.]\s|\n", found.strip())[0]
    return f"{type(error).__name__}: {first}".removesuffix(": ")


def notes(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file alone; errors as :func:`read`."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def load(path: str | Path) -> BuiltGraph:
    """The model in a file: its graph from the metadata, its weights from the tensors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no graph, or tensors that do not fit it.
    """
    from flowkit.graph import Graph
    from zoo.blocks import kinds as _kinds  # noqa: F401  a stored graph may be made of them

    known = notes(path)
    if GRAPH_KEY not in known:
        raise ValueError(
            f"weights: expected the metadata key {GRAPH_KEY!r} with the graph, {str(path)!r} has "
            f"{', '.join(known) or 'no metadata'}; build the model and use load_into(model, path)"
        )
    return load_into(Graph.from_yaml(known[GRAPH_KEY].rstrip("\n") + "\n").build(), path)


def load_as(entry: Entry, path: str | Path, overrides: Mapping[str, Any]) -> BuiltGraph:
    """The model of a registered name in a file: the graph that the file holds, options of the name included.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if overrides ask for another graph than the file's; if the tensors do not fit.
    """
    if GRAPH_KEY not in notes(path):
        return load_into(entry.graph(**overrides).build(), path)
    model = load(path)
    if overrides and entry.graph(**overrides) != model.graph:
        asked = ", ".join(f"{key}={value}" for key, value in overrides.items())
        raise ValueError(
            f"weights: {str(path)!r} holds another network than {entry.name} with {asked}; leave the options out to "
            "take the file's own, or train with them"
        )
    return model


def load_into(model: M, path: str | Path) -> M:
    """Fills a model with the tensors of a file and returns it, in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one message with every missing, unexpected, misshapen or non-finite tensor; the model is then
            unchanged.
    """
    tensors, _ = read(path)
    faults = mismatches(model.state_dict(), tensors)
    if faults:
        raise ValueError(f"weights: {str(path)!r} does not fit the model\n  " + "\n  ".join(faults))
    model.load_state_dict(tensors)
    return model.eval()


def mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """One line per tensor that is missing, unexpected, misshapen or not finite."""
    faults = [f"missing: {key} {tuple(wanted[key].shape)}" for key in wanted.keys() - given.keys()]
    faults += [f"unexpected: {key} {tuple(given[key].shape)}" for key in given.keys() - wanted.keys()]
    for key in wanted.keys() & given.keys():
        if wanted[key].shape != given[key].shape:
            faults.append(f"misshapen: {key}: expected {tuple(wanted[key].shape)}, got {tuple(given[key].shape)}")
        elif not torch.isfinite(given[key]).all():
            faults.append(f"not finite: {key}")
    return sorted(faults)
