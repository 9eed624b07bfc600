"""Counts the memory of tensors: the largest number of bytes alive at once while something runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Follows the storage of every tensor that an operator returns; ``peak`` is in bytes, of those alive together.

    Those of ``known``, which were there before, do not count.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        if self._total() > self.peak:  # only then is it worth finding out which have gone
            self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
            self.peak = max(self.peak, self._total())
        return result

    def _total(self) -> int:
        return sum(size for _, size in self._alive.values())


@contextmanager
def saved_bytes(found: list[int]) -> Iterator[None]:
    """Appends to ``found`` the bytes of the distinct storages that autograd saves inside."""
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
    found.append(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))
