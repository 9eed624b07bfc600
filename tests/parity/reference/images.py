"""Networks of images: autoencoders, discriminators, ResNet encoders, BigGAN's parts and its generator."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from tests.parity.reference.flows import ActNorm, Embedder, Net, Stage, norm


def moments(parameters: Tensor, deterministic: bool = False) -> dict[str, Tensor]:
    """A diagonal Gaussian's numbers by their names."""
    mean, logvar = parameters.chunk(2, 1)
    logvar = logvar.clamp(-30, 10)
    point = 0.0 if deterministic else 1.0
    found = {"mean": mean, "mode": mean, "logvar": logvar}
    found |= {"std": point * (0.5 * logvar).exp(), "var": point * logvar.exp()}
    if deterministic:
        return {**found, "kl": torch.zeros(1)}
    return {**found, "kl": 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)}


def nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (math.log(2 * math.pi) + logvar + (x - mean) ** 2 / logvar.exp()).flatten(1).sum(1)


class Autoencoder(Embedder):
    """The convolutional VAE; ``decode`` runs the stages from the last to the first."""

    def __init__(self, size: int, channels: int, down: int, latent: int, kind: str = "an", width: int = 64) -> None:
        super().__init__(size, channels, 2 * latent, down, kind, width)
        widths = [width * min(2**i, 16) for i in range(down)]
        self.dense_decode = Stage(nn.ConvTranspose2d(latent, widths[-1], size // 2**down))
        self.decoder_layers = nn.ModuleList(
            Stage(nn.ConvTranspose2d(b, a, 4, 2, 1, bias=False), norm(kind, a), nn.LeakyReLU(0.2))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.image_layer = Stage(nn.ConvTranspose2d(widths[0], channels, 4, 2, 1, bias=False), nn.Tanh())

    def decode(self, z: Tensor) -> Tensor:
        x = self.dense_decode(z.reshape(len(z), -1, 1, 1))
        for part in reversed(self.decoder_layers):
            x = part(x)
        image: Tensor = self.image_layer(x)
        return image


class Classifier(Embedder):
    def __init__(self, size: int, channels: int, down: int, latent: int, classes: int, kind: str, width: int) -> None:
        super().__init__(size, channels, latent, down, kind, width)
        self.classifier = nn.Linear(latent, classes)


class Discriminator(nn.Module):
    def __init__(self, channels: int, width: int, layers: int, kind: str = "bn", spectral: bool = False) -> None:
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False), 1):
            parts += [nn.Conv2d(a, b, 4, 2 if i < layers else 1, 1, bias=kind == "an"), norm(kind, b)]
            parts.append(nn.LeakyReLU(0.2))
        parts.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        if spectral:
            parts = [nn.utils.spectral_norm(part) if isinstance(part, nn.Conv2d) else part for part in parts]
        self.main = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.main(x)
        return logits


class ResnetEncoder(nn.Module):
    """Moments of images that are normalised ``times`` times."""

    def __init__(self, kind: str, out: int, channels: int = 3, by: str = "an", times: int = 2) -> None:
        super().__init__()
        self.model = models.get_model(kind, norm_layer=ActNorm if by == "an" else nn.BatchNorm2d)
        self.model.fc = Stage(nn.Conv2d(self.model.fc.in_features, out, 1))  # type: ignore[assignment]
        if channels != 3:
            self.model.in_ch_match = nn.Conv2d(channels, 3, 3)
        self.times = times

    def normalise(self, x: Tensor, times: int = 1) -> Tensor:
        mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        for _ in range(times):
            x = (0.5 * (x + 1) - mean) / std
        return x

    def features(self, x: Tensor) -> Tensor:
        m = self.model
        x = m.in_ch_match(x) if hasattr(m, "in_ch_match") else x
        x = m.maxpool(m.relu(m.bn1(m.conv1(x))))
        return m.layer4(m.layer3(m.layer2(m.layer1(x)))).mean((2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model.fc(self.features(self.normalise(x, self.times)))
        return out


def unit(v: Tensor) -> Tensor:
    return v / (v.norm() + 1e-4)


class Inner(nn.Module):
    def __init__(self, shape: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.weight_bar = nn.Parameter(torch.randn(shape))
        self.weight_u, self.weight_v = (nn.Parameter(torch.randn(shape[0]), requires_grad=False) for _ in range(2))
        if bias:
            self.bias = nn.Parameter(torch.randn(shape[0]))


class SN(nn.Module):
    """A map whose weight is divided by a singular value found from the stored u, which stays."""

    def __init__(self, *shape: int, bias: bool = True) -> None:
        super().__init__()
        self.module = Inner(shape, bias)

    def weight(self) -> Tensor:
        m = self.module
        matrix = m.weight_bar.flatten(1)
        v = unit(matrix.T @ m.weight_u)
        u = unit(matrix @ v)
        return m.weight_bar / (u @ (matrix @ v))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight(), getattr(self.module, "bias", None)
        if weight.ndim == 2:
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


class ConditionalNorm(nn.Module):
    def __init__(self, channels: int, condition: int, by: str = "bn") -> None:
        super().__init__()
        self.bn = ActNorm(channels) if by == "an" else nn.BatchNorm2d(channels, 1e-4, affine=False)
        self.gamma_embed = SN(channels, condition, bias=False)
        self.beta_embed = SN(channels, condition, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.gamma_embed(y)[..., None, None], self.beta_embed(y)[..., None, None]
        return self.bn(x) * (1 + gamma) + beta


class GBlock(nn.Module):
    def __init__(
        self, a: int, b: int, z: int, bn: bool = True, up: bool = True, conditional: bool = True, by: str = "bn"
    ) -> None:
        super().__init__()
        self.bn, self.up, self.conditional = bn, up, conditional
        self.conv0, self.conv1 = SN(b, a, 3, 3), SN(b, b, 3, 3)
        if up or a != b:
            self.conv_sc = SN(b, a, 1, 1)
        if bn or by == "an":  # norms that were built for nothing are in the files too
            make = (lambda c: ConditionalNorm(c, z, by)) if conditional else (lambda c: nn.BatchNorm2d(c, eps=z))
            self.HyperBN, self.HyperBN_1 = make(a), make(b)

    def normed(self, h: Tensor, name: str, y: Tensor) -> Tensor:
        if not self.bn:
            return h
        return getattr(self, name)(h, y) if self.conditional else getattr(self, name)(h)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        twice = (lambda t: t.repeat_interleave(2, 2).repeat_interleave(2, 3)) if self.up else (lambda t: t)
        h = self.conv0(twice(self.normed(x, "HyperBN", y).relu()))
        h = self.conv1(self.normed(h, "HyperBN_1", y).relu())
        return h + (self.conv_sc(twice(x)) if hasattr(self, "conv_sc") else x)


class Attention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.theta, self.phi = SN(c // 8, c, 1, 1, bias=False), SN(c // 8, c, 1, 1, bias=False)
        self.g, self.o_conv = SN(c // 2, c, 1, 1, bias=False), SN(c, c // 2, 1, 1, bias=False)
        self.gamma = nn.Parameter(torch.randn(1))

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        theta = self.theta(x).reshape(b, -1, h * w)
        phi, g = (F.max_pool2d(f(x), 2).flatten(2) for f in (self.phi, self.g))
        weights = torch.einsum("bcn,bcm->bnm", theta, phi).softmax(-1)
        return self.gamma * self.o_conv(torch.einsum("bcm,bnm->bcn", g, weights).reshape(b, -1, h, w)) + x


class Generator(nn.Module):
    """BigGAN of 128 or 256 pixels; ``extra`` latent numbers are added to the first layer's result."""

    def __init__(self, size: int, z: int, ch: int, classes: int, by: str = "bn", extra: tuple[int, ...] = ()) -> None:
        super().__init__()
        widths = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}[size]
        self.ch, self.blocks, self.extra = ch, len(widths) - 1, extra
        first = z - 20 * self.blocks
        self.split = [first] + [20] * self.blocks + list(extra)
        self.linear = nn.Linear(classes, 128, bias=False)
        self.G_linear = SN(16 * 16 * ch, first)
        if extra:
            self.extra_linears = nn.ModuleList(SN(16 * 16 * ch, n) for n in extra)
        self.GBlock = nn.ModuleList(GBlock(a * ch, b * ch, 148) for a, b in zip(widths, widths[1:], strict=False))
        self.attention = Attention(2 * ch)
        self.ScaledCrossReplicaBN = ActNorm(ch) if by == "an" else nn.BatchNorm2d(ch, 1e-4)
        self.colorize = SN(3, ch, 3, 3)

    def forward(self, z: Tensor, classes: Tensor | None = None, embedding: Tensor | None = None) -> Tensor:
        known = self.linear(classes) if embedding is None else embedding
        first, *parts = z.split(self.split, 1)
        h = self.G_linear(first)
        for part, more in zip(parts[self.blocks :], getattr(self, "extra_linears", ()), strict=True):
            h = h + more(part)
        h = h.reshape(-1, 4, 4, 16 * self.ch).permute(0, 3, 1, 2)
        for i, block in enumerate(self.GBlock):
            h = self.attention(h) if i == self.blocks - 1 else h
            h = block(h, torch.cat([parts[i], known], 1))
        return self.colorize(self.ScaledCrossReplicaBN(h).relu()).tanh()


class Decoder(nn.Module):
    """A generator that reads its class from the latent."""

    def __init__(
        self, size: int, z: int, ch: int, classes: int, hidden: int, by: str, extra: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.map_to_class_embedding = Net(z, classes, hidden, 2)
        self.decoder = Generator(size, z, ch, classes, by, extra)
        self.known = z

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        classes = self.map_to_class_embedding(z[:, : self.known]).softmax(1)
        return self.decoder(z, classes), classes


class BigAE(nn.Module):
    def __init__(self, encoder: ResnetEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


class Dequantiser(nn.Module):
    def __init__(self, channels: int, z: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.encoder = Net(channels, channels, hidden, layers)
        self.mu_layer, self.logvar_layer = Net(channels, z, hidden, layers), Net(channels, z, hidden, layers)
        self.decoder = Net(z, channels, hidden, layers + 1)
