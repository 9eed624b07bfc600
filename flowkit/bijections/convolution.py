"""Invertible k x k convolutions: autoregressive, emerging and periodic."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection, batch_logdet
from flowkit.bijections.compose import Compose
from flowkit.bijections.linear import random_rotation
from flowkit.ops._layout import logdet_dtype, pixels

Size = int | Sequence[int]


class Convolution(Bijection):
    """What layers with a kernel share: its sizes, one for each spatial dimension of x."""

    def __init__(self, channels: int, kernel_size: Size) -> None:
        super().__init__()
        self._check_count("channels", channels, 1)
        self.channels = channels
        self.kernel_size = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(kernel_size)
        if not 1 <= len(self.kernel_size) <= 3 or not all(isinstance(k, int) and k % 2 for k in self.kernel_size):
            raise self._wrong("kernel_size", "an odd size, or 1 to 3 of them", kernel_size)
        for size in self.kernel_size:
            self._check_count("kernel_size", size, 1)

    def check(self, x: Tensor, condition: Tensor | None, argument: str) -> None:
        super().check(x, condition, argument)
        self._check_space(x.shape[2:], argument)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        self._check_space(input_shape[1:], "x")
        return super().output_shape(input_shape)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        self._check_space(output_shape[1:], "y")
        return super().input_shape(output_shape)

    def _check_space(self, sizes: Sequence[int], argument: str) -> None:
        """Raises ValueError unless the kernel goes with an x of these spatial sizes."""
        if len(sizes) != len(self.kernel_size):
            advice = "give kernel_size one size for each"
            raise self._wrong(argument, f"{len(self.kernel_size)} spatial dimensions", len(sizes), advice)

    def _small_weight(self, channels: int) -> Tensor:
        """A random weight (C, C, *kernel) whose convolution makes x about ten times smaller."""
        scale = 0.1 / math.sqrt(channels * math.prod(self.kernel_size))
        return torch.randn(channels, channels, *self.kernel_size) * scale

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"


class AutoregressiveConv(Convolution):
    """A convolution in which a pixel depends only on those before it, so that its Jacobian is triangular.

    Pixels come in raster order, and within a pixel channel i sees the channels up to i, itself times
    ``exp(log_diagonal[i])`` (emerging convolutions, arXiv 1901.11137). The log-det is
    pixels * sum(log_diagonal). The inverse is an exact substitution, linear in the number of pixels:
    :func:`flowkit.ops.masked_conv_solve`.

    Arguments:
        channels: C of x (B, C, *spatial), whose sizes may be any.
        kernel_size: odd, one size for both dimensions of an image, or a list of one for each of 1 to 3 dimensions.
        dilation: distance between taps, one or one for each dimension.
        reverse: whether pixels and channels depend on those after them instead.

    Raises:
        ValueError: no channels, an even kernel, a dilation that does not fit it; x of another number of spatial
            dimensions. At ``load_state_dict``: a log_diagonal whose exponential is no positive finite number.
    """

    in_place = True
    mask: Tensor
    diagonal: Tensor

    def __init__(self, channels: int, kernel_size: Size = 3, *, dilation: Size = 1, reverse: bool = False) -> None:
        super().__init__(channels, kernel_size)
        rank = len(self.kernel_size)
        self.dilation = (dilation,) * rank if isinstance(dilation, int) else tuple(dilation)
        if len(self.dilation) != rank:
            raise self._wrong("dilation", f"one number or {rank}", dilation)
        for distance in self.dilation:
            self._check_count("dilation", distance, 1)
        self.reverse = reverse
        self.weight = nn.Parameter(self._small_weight(channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))
        mask = ops.autoregressive_mask(channels, self.kernel_size, reverse)
        diagonal = mask & ops.autoregressive_mask(channels, self.kernel_size, not reverse)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("diagonal", diagonal, persistent=False)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        y = ops.convolution(x, self.masked_weight(), dilation=self.dilation)
        return y, batch_logdet(x, self._logdet(x), out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        logdet = batch_logdet(y, -self._logdet(y), out)
        x = ops.masked_conv_solve(y, self.masked_weight(), dilation=self.dilation, reverse=self.reverse, out=out)
        return x, logdet

    def masked_weight(self) -> Tensor:
        """The weight (C, C, *kernel) of the convolution."""
        diagonal = self.log_diagonal.exp().reshape(-1, *[1] * (self.weight.ndim - 1))
        return torch.where(self.diagonal, diagonal, torch.where(self.mask, self.weight, 0))

    def _logdet(self, x: Tensor) -> Tensor:
        return pixels(x) * self.log_diagonal.double().sum()

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "log_diagonal":
            self._check_logarithms(name, value, self.log_diagonal.dtype)

    def extra_repr(self) -> str:
        spread = f", dilation={self.dilation}" if max(self.dilation) > 1 else ""
        return super().extra_repr() + spread + (", reverse=True" if self.reverse else "")


class EmergingConv(Compose):
    """Emerging convolution (arXiv 1901.11137): two autoregressive convolutions in opposite orders.

    Together every pixel sees all those that the kernel covers, while log-det and inverse stay exact and linear in the
    number of pixels. The 1x1 convolution that the paper puts before it is a layer of its own,
    ``Compose(InvertibleConv1x1(C, parameterization="qr"), EmergingConv(C))``.

    Arguments:
        channels, kernel_size, dilation: of each of the two, as in :class:`AutoregressiveConv`.
    """

    def __init__(self, channels: int, kernel_size: Size = 3, *, dilation: Size = 1) -> None:
        before = AutoregressiveConv(channels, kernel_size, dilation=dilation)
        super().__init__(
            before=before, after=AutoregressiveConv(channels, kernel_size, dilation=dilation, reverse=True)
        )
        self.channels = channels


class PeriodicConv(Convolution):
    """Circular convolution (periodic convolutions, arXiv 1901.11137), a C x C matrix at each frequency.

    The log-det is the sum of log|det| of these matrices, the inverse a solve with each: time grows with
    pixels * (C**3 + C**2 log(pixels)), and memory with pixels * C**2. Of x only that many pixels matter as the image
    has: neither is cached, so the size may change from call to call.

    Arguments:
        channels: C of x (B, C, *spatial).
        kernel_size: odd, one size for both dimensions of an image, or a list of one for each of 1 to 3 dimensions.

    The weight starts as a random rotation at the centre and little elsewhere. Narrower types than float32 go through
    the Fourier transform and the solve in float32.

    Raises:
        ValueError: no channels, an even kernel; x of another number of spatial dimensions, or smaller than the kernel.
    """

    def __init__(self, channels: int, kernel_size: Size = 3) -> None:
        super().__init__(channels, kernel_size)
        weight = self._small_weight(channels)
        weight.flatten(2)[:, :, math.prod(self.kernel_size) // 2] = random_rotation(channels).to(weight.dtype)
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        y = ops.convolution(x, self.weight, circular=True)
        return y, batch_logdet(x, self._logdet(self._matrices(x), x))

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        matrices, sizes = self._matrices(y), y.shape[2:]
        logdet, dims = batch_logdet(y, -self._logdet(matrices, y)), list(range(2, y.ndim))
        if y.shape[0] == 0:  # MKL has no Fourier transform of nothing
            return y.clone(), logdet
        waves = torch.fft.rfftn(y.to(logdet_dtype(y.dtype)), dim=dims)
        solved = torch.linalg.solve_ex(matrices, waves.flatten(2).permute(2, 1, 0)).result  # (frequency, C, B)
        x = torch.fft.irfftn(solved.permute(2, 1, 0).reshape(waves.shape), s=sizes, dim=dims)
        return x.to(y.dtype), logdet

    def _matrices(self, x: Tensor) -> Tensor:
        """What the convolution does to each frequency of a real Fourier transform of x: (frequency, C, C)."""
        weight = self.weight.to(logdet_dtype(x.dtype))
        margins = [m for k, size in zip(self.kernel_size, x.shape[2:], strict=True) for m in (size - k, 0)]
        dims = list(range(2, x.ndim))
        centred = nn.functional.pad(weight, margins[::-1]).roll([-(k // 2) for k in self.kernel_size], dims)
        return torch.fft.rfftn(centred, dim=dims).conj().flatten(2).permute(2, 0, 1)

    @staticmethod
    def _logdet(matrices: Tensor, x: Tensor) -> Tensor:
        """The sum over all frequencies; a real transform leaves out the mirror images of most."""
        logs = torch.linalg.slogdet(matrices).logabsdet.reshape(-1, x.shape[-1] // 2 + 1)
        mirrored = logs[:, 1 : (x.shape[-1] + 1) // 2]
        return logs.sum() + mirrored.sum()

    def _check_space(self, sizes: Sequence[int], argument: str) -> None:
        super()._check_space(sizes, argument)
        if any(size < k for size, k in zip(sizes, self.kernel_size, strict=True)):
            raise self._wrong(argument, f"spatial sizes of at least the kernel's {self.kernel_size}", tuple(sizes))
