"""Fully connected conditioners; on images they act on each pixel, like 1x1 convolutions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from flowkit import ops
from flowkit.nets.parts import activation_name, hidden_block, is_plain, last_layers


class PerPixel(nn.Module):
    """Runs ``main``, which maps (N, C), over the channels of (B, C, *spatial)."""

    main: Any

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) -> (B, out_channels, *spatial)."""
        if x.ndim == 2:
            return self.main(x)
        pixels = x.movedim(1, -1)
        return self.main(pixels.flatten(0, -2)).unflatten(0, pixels.shape[:-1]).movedim(-1, 1)


class MLP(PerPixel):
    """Linear, activation, then ``depth`` times (linear, activation), then linear.

    Arguments:
        hidden: width of every hidden layer, or the widths one by one (then ``depth`` has no say).
        depth: number of hidden-to-hidden layers, counted as in Net2Net (arXiv 2005.13580): depth + 2 linear layers.
        activation: one of ``flowkit.nets.ACTIVATIONS``.
        norm: None, "actnorm" or "weight" (weight normalisation), in every hidden layer.
        zero_last: whether the last layer starts at zero, so that a coupling starts as the identity.
        tanh_last: whether a tanh ends the network.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int | Sequence[int] = 256,
        depth: int = 2,
        activation: str = "leaky_relu",
        norm: str | None = None,
        zero_last: bool = False,
        tanh_last: bool = False,
    ) -> None:
        super().__init__()
        hidden_widths = [hidden] * (depth + 1) if isinstance(hidden, int) else list(hidden)
        widths = [in_channels, *hidden_widths]
        blocks: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            blocks += hidden_block(nn.Linear(a, b), b, activation, norm)
        self.main = nn.Sequential(*blocks, *last_layers(nn.Linear(widths[-1], out_channels), zero_last, tanh_last))

    def stacked_layers(self) -> ops.Layers | None:
        """What a call runs, read anew each time; None if that is more than linear maps with one activation between."""
        main = self._modules["main"]
        if not (is_plain(self, MLP) and main is not None and is_plain(main, nn.Sequential)):
            return None
        parts: list[Any] = list(main._modules.values())
        linear, between = parts[::2], parts[1::2]
        ends = len(parts) % 2 == 0
        if ends and not is_plain(between.pop(), nn.Tanh):
            return None
        names = [activation_name(part) for part in between]
        name = names[0] if names else None
        if name is None or names.count(name) < len(names) or not all(is_plain(m, nn.Linear) for m in linear):
            return None
        weights, biases = ([m._parameters[key] for m in linear] for key in ("weight", "bias"))
        return None if any(bias is None for bias in biases) else ops.Layers(weights, biases, name, (ends,))


class ResidualBlock(nn.Module):
    """``x + branch(x)``."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return x + self.branch(x)


class ResidualMLP(PerPixel):
    """Linear, then ``depth`` residual blocks of two hidden layers, then linear.

    Arguments: as :class:`MLP`, with one ``hidden`` width and ``depth`` blocks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int = 256,
        depth: int = 2,
        activation: str = "relu",
        norm: str | None = None,
        zero_last: bool = False,
        tanh_last: bool = False,
    ) -> None:
        super().__init__()

        def block() -> nn.Module:
            first = hidden_block(nn.Linear(hidden, hidden), hidden, activation, norm)
            return ResidualBlock(*first, nn.Linear(hidden, hidden))

        last = last_layers(nn.Linear(hidden, out_channels), zero_last, tanh_last)
        self.main = nn.Sequential(nn.Linear(in_channels, hidden), *[block() for _ in range(depth)], *last)
