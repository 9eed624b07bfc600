"""The two parts of a coupling: which channels or places are passive, and where they lie before and after it."""

from typing import Any

import torch
from torch import Tensor

from flowkit.bijections.base import Bijection, kind_of, wrong
from flowkit.bijections.permutation import check_permutation, swap


class Parts(Bijection):
    """What couplings know about their two parts, and about the permutation that follows.

    Operators that run a coupling take the channels from ``_begin`` on as those to transform. Behind a mask of channels
    they see x in the order ``_order``, the passive channels first. ``_fused`` is the permutation that they apply.
    """

    permutation: Tensor | None
    mask: Tensor | None
    _order: Tensor | None
    _before: Tensor | None
    _after: Tensor | None
    _runs: tuple[int | None, int | None]
    _back: Tensor | None
    _spatial_masks = False  # whether the coupling can leave places of a channel alone

    def _divide(
        self, channels: int, condition: int, split: int | None, transform_first: bool, mask: str | Tensor | None
    ) -> int:
        """Sets which channels are passive, and returns how many are transformed."""
        alone = "" if condition else "one channel can only be driven by a condition"
        self._check_count("channels", channels, 1 if condition or mask is not None else 2, advice=alone)
        self.channels, self.condition_channels, self.transform_first = channels, condition, transform_first
        self._checkerboard = self._spatial_masks and isinstance(mask, str) and mask == "checkerboard"
        given = None if mask is None or self._checkerboard else check_mask(self, mask, channels, self._spatial_masks)
        self.register_buffer("mask", given)
        self._masks_space = self._checkerboard or (given is not None and given.ndim > 1)
        if mask is None:
            self.split = channels // 2 if split is None else split
            self._check_count("split", self.split, int(condition == 0), channels - 1)
            moved = channels - self.split
            self._begin, start = (0, moved) if self.transform_first else (self.split, 0)
            self._passive = (start, self.split)
            return moved
        if split is not None:
            raise self._wrong("split", "none beside a mask", split)
        if self._masks_space:  # all channels are seen where they are passive, and transformed elsewhere
            self.split, self._begin, self._passive = channels, 0, (0, channels)
            return channels
        self.split = int(self._passive_channels().sum())
        self._begin, self._passive = self.split, (0, self.split)
        return channels - self.split

    def _passive_channels(self) -> Tensor:
        """The mask (C,) of the passive channels."""
        assert self.mask is not None
        return self.mask ^ self.transform_first

    def _permute_by(self, permutation: str | Tensor | None) -> None:
        """Sets what follows the coupling."""
        drawn = isinstance(permutation, Tensor) or permutation == "shuffle"
        self.register_buffer("permutation", self._as_permutation(permutation), persistent=drawn)
        self._locate_passive()

    def _as_permutation(self, permutation: str | Tensor | None) -> Tensor | None:
        if permutation is None:
            return None
        if isinstance(permutation, Tensor):
            self.check_loaded("permutation", permutation)
            return permutation.long()
        if permutation == "swap" and (self.mask is not None or self._checkerboard):
            raise self._wrong("permutation", "None, 'flip', 'shuffle' or a tensor beside a mask", "'swap'")
        if permutation == "swap":
            return swap(self.channels or 0, self._passive[0] or self.split)
        if permutation == "flip":
            return torch.arange(self.channels or 0).flip(0)
        if permutation == "shuffle":
            return torch.randperm(self.channels or 0)
        raise self._wrong("permutation", "None, 'swap', 'flip', 'shuffle' or a tensor", repr(permutation))

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "permutation":
            check_permutation(type(self).__name__, value)
            self._check_channels(len(value), name)
        if name == "mask" and self.mask is not None:
            loaded = check_mask(self, value, self.channels or 0, self._masks_space)
            if loaded.shape != self.mask.shape or (loaded.ndim == 1 and loaded.sum() != self.mask.sum()):
                expected = f"shape {tuple(self.mask.shape)} with {int(self.mask.sum())} entries of 1"
                raise self._wrong(name, expected, f"shape {tuple(loaded.shape)} with {int(loaded.sum())}")

    def _locate_passive(self) -> None:
        """Keeps where the passive channels lie before and after the permutation, and for a mask of channels the order
        that puts them first, and what brings them back into place and permutes."""
        order = before = after = back = None
        if self.mask is not None and not self._masks_space:
            order = passive_first(self._passive_channels())
            before = after = order.narrow(0, *self._passive)
            back = order.argsort()
            back = back if self.permutation is None else back[self.permutation]
        if self.permutation is not None:
            lies = self.permutation.argsort()
            after = lies.narrow(0, *self._passive) if before is None else lies[before]
        for name, index in {"_order": order, "_before": before, "_after": after, "_back": back}.items():
            self.register_buffer(name, index, persistent=False)
        self._runs = (_start_of_run(before), _start_of_run(after))

    @property
    def _fused(self) -> Tensor | None:
        buffers = self._buffers  # several times sooner than by attribute
        return buffers["permutation"] if buffers["_order"] is None else buffers["_back"]

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._locate_passive()

    def _passive_part(self, x: Tensor, inverse: bool) -> Tensor:
        """The passive channels of x (before the coupling) or, with ``inverse``, of y (after its permutation)."""
        part = self._take_passive(x, 1, inverse)
        return part * self._passive_places(x) if self._masks_space else part

    def _take_passive(self, t: Tensor, dim: int, inverse: bool) -> Tensor:
        """The entries of ``t`` along ``dim`` that belong to passive channels; a view where they lie side by side."""
        index, start = (self._after if inverse else self._before), self._runs[inverse]
        if index is None:
            return t.narrow(dim, *self._passive)
        return t.index_select(dim, index) if start is None else t.narrow(dim, start, len(index))

    def _passive_places(self, x: Tensor) -> Tensor:
        """The mask (1 or C, *spatial) of what is passive in x."""
        mask = self.mask
        if mask is not None:
            if mask.shape[1:] != x.shape[2:]:
                raise self._wrong("x", f"spatial sizes {tuple(mask.shape[1:])}, as the mask has", tuple(x.shape))
            return mask ^ self.transform_first
        if x.ndim == 2:
            raise self._wrong("x", "spatial dimensions for a checkerboard mask", tuple(x.shape))
        return checkerboard(x) ^ self.transform_first

    def _shown_parts(self) -> list[str]:
        if self.mask is not None:
            return [f"mask={tuple(self.mask.shape)}"]
        if self._checkerboard:
            return ["mask='checkerboard'"]
        return [f"split={self.split}"] * (self.split != (self.channels or 0) // 2)


def check_mask(owner: object, mask: object, channels: int, spatial: bool) -> Tensor:
    """``mask`` as booleans (C,) or, where ``spatial`` masks are taken, (1 or C, *spatial).

    Raises:
        ValueError: another type or shape, other values than 0 and 1, or a mask that leaves nothing to one side.
    """
    shapes = f"({channels},)" + f", (1, *spatial) or ({channels}, *spatial)" * spatial
    words = " or 'checkerboard'" * spatial
    if not isinstance(mask, Tensor):
        shown = repr(mask) if isinstance(mask, str) else kind_of(mask)
        raise wrong(owner, "mask", f"a tensor{words}", shown)
    fits = mask.shape == (channels,) or (spatial and 2 <= mask.ndim <= 4 and mask.shape[0] in (1, channels))
    if not fits:
        raise wrong(owner, "mask", f"shape {shapes}", tuple(mask.shape))
    if mask.is_meta:
        return mask.bool()
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise wrong(owner, "mask", "booleans, or numbers 0 and 1", f"others in {kind_of(mask)}")
    if bool((mask == mask.flatten()[0]).all()):
        raise wrong(owner, "mask", "both passive and transformed entries", f"only {mask.flatten()[0].item()}")
    return mask.bool()


def _start_of_run(index: Tensor | None) -> int | None:
    """Where the run begins, if ``index`` counts up by ones."""
    if index is None or index.is_meta or len(index) == 0:
        return None
    numbers = index.tolist()
    return numbers[0] if numbers == list(range(numbers[0], numbers[0] + len(numbers))) else None


def passive_first(passive: Tensor) -> Tensor:
    """The channels (C,) in the order that puts those of the mask ``passive`` (C,) before the others."""
    return passive.int().argsort(descending=True, stable=True)


def checkerboard(x: Tensor) -> Tensor:
    """Booleans (1, *spatial) for x (B, C, *spatial): where the sum of the spatial indices is even."""
    rank = x.ndim - 2
    index = [torch.arange(n, device=x.device).reshape(-1, *[1] * (rank - i - 1)) for i, n in enumerate(x.shape[2:])]
    return (sum(index[1:], index[0]) % 2 == 0)[None]
