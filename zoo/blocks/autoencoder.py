"""Convolutional autoencoders of Net2Net and the IIN, their classifier, and the fully connected dequantiser, as graphs.

Every convolution halves the image: 4x4, stride 2, no bias, a normalisation, leaky ReLU (0.2); widths 64, 128, 256, 512,
1024, 1024 ... (``ae.Model`` of arXiv 2004.13166, ``BasicAEModel`` of arXiv 2005.13580).
"""

from __future__ import annotations

from torch import nn

from flowkit import graph as g
from zoo.blocks import flow
from zoo.blocks import kinds as _kinds  # noqa: F401  registers the zoo's own kinds
from zoo.blocks.embedders import SLOPE, Norm, spatial, spatial_rules, widths
from zoo.layouts import Rule

__all__ = ["autoencoder", "autoencoder_rules", "classifier", "classifier_rules", "dequantiser", "dequantiser_rules"]


def autoencoder(
    size: int = 32, channels: int = 3, down: int = 4, latent: int = 128, norm: Norm = "actnorm", width: int = 64,
    deterministic: bool = False,
) -> g.Graph:  # fmt: skip
    """Image (C, S, S) in [-1, 1] and noise (Z,) -> moments (2 Z,), latent = mean + std * noise, reconstruction.

    Arguments:
        size: S, a multiple of 2 ** down.
        width: of the first convolution, 64 in the papers.
        deterministic: the latent is the mean.

    Raises:
        ValueError: for a size that is no such multiple.
    """
    if size % 2**down:
        raise ValueError(f"size: expected a multiple of 2 ** down = {2**down}, got {size}")
    image, noise = g.input("image", (channels, size, size)), g.input("noise", latent)
    moments = g.call(encoder(size, channels, down, 2 * latent, norm, width), image, name="encoder")
    code = g.posterior_sample(moments, noise, deterministic=deterministic, name="sample")
    restored = g.call(decoder(size, channels, down, latent, norm, width), code, name="decoder")
    return g.graph(inputs=(image, noise), moments=moments, latent=code, reconstruction=restored)


def encoder(size: int, channels: int, down: int, out: int, norm: Norm = "actnorm", width: int = 64) -> g.Graph:
    """Image (C, S, S) -> vector (out,)."""
    return g.graph(vector=spatial(g.input("image", (channels, size, size)), out, down, norm, width))


def decoder(size: int, channels: int, down: int, latent: int, norm: Norm = "actnorm", width: int = 64) -> g.Graph:
    """Latent (Z,) -> image (C, S, S) in [-1, 1]."""
    steps = widths(down, width)
    code = g.input("latent", latent)
    x = g.reshape(code, (latent, 1, 1), name="pixel")
    x = g.conv_transpose(x, steps[-1], kernel=size // 2**down, stride=1, padding=0, name="first")
    for i in reversed(range(down - 1)):
        x = g.conv_transpose(x, steps[i], bias=False, name=f"conv_{i}")
        x = g.norm(x, norm, name=f"norm_{i}")
        x = g.activation(x, "leaky_relu", slope=SLOPE, name=f"activation_{i}")
    x = g.conv_transpose(x, channels, bias=False, name="paint")
    return g.graph(image=g.activation(x, "tanh", name="tanh"))


def autoencoder_rules(norm: Norm = "actnorm", theirs: str = "") -> list[Rule]:
    """Rules for :func:`autoencoder`."""
    up = [Rule("first" + rule.ours[4:], rule.theirs.replace("dense_encode", "dense_decode")) for rule in _last(norm)]
    up += [Rule(r.ours, r.theirs.replace("feature", "decoder"), r.form) for r in spatial_rules(norm=norm)[:-1]]
    up.append(Rule(r"paint\.weight", "image_layer.sub_layers.0.weight"))
    return [*spatial_rules("encoder.", theirs, norm), *(rule.under("decoder.", theirs) for rule in up)]


def _last(norm: Norm) -> list[Rule]:
    return spatial_rules(norm=norm)[-1:]


def classifier(
    size: int = 32, channels: int = 3, down: int = 4, latent: int = 64, classes: int = 10, norm: Norm = "actnorm",
    width: int = 64,
) -> g.Graph:  # fmt: skip
    """Image (C, S, S) in [-1, 1] -> representation (Z,) and logits (K,) of the IIN's classifier."""
    image = g.input("image", (channels, size, size))
    known = g.call(encoder(size, channels, down, latent, norm, width), image, name="encoder")
    return g.graph(representation=known, logits=g.linear(known, classes, name="head"))


def classifier_rules(norm: Norm = "actnorm", theirs: str = "") -> list[Rule]:
    """Rules for :func:`classifier`."""
    head = Rule(r"head\.(weight|bias)", r"classifier.\1").under(theirs=theirs)
    return [*spatial_rules("encoder.", theirs, norm), head]


def dequantiser(channels: int = 128, latent: int = 128, hidden: int = 4096, layers: int = 2) -> g.Graph:
    """A fully connected VAE: x (C,) and noise (Z,) -> moments (2 Z,), latent, restored x.

    Net2Net's ``BasicFullyConnectedVAE``, the invariances' ``FlatVAE``: it makes a BigGAN's class embeddings continuous.

    Arguments:
        layers: hidden-to-hidden layers of the encoder and the two networks after it; the decoder has one more.
    """
    x, noise = g.input("x", channels), g.input("noise", latent)
    inner, code = g.input("x", channels), g.input("latent", latent)
    h = flow.fully_connected(g.input("x", channels), channels, hidden, layers)
    h = g.call(g.graph(h=h), x, name="encoder")
    body = g.graph(y=flow.fully_connected(inner, latent, hidden, layers))
    moments = g.concat(g.call(body, h, name="mean"), g.call(body, h, name="logvar"), name="moments")
    z = g.posterior_sample(moments, noise, name="sample")
    restored = g.call(g.graph(x=flow.fully_connected(code, channels, hidden, layers + 1)), z, name="decoder")
    return g.graph(inputs=(x, noise), h=h, moments=moments, latent=z, restored=restored)


def dequantiser_rules(layers: int = 2, theirs: str = "") -> list[Rule]:
    """Rules for :func:`dequantiser`."""
    names = {"encoder": "encoder", "mean": "mu_layer", "logvar": "logvar_layer", "decoder": "decoder"}
    return [
        rule
        for ours, name in names.items()
        for rule in flow.fully_connected_rules(
            layers + (ours == "decoder"), ours=f"{ours}.", theirs=f"{theirs}{name}.main."
        )
    ]


def initialise(module: nn.Module) -> None:
    """As the authors: weights of convolutions from N(0, 0.02), of batch norms from N(1, 0.02), their biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d) and part.affine:
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
