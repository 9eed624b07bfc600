"""Built-in kinds: every bijection of the library, and the usual layers that are not invertible."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from flowkit import bijections, nets
from flowkit.graph.options import Factory
from flowkit.graph.plain import Shape, show_shape
from flowkit.graph.registry import register
from flowkit.nets.parts import ChannelNorm

for _name, _bijection in {
    "actnorm": bijections.ActNorm,
    "affine_coupling": bijections.AffineCoupling,
    "additive_coupling": bijections.AdditiveCoupling,
    "mixture_logistic_coupling": bijections.MixtureLogisticCoupling,
    "rational_quadratic_coupling": bijections.RationalQuadraticCoupling,
    "rational_quadratic_spline": bijections.RationalQuadraticSpline,
    "masked_autoregressive": bijections.MaskedAutoregressive,
    "affine_step": bijections.AffineStep,
    "additive_step": bijections.AdditiveStep,
    "all_in_one_block": bijections.AllInOneBlock,
    "invertible_linear": bijections.InvertibleLinear,
    "invertible_conv1x1": bijections.InvertibleConv1x1,
    "normalized_linear": bijections.NormalizedLinear,
    "fixed_linear": bijections.FixedLinear,
    "autoregressive_conv": bijections.AutoregressiveConv,
    "emerging_conv": bijections.EmergingConv,
    "periodic_conv": bijections.PeriodicConv,
    "woodbury_transform": bijections.WoodburyTransform,
    "permutation": bijections.Permutation,
    "shuffle": bijections.Shuffle,
    "swap": bijections.Swap,
    "flip": bijections.Flip,
    "leaky_relu": bijections.LeakyReLU,
    "squeeze": bijections.Squeeze,
    "unsqueeze": bijections.Unsqueeze,
    "checkerboard_squeeze": bijections.CheckerboardSqueeze,
    "checkerboard_unsqueeze": bijections.CheckerboardUnsqueeze,
    "haar": bijections.Haar,
}.items():
    register(_name)(_bijection)

Size = int | Sequence[int]
Padding = Size | Literal["same", "valid"]
Pointwise = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus", "softmax"]

_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOL = {
    "average": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
}
_POINTWISE: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}  # fmt: skip


def _rank(shape: Shape, expected: Sequence[int] = (1, 2, 3)) -> int:
    """The number of spatial dimensions; ValueError unless it is one of those expected."""
    if len(shape) - 1 not in expected:
        wanted = " or ".join(map(str, expected))
        raise ValueError(f"expected {wanted} spatial dimensions, got {len(shape) - 1} in {show_shape(shape)}.")
    return len(shape) - 1


def _channels(shape: Shape) -> int:
    _rank(shape, (0, 1, 2, 3))
    return int(shape[0] or 0)


def _size(value: Size, rank: int) -> tuple[int, ...]:
    sizes = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(sizes) != rank:
        raise ValueError(f"expected one size or {rank}, got {list(sizes)}.")
    return sizes


@register("linear")
def linear(shape: Shape, out: int, bias: bool = True) -> nn.Module:
    """A linear map of a vector (C,) to ``out`` channels."""
    _rank(shape, (0,))
    return nn.Linear(_channels(shape), out, bias)


@register("mlp")
def mlp(
    channels: int,
    out: int,
    hidden: int | Sequence[int] = 256,
    depth: int = 2,
    activation: str = "leaky_relu",
    norm: str | None = None,
    zero_last: bool = False,
    tanh_last: bool = False,
) -> nn.Module:
    """A fully connected network to ``out`` channels; options as in :class:`flowkit.nets.MLP`."""
    return nets.MLP(channels, out, hidden, depth, activation, norm, zero_last, tanh_last)


@register("network")
def network(channels: int, net: Factory, out: int) -> nn.Module:
    """A conditioner network on its own, ``net`` as in a coupling, from the incoming channels to ``out``."""
    return net(channels, out)


@register("conv")
def conv(
    shape: Shape,
    out: int,
    kernel: Size = 3,
    stride: Size = 1,
    padding: Padding = "same",
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
) -> nn.Module:
    """A convolution over 1 to 3 spatial dimensions, as many as the value has.

    Arguments:
        out: channels of the result.
        kernel, stride, dilation: one size, or one for each dimension.
        padding: likewise, or "valid" for none, or "same" for (kernel - 1) * dilation / 2 a side.
        groups, bias, padding_mode: as in torch.nn.Conv2d.
    """
    rank = _rank(shape)
    sides, spread = _size(kernel, rank), _size(dilation, rank)
    if padding == "same":
        if not all(side % 2 for side in sides):
            raise ValueError(f"padding: 'same' needs an odd kernel, got {list(sides)}; state the padding as a number.")
        padding = [(side - 1) * step // 2 for side, step in zip(sides, spread, strict=True)]
    width = (0,) * rank if isinstance(padding, str) else _size(padding, rank)
    make, channels = _CONV[rank], _channels(shape)
    if channels % groups or out % groups:
        raise ValueError(f"groups: expected a divisor of {channels} and of out={out}, got {groups}.")
    return make(channels, out, sides, _size(stride, rank), width, spread, groups, bias, padding_mode)


@register("conv2d")
def conv2d(
    shape: Shape,
    out: int,
    kernel: Size = 3,
    stride: Size = 1,
    padding: Padding = "same",
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
) -> nn.Module:
    """A ``conv`` that insists on images (C, H, W)."""
    _rank(shape, (2,))
    return conv(shape, out, kernel, stride, padding, dilation, groups, bias, padding_mode)


@register("conv_transpose")
def conv_transpose(
    shape: Shape,
    out: int,
    kernel: Size = 4,
    stride: Size = 2,
    padding: Size = 1,
    output_padding: Size = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """A transposed convolution over 1 to 3 spatial dimensions; its defaults double the size."""
    rank = _rank(shape)
    make, sizes = _TRANSPOSED[rank], [_size(v, rank) for v in (kernel, stride, padding, output_padding)]
    return make(_channels(shape), out, *sizes, groups=groups, bias=bias)


@register("norm")
def norm(
    shape: Shape,
    over: Literal["batch", "instance", "group", "layer", "actnorm"] = "batch",
    groups: int = 32,
    affine: bool = True,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> nn.Module:
    """Normalisation.

    Arguments:
        over: "batch"; "instance"; "group" (of channels, ``groups`` in all); "layer" (all channels and pixels);
            "actnorm": scale * (x + shift), set by the first batch in training, without a log-det.
        affine: whether a learned scale and shift for each channel follow.
        momentum: of the running statistics of "batch".
    """
    rank, channels = _rank(shape, (0, 1, 2, 3)), _channels(shape)
    if over == "actnorm":
        return ChannelNorm(channels, log_scale=False)
    if over == "batch":
        return _BATCH[rank](channels, eps, momentum, affine)
    if over == "instance":
        return _INSTANCE[_rank(shape)](channels, eps, affine=affine)
    if over == "group" and channels % groups:
        raise ValueError(f"groups: expected a divisor of {channels} channels, got {groups}.")
    return nn.GroupNorm(groups if over == "group" else 1, channels, eps, affine)


@register("activation")
def activation(function: Pointwise = "relu", slope: float = 0.01) -> nn.Module:
    """An elementwise function, or a softmax over the channels; ``slope`` belongs to "leaky_relu"."""
    if function == "softmax":
        return nn.Softmax(dim=1)
    return nn.LeakyReLU(slope) if function == "leaky_relu" else _POINTWISE[function]()


@register("dropout")
def dropout(p: float = 0.5) -> nn.Module:
    """Sets each number to zero with probability ``p`` in training."""
    return nn.Dropout(p)


@register("embedding")
class Embedding(nn.Embedding):
    """A learned vector (out,) for each of ``entries`` classes; reads integers, an input of shape ()."""

    def __init__(self, shape: Shape, entries: int, out: int) -> None:
        if shape != ():
            raise ValueError(f"expected one class index a sample, shape (), got {show_shape(shape)}.")
        super().__init__(entries, out)

    def output_shape(self, shape: Shape) -> Shape:
        return (self.embedding_dim,)


@register("upsample")
def upsample(
    shape: Shape, factor: int = 2, mode: Literal["nearest", "linear"] = "nearest", align_corners: bool = False
) -> nn.Module:
    """Every spatial size times ``factor``; "linear" interpolates in each dimension."""
    rank = _rank(shape)
    if mode == "nearest":
        return nn.Upsample(scale_factor=factor)
    return nn.Upsample(
        scale_factor=factor, mode=("linear", "bilinear", "trilinear")[rank - 1], align_corners=align_corners
    )


@register("pool")
def pool(
    shape: Shape,
    by: Literal["average", "max"] = "average",
    kernel: int = 2,
    stride: int | None = None,
    padding: int = 0,
) -> nn.Module:
    """Average or maximum over windows; ``stride`` is the kernel unless stated."""
    return _POOL[by][_rank(shape) - 1](kernel, kernel if stride is None else stride, padding)


@register("global_pool")
class GlobalPool(nn.Module):
    """Average or maximum over all pixels: (C, *spatial) to a vector (C,)."""

    def __init__(self, shape: Shape, by: Literal["average", "max"] = "average") -> None:
        super().__init__()
        _rank(shape)
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *spatial) to (B, C)."""
        pixels = x.flatten(2)
        return pixels.mean(2) if self.by == "average" else pixels.amax(2)

    def output_shape(self, shape: Shape) -> Shape:
        return shape[:1]


class _Elementwise(nn.Module):
    """Base of the kinds that combine values of one shape."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        if len(set(shapes)) > 1:
            raise ValueError(f"expected values of one shape, got {' and '.join(map(show_shape, shapes))}.")

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@register("add")
class Add(_Elementwise):
    """The sum of values of one shape."""

    def forward(self, *values: Tensor) -> Tensor:
        """The sum, of the values' shape."""
        return reduce(torch.add, values)


@register("multiply")
class Multiply(_Elementwise):
    """The product of values of one shape, entry by entry."""

    def forward(self, *values: Tensor) -> Tensor:
        """The product, of the values' shape."""
        return reduce(torch.mul, values)


@register("broadcast")
class Broadcast(nn.Module):
    """A vector (K,) repeated over the pixels of a second value: g.broadcast(vector, image) is (K, *spatial)."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        _rank(shapes[0], (0,))

    def forward(self, vector: Tensor, like: Tensor) -> Tensor:
        """vector (B, K) and like (B, C, *spatial) to (B, K, *spatial)."""
        return vector[(..., *(None,) * (like.ndim - 2))].expand(-1, -1, *like.shape[2:])

    def output_shape(self, vector: Shape, like: Shape) -> Shape:
        return (*vector, *like[1:])


@register("call")
def call() -> nn.Module:
    """A graph inside a graph, with parameters of its own."""
    raise ValueError("call: a graph is built from its body.")


@register("repeat")
def repeat(times: int) -> nn.Module:
    """A graph applied ``times`` times to the values it returns, each time with parameters of its own."""
    raise ValueError("repeat: a graph is built from its body.")


@register("residual")
def residual() -> nn.Module:
    """A graph with one output, added to its first value."""
    raise ValueError("residual: a graph is built from its body.")
