"""Weights that fixtures do not store but generate from the authors' key names, for networks of full size."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def invariances(shapes: Mapping[str, Sequence[int]], salt: str, gain: float) -> dict[str, Tensor]:
    """The rule of the invariances' fixtures (sheet: section 8).

    Arguments:
        shapes: by the authors' key, of a whole state dict.
        salt, gain: of the file's ``config``.
    """
    return {key: _value(key, tuple(shape), salt, gain) for key, shape in shapes.items()}


def _value(key: str, shape: tuple[int, ...], salt: str, gain: float) -> Tensor:
    parent, _, name = key.rpartition(".")
    if name in ("initialized", "num_batches_tracked"):
        return torch.tensor(int(name == "initialized"), dtype=torch.uint8 if name == "initialized" else torch.int64)
    random = np.random.RandomState(zlib.crc32((salt + key).encode()))
    if name == "forward_shuffle_idx":
        return torch.from_numpy(random.permutation(shape[0]))
    if name == "backward_shuffle_idx":
        return _value(f"{parent}.forward_shuffle_idx", shape, salt, gain).argsort()
    return torch.from_numpy(_scaled(random.standard_normal(shape), name, gain).astype(np.float32))


def _scaled(r: NDArray[np.float64], name: str, gain: float) -> NDArray[np.float64]:
    if name in ("running_mean", "loc"):
        return 0.1 * r
    if name == "running_var":
        return 0.5 + np.abs(r)
    if name == "scale":
        return np.exp(0.1 * r)
    if name == "gamma":
        return np.full_like(r, 0.5)
    if name in ("weight_u", "weight_v"):
        return r / np.linalg.norm(r)
    if name == "bias":
        return 0.05 * r
    return 1 + 0.1 * r if r.ndim == 1 else gain * r / np.sqrt(np.prod(r.shape[1:]))


def net2net(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """The rule of Net2Net's fixtures (sheet: section 8).

    Arguments:
        shapes: by the authors' key, of a whole state dict.
        seed: of the file's ``config``.
    """
    return {key: _net2net_value(key, tuple(shape), seed) for key, shape in shapes.items()}


ALIASES = {
    "stored_mean": "running_mean", "stored_var": "running_var", "running_means": "running_mean",
    "running_vars": "running_var", "u0": "weight_u", "gain": "w",
}  # fmt: skip
"""What tensors of other authors' generators are called in the rule of Net2Net's fixtures, appended to their key."""


def net2net_aliased(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """As :func:`net2net`, of a state dict in a layout of others; their singular values are 1."""
    longer = {key: f"{key}.{ALIASES[name]}" if (name := key.rpartition(".")[2]) in ALIASES else key for key in shapes}
    values = net2net({longer[key]: shape for key, shape in shapes.items()}, seed)
    return {key: torch.ones(1) if key.endswith(".sv0") else values[longer[key]] for key in shapes}


def _net2net_value(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    name = key.rpartition(".")[2]
    if name in ("initialized", "num_batches_tracked"):
        return torch.tensor(1, dtype=torch.uint8) if name == "initialized" else torch.tensor(7)
    n = np.asarray(np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32).standard_normal(shape))
    return torch.from_numpy(np.asarray(_net2net_scaled(n, key, name), np.float32))


def _net2net_scaled(n: NDArray[np.float64], key: str, name: str) -> NDArray[np.float64]:
    if name == "running_var":
        return 0.5 + np.abs(n)
    if name in ("running_mean", "loc", "bias", "beta", "logvar"):
        return 0.1 * n
    if name == "gamma":
        return 0.5 + 0.1 * n
    if name in ("weight_u", "weight_v"):
        return n / np.linalg.norm(n)
    if ".lin" in key and "model" in key:
        return np.abs(n) / n.shape[1]
    return 1 + 0.1 * n if n.ndim == 1 or name == "scale" else n / np.sqrt(np.prod(n.shape[1:]))
