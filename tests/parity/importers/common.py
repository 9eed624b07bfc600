"""What the importers share: the result, and small maps from published parameters to those of flowkit's layers.

Every map is differentiable, so that gradients with respect to the published parameters can be compared too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowkit.bijections import Bijection, InvertibleLinear, Permutation

State = dict[str, Tensor]


class Imported(NamedTuple):
    """A bijection or built graph from data to latents, and its whole state dict as a function of the published one."""

    module: Any
    state: State


def renamed(state: Mapping[str, Tensor], **prefixes: str) -> State:
    """The entries under each published prefix (an argument's name), under flowkit's prefix (its value)."""
    found: State = {}
    for theirs, ours in prefixes.items():
        found |= {ours + key[len(theirs) + 1 :]: v for key, v in state.items() if key.startswith(f"{theirs}.")}
    return found


def under(name: str, state: Mapping[str, Tensor]) -> State:
    """The entries with ``name.`` in front."""
    return {f"{name}.{key}": value for key, value in state.items()}


def below(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries that start with ``prefix.``, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(f"{prefix}.")}


def sequence(
    hidden: int | Sequence[int], kernels: tuple[int, ...], slope: float = 0.0
) -> Callable[[int, int], nn.Module]:
    """Layers with (leaky) ReLUs between them, numbered 0, 2, 4, ...: convolutions, or linear layers for kernel 0.

    Arguments:
        hidden: one width between all of them, or each.
    """

    def make(in_channels: int, out_channels: int) -> nn.Module:
        inner = [hidden] * (len(kernels) - 1) if isinstance(hidden, int) else hidden
        widths = [in_channels, *inner, out_channels]
        layers: list[nn.Module] = []
        for i, kernel in enumerate(kernels):
            a, b = widths[i : i + 2]
            layers += [nn.Conv2d(a, b, kernel, padding=kernel // 2) if kernel else nn.Linear(a, b)]
            layers += [nn.LeakyReLU(slope)] * (i + 1 < len(kernels))
        return nn.Sequential(*layers)

    return make


class PerElement(Bijection):
    """An elementwise map with a parameter ``raw`` (*shape of x, P) for each element; log-dets for each element too."""

    def __init__(self, transform: Any, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.transform = transform
        self.register_buffer("raw", torch.zeros(*shape, transform.outputs))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y and log-derivatives, of the shape of x."""
        return self._each(x, inverse=False)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and log-derivatives, of the shape of y."""
        return self._each(y, inverse=True)

    def _each(self, x: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        y, logs = self.transform(x.reshape(-1, 1), self.raw.flatten(0, -2), inverse=inverse)
        return y.reshape(x.shape), logs.reshape(x.shape)


def per_element(transform: Any, *raw: Tensor) -> Imported:
    """The map of raw functions, which are given their parameters, in parts (*shape of x, ...)."""
    return Imported(PerElement(transform, tuple(raw[0].shape[:-1])), {"raw": torch.cat(raw, -1)})


def actnorm(log_scale: Tensor, shift: Tensor) -> State:
    """ActNorm that multiplies by exp(log_scale), then adds."""
    return {"scale": log_scale.flatten(), "shift": shift.flatten(), "initialized": torch.tensor(True)}


def permutation(order: Tensor) -> tuple[Bijection, State]:
    """y[:, i] = x[:, order[i]]."""
    return Permutation(order), {"permutation": order}


def orthogonal(weight: Tensor, bias: Tensor | None = None) -> tuple[Bijection, State]:
    """y = W x + b for a W that is orthogonal but for rounding."""
    layer = InvertibleLinear(len(weight), parameterization="soft_permutation", bias=bias is not None)
    return layer, {"matrix.weight": weight} | ({} if bias is None else {"bias": bias.flatten()})


def dense(weight: Tensor) -> tuple[Bijection, State]:
    """y = W x for any invertible W."""
    return InvertibleLinear(len(weight)), {"matrix.weight": weight}


def lu(
    lower: Tensor,
    upper: Tensor,
    diagonal: Tensor,
    rows: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Bijection, State]:
    """y = (L U x)[rows] + b, with L = tril(lower, -1) + I and U = triu(upper, 1) + diag(diagonal)."""
    channels = len(diagonal)
    layer = InvertibleLinear(channels, parameterization="lu", bias=bias is not None)
    state = {
        "matrix.lower": lower,
        "matrix.upper": upper,
        "matrix.log_diagonal": diagonal.abs().log(),
        "matrix.sign": diagonal.detach().sign(),
        "matrix.rows": torch.arange(channels) if rows is None else rows,
    }
    return layer, state | ({} if bias is None else {"bias": bias})


def householder(vectors: Tensor) -> Tensor:
    """(I - 2 v1 v1'/v1'v1) (I - 2 v2 v2'/v2'v2) ..., for vectors (n, C)."""
    product = torch.eye(vectors.shape[1], dtype=vectors.dtype)
    for vector in vectors:
        product = product - 2 * torch.outer(product @ vector, vector) / vector.square().sum()
    return product
