"""Parts that the conditioner networks share: activations, normalisations, weight-normalised layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.bijections.actnorm import ActNorm

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
NORMS = (None, "actnorm", "weight")
_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ChannelNorm(nn.Module):
    """:class:`flowkit.bijections.ActNorm` as an ordinary normalisation, without its log-det."""

    def __init__(self, channels: int, log_scale: bool = True) -> None:
        super().__init__()
        self.norm = ActNorm(channels, log_scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to the same shape."""
        return self.norm(x)[0]


class WeightNorm(nn.Module):
    """A linear or convolution layer with weight ``gain * v / |v|`` per output (Salimans & Kingma, arXiv 1602.07868).

    Unlike torch's parametrization it can be pickled. Starts as the layer it is given; v is that layer's weight.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer: Any = layer
        self.gain = nn.Parameter(self._norm().detach())

    def _norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.layer.weight.flatten(1), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's own shapes."""
        weight = self.layer.weight
        scaled = weight * (self.gain / self._norm()).reshape(-1, *[1] * (weight.ndim - 1))
        return torch.func.functional_call(self.layer, {"weight": scaled}, (x,))


def activation(name: str) -> nn.Module:
    """The activation called ``name``; ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of ``module`` is what ``kind`` does and nothing else: no subclass, hook or other forward."""
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
    return type(module) is kind and not hooked


_DEFAULTS: dict[str, dict[str, Any]] = {
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": "none"},
    "softplus": {"beta": 1.0, "threshold": 20.0},
}
_NAMES = {kind: name for name, kind in ACTIVATIONS.items()}


def activation_name(module: nn.Module) -> str | None:
    """The name by which :func:`activation` makes such a module, None for any other one."""
    name = _NAMES.get(type(module))
    if name is None or not is_plain(module, type(module)):
        return None
    return name if all(module.__dict__[k] == value for k, value in _DEFAULTS.get(name, {}).items()) else None


def convolution(dims: int, in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
    """A convolution that keeps the spatial size, over 1 to 3 spatial dimensions, with an odd kernel."""
    if dims not in _CONVOLUTIONS:
        raise ValueError(f"dims: expected 1, 2 or 3 spatial dimensions, got {dims}")
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd number, which keeps the spatial size, got {kernel_size}")
    return _CONVOLUTIONS[dims](in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def hidden_block(layer: nn.Module, width: int, act: str, norm: str | None) -> list[nn.Module]:
    """``layer`` with its normalisation and activation."""
    if norm not in NORMS:
        raise ValueError(f"norm: expected None, 'actnorm' or 'weight', got {norm!r}")
    layer = WeightNorm(layer) if norm == "weight" else layer
    return [layer, *[ChannelNorm(width)] * (norm == "actnorm"), activation(act)]


def last_layers(layer: nn.Module, zero: bool, tanh: bool) -> list[nn.Module]:
    """The output layer, its weights and bias zero on request, and the tanh that may follow."""
    if zero:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return [layer, *[nn.Tanh()] * tanh]
