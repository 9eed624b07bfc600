"""Convolutional conditioner."""

from torch import Tensor, nn

from flowkit.nets.parts import convolution, hidden_block, last_layers


class ConvNet(nn.Module):
    """Convolution, activation, then ``depth`` times (convolution, activation), then convolution; keeps the size.

    With the defaults, the conditioner of Glow (arXiv 1807.03039, appendix B): kernels 3, 1, 3.

    Arguments:
        hidden: width of every hidden layer.
        depth: number of hidden-to-hidden layers.
        kernel_size: of the first and the last convolution, odd.
        hidden_kernel_size: of those between, odd.
        dims: spatial dimensions, 1 to 3.
        activation, norm, zero_last, tanh_last: as in :class:`flowkit.nets.MLP`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int = 128,
        depth: int = 1,
        kernel_size: int = 3,
        hidden_kernel_size: int = 1,
        dims: int = 2,
        activation: str = "relu",
        norm: str | None = None,
        zero_last: bool = False,
        tanh_last: bool = False,
    ) -> None:
        super().__init__()
        blocks = hidden_block(convolution(dims, in_channels, hidden, kernel_size), hidden, activation, norm)
        for _ in range(depth):
            blocks += hidden_block(convolution(dims, hidden, hidden, hidden_kernel_size), hidden, activation, norm)
        last = last_layers(convolution(dims, hidden, out_channels, kernel_size), zero_last, tanh_last)
        self.main = nn.Sequential(*blocks, *last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) -> (B, out_channels, *spatial)."""
        return self.main(x)
