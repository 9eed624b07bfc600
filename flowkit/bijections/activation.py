"""Invertible activations."""

import math

from torch import Tensor

from flowkit import ops
from flowkit.bijections.base import Bijection


class LeakyReLU(Bijection):
    """``y = x`` where x >= 0, ``slope * x`` elsewhere, with its true log-det.

    Arguments:
        slope: positive; 0.9 as in Net2Net (arXiv 2005.13580), whose code reports a log-det of zero instead.

    Raises:
        ValueError: a slope that is not positive and finite.
    """

    in_place = one_operator = True

    def __init__(self, slope: float = 0.9) -> None:
        super().__init__()
        if not 0 < slope < math.inf:
            raise self._wrong("slope", "a positive number", slope)
        self.slope = slope

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        return ops.leaky_relu(x, self.slope, out=out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        return ops.leaky_relu_inverse(y, self.slope, out=out)

    def extra_repr(self) -> str:
        return f"slope={self.slope}"
