"""Files of recorded numbers: ``<system>_<component>[__<variant>].npz``, read for ``zoo parity``.

A file holds ``config`` (JSON), ``state/*`` (weights, the authors' names), ``in/*``, and what the authors' code
computed: all else, such as ``out/*``, ``loss/*``, ``grad/*``, ``after/*``. Other libraries' buffers are ``buf/*``.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GIVEN = ("config", "state/", "buf/", "in/")
NUMBERS = {"f": np.float32, "i": np.int64, "u": np.int64}
"""What weights and inputs are computed with, by the kind of number they are stored as; bytes and flags stay."""
REMARKS = {
    "alias", "captions", "class", "cls", "full_shapes", "layer", "mode", "modules", "n_keys", "n_parameters_cinn",
    "note", "nparams", "perceptual", "pretrained", "pretrained_key", "seed", "shapes", "source", "state_rule",
    "sub_rule", "target", "targets", "version",
}  # fmt: skip
"""Entries of configurations that tell about a file and are no options."""


class Options(dict[str, Any]):
    """A configuration, nested ones included, that remembers which of its entries were read."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__({key: Options(v) if isinstance(v, dict) else v for key, v in given.items()})
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The entry, or the default if there is none."""
        return self[key] if key in self else default

    def unread(self) -> list[str]:
        """Names of entries that nobody read, remarks apart; with dots for nested ones."""
        names = [key for key in self if key not in self._read | REMARKS]
        nested = {key: value for key, value in self.items() if key in self._read and isinstance(value, Options)}
        return names + [f"{key}.{name}" for key, value in nested.items() for name in value.unread()]


class Fixture:
    """One file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.system, _, rest = self.path.stem.partition("_")
        self.component, _, self.variant = rest.partition("__")
        self.arrays = _read(self.path)
        if "config" not in self.arrays:
            raise ValueError(f"expected an entry 'config', {str(path)!r} has {', '.join(self.arrays) or 'none'}")
        self.config = _config(self.arrays.pop("config"))

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        """The entry as a tensor (of its bytes, if it is text); KeyError if there is none.

        What is computed with is float32 or int64, however it was stored; what is expected stays as it is.
        """
        if key not in self.arrays:
            raise KeyError(f"the file has no entry {key!r}")
        array = np.array(self.arrays[key])
        if array.dtype.kind == "U":
            return text(str(array))
        wanted = NUMBERS.get(array.dtype.kind)
        if key.startswith(GIVEN) and wanted and array.dtype.itemsize > 1:
            array = array.astype(wanted)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The entries below a prefix such as ``in/``, without it."""
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The stored weights; empty where a rule generates them."""
        return self.under("state/")

    @property
    def expected(self) -> list[str]:
        """What the authors' code computed."""
        return [key for key in self.arrays if not key.startswith(GIVEN)]

    def expects(self, *prefixes: str) -> bool:
        """Whether they computed something below one of these prefixes."""
        return any(key.startswith(prefixes) for key in self.expected)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"expected an .npz file, {str(path)!r} is none")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"expected an .npz file of plain arrays, {str(path)!r} is none ({error})") from error


def _config(written: NDArray[Any]) -> Options:
    """The configuration from a string, or from bytes, of whatever shape."""
    try:
        whole = written.tobytes() if written.dtype == np.uint8 else written.reshape(()).item()
        config = json.loads(whole)
    except (TypeError, ValueError) as error:
        raise ValueError(f"config: expected JSON in a string, got {written.dtype} {written.shape} ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"config: expected a JSON object, got {type(config).__name__}")
    return Options(config)


def text(words: str) -> Tensor:
    """JSON as a tensor of bytes, the same whatever the order of its keys."""
    plain = json.dumps(json.loads(words), sort_keys=True)
    return torch.from_numpy(np.frombuffer(plain.encode(), np.uint8).copy())


def every_nth(images: Tensor, like: Tensor) -> Tensor:
    """Every n-th pixel of images (..., H, W), from the first on, where a file holds as many as ``like`` has."""
    rows, columns = (-(-whole // kept) for whole, kept in zip(images.shape[-2:], like.shape[-2:], strict=True))
    return images[..., ::rows, ::columns]
