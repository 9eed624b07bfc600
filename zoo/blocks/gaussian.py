"""The diagonal Gaussian that the encoders of Net2Net, the IIN and the invariances give as posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOGVAR = (-30.0, 10.0)
"""Where the log-variance is clamped to."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian with independent entries.

    Arguments:
        mean, logvar: (B, ...), of one shape.
        deterministic: a point mass at the mean: no variance, no KL divergence, no likelihood.
    """

    mean: Tensor
    logvar: Tensor
    deterministic: bool = False

    @classmethod
    def of(cls, moments: Tensor, deterministic: bool = False) -> DiagonalGaussian:
        """From (B, 2 Z, ...): the means, then the log-variances, which are clamped to [-30, 10]."""
        mean, logvar = moments.chunk(2, 1)
        return cls(mean, logvar.clamp(*LOGVAR), deterministic)

    @property
    def var(self) -> Tensor:
        """Variances, of the mean's shape."""
        return torch.zeros_like(self.mean) if self.deterministic else self.logvar.exp()

    @property
    def std(self) -> Tensor:
        """Standard deviations, of the mean's shape."""
        return torch.zeros_like(self.mean) if self.deterministic else (0.5 * self.logvar).exp()

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def sample(self, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """mean + std * noise, with noise of N(0, 1) drawn on the CPU unless it is given."""
        if noise is None:
            noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + self.std * noise

    def kl(self, other: DiagonalGaussian | None = None) -> Tensor:
        """KL divergence (B,) from another Gaussian, N(0, 1) by default; zeros (1,) if deterministic."""
        if self.deterministic:
            return torch.zeros(1)
        if other is None:
            return 0.5 * (self.mean.square() + self.var - 1 - self.logvar).flatten(1).sum(1)
        apart = (self.mean - other.mean).square() / other.var
        return 0.5 * (apart + self.var / other.var - 1 - self.logvar + other.logvar).flatten(1).sum(1)

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), (B,), of x in the mean's shape; zeros (1,) if deterministic."""
        if self.deterministic:
            return torch.zeros(1)
        scaled = (x - self.mean).square() / self.var
        return 0.5 * (math.log(2 * math.pi) + self.logvar + scaled).flatten(1).sum(1)
