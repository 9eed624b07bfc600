"""Net2Net's conditional flow as its authors formulate it, in plain torch: the other side of the comparison.

Written from a description of the architecture (arXiv 2005.13580). Vectors travel as (B, C, 1, 1); a coupling squeezes
them, concatenates a half with the embedding for each of four separate networks, and unsqueezes the result. Names of
parameters are those of the published files.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FullyConnected(nn.Module):
    """Linear, LeakyReLU, ``depth`` times (Linear, LeakyReLU), Linear, and a Tanh on request."""

    def __init__(self, dim: int, depth: int, hidden_dim: int, out_dim: int, use_tanh: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(dim, hidden_dim), nn.LeakyReLU()]
        for _ in range(depth):
            layers += [nn.Linear(hidden_dim, hidden_dim), nn.LeakyReLU()]
        layers.append(nn.Linear(hidden_dim, out_dim))
        self.main = nn.Sequential(*layers, *[nn.Tanh()] * use_tanh)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) -> (B, out_dim)."""
        return self.main(x)


class ActNorm(nn.Module):
    """scale * (x + loc); the first batch in training mode sets both."""

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        flat = x.permute(1, 0, 2, 3).reshape(x.shape[1], -1)
        self.loc.copy_(-flat.mean(1).reshape(1, -1, 1, 1))
        self.scale.copy_((1 / (flat.std(1) + 1e-6)).reshape(1, -1, 1, 1))
        self.initialized.fill_(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, H, W) and its log-det (B,)."""
        if self.training and self.initialized.item() == 0:
            self._initialise(x)
        height, width = x.shape[2:]
        y = self.scale * (x + self.loc)
        logdet = height * width * torch.sum(torch.log(torch.abs(self.scale)))
        return y, logdet * torch.ones(x.shape[0]).to(x)

    def reverse(self, y: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        return y / self.scale - self.loc


class InvLeakyRelu(nn.Module):
    """Negative values times ``alpha``; the log-det it reports is 0."""

    def __init__(self, alpha: float = 0.9) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> tuple[Tensor, float]:
        """y (B, C, H, W) and 0."""
        return x * torch.where(x >= 0, torch.ones_like(x), torch.full_like(x, self.alpha)), 0.0

    def reverse(self, y: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        return y / torch.where(y >= 0, torch.ones_like(y), torch.full_like(y, self.alpha))


class Shuffle(nn.Module):
    """A fixed random order of the channels."""

    forward_shuffle_idx: Tensor
    backward_shuffle_idx: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        order = torch.randperm(channels)
        self.register_buffer("forward_shuffle_idx", order)
        self.register_buffer("backward_shuffle_idx", torch.argsort(order))

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        """y (B, C, H, W) and 0."""
        return x[:, self.forward_shuffle_idx, ...], 0

    def reverse(self, y: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        return y[:, self.backward_shuffle_idx, ...]


class DoubleCoupling(nn.Module):
    """Two affine half-steps, each with a network for the log-scale and one for the shift; the halves leave swapped."""

    def __init__(self, channels: int, condition: int, hidden_dim: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        sizes = (half + condition, depth, hidden_dim, half)
        self.s = nn.ModuleList([FullyConnected(*sizes, use_tanh=True) for _ in range(2)])
        self.t = nn.ModuleList([FullyConnected(*sizes) for _ in range(2)])

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, 1, 1) and its log-det (B,)."""
        x = x.squeeze(-1).squeeze(-1)
        logdet: Tensor | int = 0
        for i in range(2):
            parts = torch.chunk(x, 2, dim=1)
            if i % 2 != 0:
                parts = parts[::-1]
            given = torch.cat((parts[0], embedding), dim=1)
            scale = self.s[i](given)
            moved = parts[1] * scale.exp() + self.t[i](given)
            x = torch.cat((parts[0], moved), dim=1)
            logdet = logdet + torch.sum(scale.view(x.size(0), -1), dim=1)
        assert isinstance(logdet, Tensor)
        return x[:, :, None, None], logdet

    def reverse(self, y: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, 1, 1)."""
        y = y.squeeze(-1).squeeze(-1)
        for i in reversed(range(2)):
            parts = torch.chunk(y, 2, dim=1)
            if i % 2 == 0:
                parts = parts[::-1]
            given = torch.cat((parts[0], embedding), dim=1)
            moved = (parts[1] - self.t[i](given)) * self.s[i](given).neg().exp()
            y = torch.cat((parts[0], moved), dim=1)
        return y[:, :, None, None]


class Block(nn.Module):
    """Actnorm, activation, coupling, shuffle."""

    def __init__(self, channels: int, condition: int, hidden_dim: int, depth: int, activation: str) -> None:
        super().__init__()
        self.norm_layer = ActNorm(channels)
        self.activation = InvLeakyRelu() if activation == "lrelu" else None
        self.coupling = DoubleCoupling(channels, condition, hidden_dim, depth)
        self.shuffle = Shuffle(channels)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, 1, 1) and its log-det (B,)."""
        h, logdet = self.norm_layer(x)
        if self.activation is not None:
            h, more = self.activation(h)
            logdet = logdet + more
        h, more = self.coupling(h, embedding)
        logdet = logdet + more
        h, more = self.shuffle(h)
        return h, logdet + more

    def reverse(self, y: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, 1, 1)."""
        h = self.coupling.reverse(self.shuffle.reverse(y), embedding)
        if self.activation is not None:
            h = self.activation.reverse(h)
        return self.norm_layer.reverse(h)


class ConditionalFlow(nn.Module):
    """The whole flow: the embedder runs once a call, its embedding goes to every block."""

    def __init__(
        self,
        channels: int,
        condition: int,
        embedding: int,
        hidden_dim: int,
        depth: int,
        blocks: int,
        activation: str = "none",
        embedder_hidden: int = 256,
        embedder_depth: int = 2,
    ) -> None:
        super().__init__()
        self.embedder = FullyConnected(condition, embedder_depth, embedder_hidden, embedding)
        sizes = (channels, embedding, hidden_dim, depth, activation)
        self.sub_layers = nn.ModuleList([Block(*sizes) for _ in range(blocks)])

    def _embedded(self, condition: Tensor) -> Tensor:
        return self.embedder(condition.float().reshape(condition.shape[0], -1))

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, C, 1, 1) and its log-det (B,), for x (B, C) or (B, C, 1, 1) and a condition (B, K)."""
        x = x[:, :, None, None] if x.ndim == 2 else x
        embedding, logdet = self._embedded(condition), torch.zeros(x.shape[0]).to(x)
        for block in self.sub_layers:
            x, more = block(x, embedding)
            logdet = logdet + more
        return x, logdet

    def reverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, 1, 1), for z (B, C) or (B, C, 1, 1)."""
        z = z[:, :, None, None] if z.ndim == 2 else z
        embedding = self._embedded(condition)
        blocks: list[Any] = [*self.sub_layers]
        for block in reversed(blocks):
            z = block.reverse(z, embedding)
        return z


def loss(z: Tensor, logdet: Tensor) -> Tensor:
    """Negative log-likelihood under a standard normal, without its constant."""
    return 0.5 * z.square().sum((1, 2, 3)).mean() - logdet.mean()
