"""Fixed permutations of channels."""

import torch
from torch import Tensor

from flowkit import ops
from flowkit.bijections.base import Bijection, batch_logdet


class Permutation(Bijection):
    """``y = x[:, permutation]``.

    Arguments:
        permutation: (C,) integers, each of 0..C-1 once; a buffer.
        persistent: whether the permutation is in the state dict.

    Raises:
        ValueError: not a permutation, here or in a loaded state dict.
    """

    in_place = one_operator = True
    permutation: Tensor

    def __init__(self, permutation: Tensor, *, persistent: bool = True) -> None:
        super().__init__()
        check_permutation(type(self).__name__, permutation)
        self.channels = permutation.numel()
        self.register_buffer("permutation", permutation.long(), persistent=persistent)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and a log-det of zeros (B,)."""
        return self._permute(x, False, out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and a log-det of zeros (B,)."""
        return self._permute(y, True, out)

    def _permute(self, x: Tensor, inverse: bool, out: ops.Workspace | None) -> tuple[Tensor, Tensor]:
        moved = ops.permute_channels(x, self.permutation, inverse=inverse, out=out)
        return moved, batch_logdet(x, 0.0) if out is None else out.logdet

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "permutation":
            check_permutation(type(self).__name__, value)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class Shuffle(Permutation):
    """A random permutation of ``channels`` channels, drawn at construction and kept in the state dict.

    Arguments:
        channels: C.
        seed: draws from a generator of its own; None draws from torch's global one.
    """

    def __init__(self, channels: int, seed: int | None = None) -> None:
        self._check_count("channels", channels, 1)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        super().__init__(torch.randperm(channels, generator=generator))


class Swap(Permutation):
    """The first ``split`` channels (default C // 2) go to the end.

    Raises:
        ValueError: no channels, or a split that is not in 0..C.
    """

    def __init__(self, channels: int, split: int | None = None) -> None:
        self._check_count("channels", channels, 1)
        if split is not None:
            self._check_count("split", split, 0, channels)
        super().__init__(swap(channels, split), persistent=False)


class Flip(Permutation):
    """Channels in reverse order."""

    def __init__(self, channels: int) -> None:
        self._check_count("channels", channels, 1)
        super().__init__(torch.arange(channels - 1, -1, -1), persistent=False)


def swap(channels: int, split: int | None = None) -> Tensor:
    """The permutation that moves the first ``split`` channels (default C // 2) to the end."""
    return torch.arange(channels).roll(-(channels // 2 if split is None else split))


def check_permutation(owner: str, permutation: Tensor, name: str = "permutation") -> None:
    """Raises ValueError unless ``permutation`` holds each of 0..C-1 once."""
    if permutation.is_meta:
        return
    whole = permutation.ndim == 1 and permutation.numel() > 0 and not permutation.is_floating_point()
    if not whole or permutation.sort().values.tolist() != list(range(len(permutation))):
        shown = permutation.tolist() if permutation.numel() <= 16 else f"a tensor of shape {tuple(permutation.shape)}"
        raise ValueError(f"{owner}: {name}: expected each of 0..C-1 once, in one dimension, got {shown}")
