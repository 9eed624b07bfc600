"""Flows of Net2Net, the IIN and the invariances: actnorm, double coupling, shuffle, and what embeds their condition."""

import numpy as np
import torch
from torch import Tensor, nn


class ActNorm(nn.Module):
    """y = scale (x + loc) of images or vectors; uninitialised, the first batch sets both."""

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def apply_to(self, x: Tensor) -> tuple[Tensor, Tensor]:
        image = x.reshape(*x.shape[:2], *(x.shape[2:] or (1, 1)))
        if not self.initialized:
            with torch.no_grad():
                values = image.transpose(0, 1).flatten(1)
                self.loc.copy_(-values.mean(1).reshape(self.loc.shape))
                self.scale.copy_((1 / (values.std(1) + 1e-6)).reshape(self.loc.shape))
                self.initialized.fill_(1)
        y = self.scale * (image + self.loc)
        logdet = image.shape[2] * image.shape[3] * self.scale.abs().log().sum()
        return y.reshape(x.shape), logdet.repeat(len(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x)[0]

    def reverse(self, y: Tensor) -> Tensor:
        shape = (1, -1, 1, 1) if y.ndim == 4 else (1, -1)
        return y / self.scale.reshape(shape) - self.loc.reshape(shape)


class Net(nn.Module):
    """A fully connected network: a norm after every map but the last ("bn") or after the first ("an")."""

    def __init__(self, dim: int, out: int, hidden: int, depth: int, norm: str = "", tanh: bool = False) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(depth + 1):
            parts.append(nn.Linear(hidden if i else dim, hidden))
            if norm == "bn":
                parts.append(nn.BatchNorm1d(hidden))
            if norm == "an" and i == 0:
                parts.append(ActNorm(hidden))
            parts.append(nn.LeakyReLU(0.01))
        self.main = nn.Sequential(*parts, nn.Linear(hidden, out), *([nn.Tanh()] if tanh else []))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.main(x)
        return result


class Coupling(nn.Module):
    """Two half-steps; the halves leave swapped."""

    def __init__(self, channels: int, hidden: int, depth: int, condition: int = 0) -> None:
        super().__init__()
        a, b = (channels + 1) // 2 + condition, channels // 2
        self.s = nn.ModuleList(Net(a, b, hidden, depth, tanh=True) for _ in range(2))
        self.t = nn.ModuleList(Net(a, b, hidden, depth) for _ in range(2))

    def _maps(self, i: int, a: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        given = a if h is None else torch.cat([a, h], 1)
        return self.s[i](given), self.t[i](given)

    def apply_to(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        s, t = self._maps(0, a, h)
        b = b * s.exp() + t
        first, second = torch.cat([b, a], 1).chunk(2, 1)
        s1, t1 = self._maps(1, first, h)
        return torch.cat([first, second * s1.exp() + t1], 1), s.sum(1) + s1.sum(1)

    def reverse(self, y: Tensor, h: Tensor | None = None) -> Tensor:
        first, second = y.chunk(2, 1)
        s, t = self._maps(1, first, h)
        first, second = torch.cat([(second - t) * (-s).exp(), first], 1).chunk(2, 1)
        s, t = self._maps(0, first, h)
        return torch.cat([first, (second - t) * (-s).exp()], 1)


class Shuffle(nn.Module):
    forward_shuffle_idx: Tensor
    backward_shuffle_idx: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("forward_shuffle_idx", torch.randperm(channels))
        self.register_buffer("backward_shuffle_idx", self.forward_shuffle_idx.argsort())


class Block(nn.Module):
    """Actnorm, an activation whose log-det counts as 0 unless ``exact``, coupling, shuffle."""

    def __init__(
        self, channels: int, hidden: int, depth: int, condition: int = 0, activation: str = "none", listed: bool = False
    ) -> None:
        super().__init__()
        parts = [ActNorm(channels), Coupling(channels, hidden, depth, condition), Shuffle(channels)]
        self.activation = activation
        names = ["norm_layer", "coupling", "shuffle"]
        if listed:
            self.flow = nn.ModuleList(parts)
        else:
            for name, part in zip(names, parts, strict=True):
                setattr(self, name, part)
        self.parts = lambda: parts

    def apply_to(self, x: Tensor, h: Tensor | None = None, exact: bool = False) -> tuple[Tensor, Tensor]:
        norm, coupling, shuffle = self.parts()
        x, logdet = norm.apply_to(x)
        if self.activation == "lrelu":
            logdet = logdet + (x < 0).sum(1) * float(np.log(0.9)) * exact
            x = torch.where(x < 0, 0.9 * x, x)
        x, more = coupling.apply_to(x, h)
        return x[:, shuffle.forward_shuffle_idx], logdet + more

    def reverse(self, y: Tensor, h: Tensor | None = None) -> Tensor:
        norm, coupling, shuffle = self.parts()
        y = coupling.reverse(y[:, shuffle.backward_shuffle_idx], h)
        y = torch.where(y < 0, y / 0.9, y) if self.activation == "lrelu" else y
        return norm.reverse(y)


class PureAffine(nn.Module):
    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.coupling = Coupling(channels, hidden, depth)

    def apply_to(self, x: Tensor, h: None = None, exact: bool = False) -> tuple[Tensor, Tensor]:
        return self.coupling.apply_to(x)

    def reverse(self, y: Tensor, h: None = None) -> Tensor:
        return self.coupling.reverse(y)


class Flow(nn.Module):
    """Blocks, each given the embedding, or what a 1x1 convolution of its own makes of the one before's."""

    def __init__(self, blocks: list[nn.Module], sequential: int = 0, embedder: nn.Module | None = None) -> None:
        super().__init__()
        self.sub_layers = nn.ModuleList(blocks)
        if sequential:
            self.conditioning_layers = nn.ModuleList(nn.Conv2d(sequential, sequential, 1) for _ in blocks)
        if embedder is not None:
            self.embedder = embedder

    def conditions(self, h: Tensor | None) -> list[Tensor | None]:
        if not hasattr(self, "conditioning_layers"):
            return [h] * len(self.sub_layers)
        found: list[Tensor | None] = []
        for layer in self.conditioning_layers:
            assert h is not None
            h = layer(h[..., None, None])[..., 0, 0]
            found.append(h)
        return found

    def apply_to(self, x: Tensor, h: Tensor | None = None, exact: bool = False) -> tuple[Tensor, Tensor]:
        logdet = x.new_zeros(len(x))
        for block, given in zip(self.sub_layers, self.conditions(h), strict=True):
            x, more = block.apply_to(x, given, exact)
            logdet = logdet + more
        return x, logdet

    def reverse(self, y: Tensor, h: Tensor | None = None) -> Tensor:
        for block, given in reversed([*zip(self.sub_layers, self.conditions(h), strict=True)]):
            y = block.reverse(y, given)
        return y


class DenseEmbedder(nn.Module):
    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for a, b in zip(dims, dims[1:], strict=False):
            parts += [nn.Conv2d(a, b, 1), ActNorm(b), nn.LeakyReLU(0.2)]
        self.net = nn.ModuleList(parts[:-2])

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), -1, 1, 1)
        for part in self.net:
            x = part(x)
        return x[..., 0, 0]


class Stage(nn.Module):
    """``sub_layers``: layers one after the other."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.sub_layers = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.sub_layers:
            x = part(x)
        return x


def norm(kind: str, channels: int) -> nn.Module:
    if kind == "an":
        return ActNorm(channels)
    return nn.BatchNorm2d(channels) if kind == "bn" else nn.InstanceNorm2d(channels, affine=True)


class Embedder(nn.Module):
    """Strided convolutions and one over all that is left."""

    def __init__(self, size: int, channels: int, out: int, down: int, kind: str = "an", width: int = 64) -> None:
        super().__init__()
        widths = [channels] + [width * min(2**i, 16) for i in range(down)]
        pairs = zip(widths, widths[1:], strict=False)
        self.feature_layers = nn.ModuleList(
            Stage(nn.Conv2d(a, b, 4, 2, 1, bias=False), norm(kind, b), nn.LeakyReLU(0.2)) for a, b in pairs
        )
        self.dense_encode = Stage(nn.Conv2d(widths[-1], out, size // 2**down))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.feature_layers:
            x = part(x)
        return self.dense_encode(x).flatten(1)
