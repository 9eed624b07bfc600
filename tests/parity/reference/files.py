"""What a recorded file is made of, and weights for a network of the references."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Numbers = Mapping[str, Tensor]


class File(NamedTuple):
    """A file to be: name without ending, configuration, weights, and the other entries by key."""

    name: str
    config: dict[str, Any]
    state: Numbers
    entries: Numbers

    def write(self, folder: Path) -> Path:
        arrays = {f"state/{key}": value for key, value in self.state.items()} | dict(self.entries)
        path = folder / f"{self.name}.npz"
        np.savez(
            path,
            config=np.array(json.dumps(self.config)),
            **{key: value.detach().numpy() for key, value in arrays.items()},  # type: ignore[arg-type]
        )
        return path


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fill(net: nn.Module, seed: int = 0, initialised: bool = True) -> dict[str, Tensor]:
    """Random weights for a network, which are returned too; scales have either sign."""
    random, state = torch.Generator().manual_seed(seed), net.state_dict()
    for key, value in state.items():
        name, n = key.rpartition(".")[2], torch.randn(value.shape, generator=random)
        if name.endswith("shuffle_idx"):
            continue
        if name == "initialized":
            n = torch.full(value.shape, int(initialised))
        elif name == "num_batches_tracked":
            n = torch.full(value.shape, 3)
        elif name == "running_var":
            n = 0.5 + n.abs()
        elif name == "scale":
            n = n.sign() * (0.2 * n).exp()
        elif name in ("running_mean", "loc", "bias"):
            n = 0.2 * n
        elif value.ndim == 1 and name == "weight":
            n = 1 + 0.2 * n
        elif value.ndim > 1:
            n = n / value[0].numel() ** 0.5
        value.copy_(n)
    return {key: value.clone() for key, value in state.items()}


def by_name(net: nn.Module, seed: int) -> None:
    """Weights by the rule of Net2Net's files without weights (sheet: section 8)."""
    for key, value in net.state_dict().items():
        name, shape = key.rpartition(".")[2], tuple(value.shape)
        n = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32).standard_normal(shape)
        if name in ("initialized", "num_batches_tracked"):
            found: Any = 1 if name == "initialized" else 7
        elif name == "running_var":
            found = 0.5 + np.abs(n)
        elif name in ("running_mean", "loc", "bias", "beta", "logvar"):
            found = 0.1 * n
        elif name in ("gamma", "scale") or value.ndim == 1:
            found = (0.5 if name == "gamma" else 1) + 0.1 * n
            found = n / np.linalg.norm(n) if name in ("weight_u", "weight_v") else found
        else:
            lpips = ".lin" in f".{key}" and "model" in key
            found = np.abs(n) / shape[1] if lpips else n / np.sqrt(np.prod(shape[1:]))
        value.copy_(torch.from_numpy(np.asarray(found, np.float32)))


def by_recipe(net: nn.Module, salt: str, gain: float, prefix: str = "") -> None:
    """Weights by the recipe of the invariances' files (sheet: section 8)."""
    for key, value in net.state_dict().items():
        name, random = key.rpartition(".")[2], np.random.RandomState(zlib.crc32((salt + prefix + key).encode()))
        r = random.standard_normal(tuple(value.shape))
        special: dict[str, Any] = {
            "running_mean": 0.1 * r, "running_var": 0.5 + np.abs(r), "loc": 0.1 * r, "scale": np.exp(0.1 * r),
            "gamma": 0 * r + 0.5, "weight_u": r / np.linalg.norm(r), "weight_v": r / np.linalg.norm(r),
            "bias": 0.05 * r, "initialized": 1, "num_batches_tracked": 0,
        }  # fmt: skip
        other = 1 + 0.1 * r if value.ndim < 2 else gain * r / np.sqrt(np.prod(value.shape[1:]))
        value.copy_(torch.from_numpy(np.asarray(special.get(name, other), np.float32)))


def gradients(net: nn.Module, prefix: str = "grad/") -> dict[str, Tensor]:
    return {prefix + key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}


def below(prefix: str, values: Numbers) -> dict[str, Tensor]:
    return {prefix + key: value.detach().clone() for key, value in values.items()}
