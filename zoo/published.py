"""The authors' weight files: which of our networks they hold, how to read them safely, and how to write them back."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import weights
from zoo.layouts import Layout

if TYPE_CHECKING:
    from flowkit.graph import BuiltGraph


@dataclass(frozen=True)
class Published:
    """Where the authors' weights of one of our networks are.

    A paper's ``published.py`` has ``FILES``, downloads by key; ``PUBLISHED``, one of these by the network's registered
    name; and ``rules(name, options)``, the :class:`~zoo.layouts.Rule` list of a network with these options.

    Arguments:
        file: key of ``FILES``; None if no file was released.
        member: if that is an archive, the pattern of the file in it.
        prefix: of the network's keys in the file; a file without any such key is taken to hold this network alone.
        beside: prefixes of keys that belong to other networks or to losses.
        optional: regular expressions of keys that may be there or not and hold nothing that is used.
        spare: regular expressions of keys of ours that the file need not have, see :class:`~zoo.layouts.Layout`.
        options: options of the network that the published weights need, such as quirks of the authors' code.
        results: published numbers of this network, a line each.
    """

    file: str | None = None
    member: str | None = None
    prefix: str = ""
    beside: Sequence[str] = ()
    optional: Sequence[str] = ()
    spare: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[str] = ()


def module_of(name: str) -> ModuleType:
    """The ``published.py`` of a network's paper; ValueError if the paper has none."""
    found = f"zoo.{name.partition('/')[0]}.published"
    if not importlib.util.find_spec(found):
        raise ValueError(f"weights: {name!r} has no published weights; give a safetensors file of ours")
    return importlib.import_module(found)


def published(name: str) -> Published:
    """What is known of the published weights of a network; ValueError if nothing is."""
    module = module_of(name)
    if name not in module.PUBLISHED:
        known = ", ".join(module.PUBLISHED)
        raise ValueError(f"weights: {name!r} has no published weights; those known are of {known}")
    found: Published = module.PUBLISHED[name]
    return found


def describe(name: str) -> list[str]:
    """Lines for a reader: the published file of a network, the options it needs, the published numbers."""
    try:
        module, known = module_of(name), published(name)
    except ValueError:
        return []
    source = module.FILES.get(known.file)
    lines = [f"published: {known.file}: {source.url} (md5 {source.md5 or 'not published'})"] if source else []
    if known.options:
        lines.append("its weights need: " + ", ".join(f"{key}={value}" for key, value in known.options.items()))
    return [*lines, *(f"published result: {line}" for line in known.results)]


def layout(name: str, model: BuiltGraph | nn.Module, options: Mapping[str, Any]) -> Layout:
    """The authors' key names for a network of ours, built with these options."""
    module = module_of(name)
    known = published(name)
    return Layout(model, module.rules(name, dict(options)), known.optional, known.spare)


def read_checkpoint(path: str | Path) -> Any:
    """What is in a torch file of any age: nested dictionaries and lists of tensors, numbers and text, on the CPU.

    Raises:
        FileNotFoundError: with the path tried.
        ValueError: if it is no torch file, or holds objects that are neither tensors nor plain data.
    """
    with torch.serialization.safe_globals([*_plain_numpy(), *_callbacks()]):
        try:
            return weights.read_torch(path)
        except ValueError as error:
            raise ValueError(f"{error}; if it was downloaded, remove it and download it again") from error


def tensors(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint: those under ``state_dict`` or ``model`` if there is such an entry, else its own.

    Raises:
        ValueError: if there are none.
    """
    for key in ("state_dict", "model"):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
    found = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)} if isinstance(checkpoint, Mapping) else {}
    if not found:
        raise ValueError("weights: expected a dictionary of tensors, perhaps under 'state_dict' or 'model'")
    return found


def select(state: Mapping[str, Tensor], known: Published) -> dict[str, Tensor]:
    """The tensors of one network in a file, without their prefix; what lies beside it is left out, the rest kept.

    An autoencoder that is an expert of a flow carries its own losses along, below its prefix.
    """
    beside = tuple(known.beside)
    kept = {key: value for key, value in state.items() if not key.startswith(beside)}
    if known.prefix and any(key.startswith(known.prefix) for key in kept):
        kept = {key.removeprefix(known.prefix): value for key, value in kept.items()}
    return {key: value for key, value in kept.items() if not key.startswith(beside)}


def fetch(name: str, key: str | None = None) -> Path:
    """The published file of a network (or of the paper, by its key), downloaded once and checked.

    Raises:
        ValueError: for an unknown key, or a network of which no file was released.
        FileNotFoundError: without a network connection; it says which file to put where.
    """
    from zoo.downloads import fetch as fetch_file

    module = module_of(name)
    key = published(name).file if key is None else key
    if key not in module.FILES:
        known = ", ".join(module.FILES) or "none"
        what = "its authors released no file" if key is None else f"there is no file and no published key {key!r}"
        raise ValueError(f"weights: {name}: {what}; give the path of a file, or one of the published: {known}")
    file = fetch_file(module.FILES[key])
    member = published(name).member if key == published(name).file else None
    return file if member is None else extract(file, member)


def extract(archive: Path, pattern: str) -> Path:
    """The one regular file of a tar archive whose name fits a pattern, unpacked beside it once.

    Raises:
        ValueError: if it is no tar archive, or none or several files fit; then it lists those.
    """
    folder = archive.with_name(archive.name + ".unpacked")
    try:
        with tarfile.open(archive) as tar:
            found = [m for m in tar if m.isfile() and fnmatchcase(m.name.removeprefix("./"), pattern)]
            if len(found) != 1:
                names = ", ".join(m.name for m in found) or "none"
                raise ValueError(f"weights: expected one file like {pattern!r} in {str(archive)!r}, there are {names}")
            target = folder / hashlib.sha256(found[0].name.encode()).hexdigest()[:12] / Path(found[0].name).name
            content = tar.extractfile(found[0])
            assert content is not None
            if not target.is_file() or target.stat().st_size != found[0].size:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_suffix(".partial")
                with content, partial.open("wb") as out:
                    shutil.copyfileobj(content, out)
                partial.replace(target)
    except tarfile.TarError as error:
        raise ValueError(f"weights: expected a tar archive, {str(archive)!r} is none ({error})") from error
    return target


def load(name: str, path: str | Path, overrides: Mapping[str, Any]) -> BuiltGraph:
    """A network with the weights of an authors' file, its quirks switched on, in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is not one of tensors; one message with all missing, unexpected, misshapen tensors.
    """
    from zoo import registry

    known = published(name)
    entry = registry.entry(name)
    given = {**known.options, **overrides}
    model = entry.graph(**given).build()
    layout(name, model, {**entry.defaults, **given}).load(model, select(tensors(read_checkpoint(path)), known))
    return model.eval()


def export(name: str, model: BuiltGraph, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The authors' state dict of a network of ours, with the prefix it has in their file."""
    known = published(name)
    return {known.prefix + key: value for key, value in layout(name, model, options).write(model.state_dict()).items()}


class _Callback:
    """Stands for a callback of Lightning, whose class old checkpoints hold as a key."""


class _Stopping:
    """Stands for another."""


def _callbacks() -> list[Any]:
    """The classes under "callbacks" in checkpoints of Lightning before 1.5, as placeholders that do nothing."""
    package = "pytorch_lightning.callbacks"
    classes = (("model_checkpoint.ModelCheckpoint", _Callback), ("early_stopping.EarlyStopping", _Stopping))
    return [(stand_in, f"{package}.{name}") for name, stand_in in classes]


def _plain_numpy() -> list[Any]:
    """What old checkpoints hold beside tensors: numpy numbers, under the module names of numpy 1 and 2."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    numbers = [type(np.dtype(code)) for code in ("float64", "float32", "int64", "int32", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *numbers]
