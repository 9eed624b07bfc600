"""BigGAN's generator and the decoder that the big autoencoders make of it, as graphs with their authors' key names.

Of BigGAN (arXiv 1809.11096), as Net2Net and the invariances use it: every block is given a chunk of the latent and the
class embedding; the image doubles in every block; a self-attention stands before the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from flowkit import graph as g
from zoo.blocks import flow, resnet
from zoo.blocks import kinds as _kinds  # noqa: F401  registers the zoo's own kinds
from zoo.blocks.biggan_kinds import EPS, Unit
from zoo.layouts import Rule

Norm = Literal["batch", "actnorm"]
CHUNK, EMBEDDING, CLASSES = 20, 128, 1000
"""Latent numbers for each block, numbers of a class embedding, ImageNet's classes."""
WIDTHS = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
"""Channels before the first and after every block, in units of the width, by image size."""


def block(
    x: g.Value,
    condition: g.Value | None,
    out: int,
    upsample: bool = True,
    norm: Norm | None = "batch",
    unit: Unit = "add",
    eps: float = EPS,
) -> g.Value:
    """A residual block: conditional norm, relu and convolution twice; the image doubled before the first convolution.

    The skip is a 1x1 convolution, or the identity where nothing changes. Nodes "norm_0", "conv_0" ... "skip".

    Arguments:
        condition: None for norms without one.
        norm: None leaves the norms out. The published generators have batch norms.
        unit: see the kind "biggan_conv".
        eps: of batch norms without condition.
    """

    def normed(h: g.Value, name: str) -> g.Value:
        if norm is None:
            return h
        if condition is None:
            return g.norm(h, norm, eps=eps, name=name)
        return g.biggan_norm(h, condition, over=norm, unit=unit, name=name)

    h = g.activation(normed(x, "norm_0"), "relu", name="relu_0")
    h = g.upsample(h, name="upsample") if upsample else h
    h = g.biggan_conv(h, out, unit=unit, name="conv_0")
    h = g.activation(normed(h, "norm_1"), "relu", name="relu_1")
    h = g.biggan_conv(h, out, unit=unit, name="conv_1")
    if upsample:
        x = g.upsample(x, name="upsample_skip")
    if upsample or x.channels != out:
        x = g.biggan_conv(x, out, kernel=1, unit=unit, name="skip")
    return h + x


def painter(
    size: int,
    latent: int,
    width: int,
    norm: Norm = "batch",
    extra: Sequence[int] = (),
    unit: Unit = "add",
    last_eps: float = EPS,
) -> g.Graph:
    """A latent (Z,) and a class "embedding" (128,) -> image (3, S, S) in [-1, 1]; options as in :func:`generator`.

    Raises:
        ValueError: for a size other than 128 or 256, or a latent too short for the blocks.
    """
    if size not in WIDTHS:
        raise ValueError(f"size: expected one of {', '.join(map(str, WIDTHS))}, got {size}")
    first, *widths = (step * width for step in WIDTHS[size])
    rest = latent - CHUNK * len(widths) - sum(extra)
    if rest < 1:
        raise ValueError(f"latent: expected more than {latent - rest} numbers, got {latent}")
    z, embedding = g.input("latent", latent), g.input("embedding", EMBEDDING)
    start, *chunks = g.split(z, [rest] + [CHUNK] * len(widths) + list(extra), name="chunks")
    x = g.biggan_linear(start, 16 * first, unit=unit, name="first")
    for i, chunk in enumerate(chunks[len(widths) :]):
        x = x + g.biggan_linear(chunk, 16 * first, unit=unit, name=f"extra_{i}")
    x = g.channels_last_image(x, name="image_first")
    for i, (out, chunk) in enumerate(zip(widths, chunks, strict=False)):
        if i == len(widths) - 1:
            x = g.biggan_attention(x, unit=unit, name="attention")
        condition = g.concat(chunk, embedding, name=f"condition_{i}")
        inner, given = g.input("x", x.shape), g.input("condition", condition.shape)
        body = g.graph(inputs=(inner, given), y=block(inner, given, out, unit=unit))
        x = g.call(body, x, condition, name=f"block_{i}")
    x = g.norm(x, norm, eps=last_eps, name="last_norm")
    x = g.biggan_conv(g.activation(x, "relu", name="last_relu"), 3, unit=unit, name="paint")
    return g.graph(inputs=(z, embedding), image=g.activation(x, "tanh", name="tanh"))


def generator(
    size: int = 128,
    latent: int = 120,
    width: int = 96,
    classes: int = CLASSES,
    norm: Norm = "batch",
    extra: Sequence[int] = (),
    unit: Unit = "add",
    last_eps: float = EPS,
) -> g.Graph:
    """A latent (Z,) and class probabilities (K,), or one-hot classes -> image (3, S, S) in [-1, 1].

    The nodes "embed", (K,) -> (128,), and "painter", latent and class embedding -> image, can be called apart.

    Arguments:
        size: 128 or 256.
        latent: 20 numbers for each of 5 or 6 blocks; what remains is the first layer's, 20 in the published ones.
        norm: the last one; the blocks always have conditional batch norms.
        extra: numbers at the end of the latent that further maps add to the first layer, as a second thought: by them
            a trained generator is given more latent numbers.
        unit, last_eps: "clamp" and 1e-5 in the authors' generator of torch; see the kind "biggan_conv".
    """
    z, chosen = g.input("latent", latent), g.input("classes", classes)
    embedding = g.linear(chosen, EMBEDDING, bias=False, name="embed")
    body = painter(size, latent, width, norm, extra, unit, last_eps)
    return g.graph(inputs=(z, chosen), image=g.call(body, z, embedding, name="painter"))


def decoder(
    size: int = 128,
    latent: int = 128,
    width: int = 96,
    classes: int = CLASSES,
    hidden: int = 2000,
    norm: Norm = "actnorm",
    extra: Sequence[int] = (),
) -> g.Graph:
    """A latent (Z,) -> image (3, S, S) in [-1, 1], and the class probabilities (K,) that it is taken to have.

    ``BigGANDecoderWrapper``: a generator that reads its class from the latent.

    Arguments:
        hidden: width of the network that reads the class.
        norm, extra: see :func:`generator`; the extra numbers do not change the class.
    """
    z = g.input("latent", latent)
    known = g.split(z, [latent - sum(extra), sum(extra)], name="known")[0] if extra else z
    inner = g.input("x", known.channels)
    logits = g.call(g.graph(y=flow.fully_connected(inner, classes, hidden, 2)), known, name="classify")
    probabilities = g.activation(logits, "softmax", name="probabilities")
    embedding = g.linear(probabilities, EMBEDDING, bias=False, name="embed")
    image = g.call(painter(size, latent, width, norm, extra), z, embedding, name="painter")
    return g.graph(image=image, classes=probabilities)


def autoencoder(
    size: int = 128, latent: int = 128, width: int = 96, norm: Norm = "actnorm", last_norm: Norm = "actnorm",
    normalised: int = 1, extra: Sequence[int] = (), layers: int = 101, classes: int = CLASSES, hidden: int = 2000,
) -> g.Graph:  # fmt: skip
    """Image (3, S, S) in [-1, 1] and noise (Z,) -> moments (2 Z,), latent, reconstruction: the authors' ``BigAE``.

    Arguments:
        norm, layers: of the encoder, a ResNet-101 in the published ones.
        last_norm, extra, classes, hidden: of the decoder, see :func:`decoder`; the latent's numbers include the extra.
        normalised: see :func:`zoo.blocks.resnet.encoder`.
    """
    image, noise = g.input("image", (3, size, size)), g.input("noise", latent)
    moments, _ = g.call(resnet.encoder(size, 3, 2 * latent, layers, norm, normalised), image, name="encoder")
    code = g.posterior_sample(moments, noise, name="sample")
    body = decoder(size, latent, width, classes, hidden, last_norm, extra)
    restored, _ = g.call(body, code, name="decoder")
    return g.graph(inputs=(image, noise), moments=moments, latent=code, reconstruction=restored)


def generator_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for :func:`generator`."""
    rules = [Rule(r"embed\.weight", "linear.weight")]
    rules += [rule.under("painter.") for rule in _painter_rules()]
    return [rule.under(ours, theirs) for rule in rules]


def decoder_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for :func:`decoder`."""
    classify = flow.fully_connected_rules(2, ours="classify.", theirs="map_to_class_embedding.main.")
    return [rule.under(ours, theirs) for rule in [*classify, *generator_rules(theirs="decoder.")]]


def autoencoder_rules() -> list[Rule]:
    """Rules for :func:`autoencoder`."""
    return [*resnet.encoder_rules("encoder.", "encoder."), *decoder_rules("decoder.", "decoder.")]


def block_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for :func:`block`."""
    rules = spectral_rules("skip.", "conv_sc.")
    for number, norm in enumerate(("HyperBN", "HyperBN_1")):
        rules += norm_rules(f"norm_{number}.", f"{norm}.")
        rules += [rule.under(f"norm_{number}.norm.", f"{norm}.") for rule in flow.NORM]
        rules.append(Rule(rf"norm_{number}\.(weight|bias|(?:running|num)_.*)", rf"{norm}.\1"))
        rules += spectral_rules(f"conv_{number}.", f"conv{number}.")
    return [rule.under(ours, theirs) for rule in rules]


def norm_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for the kind "biggan_norm"."""
    rules = [rule.under("norm.norm.", "bn.") for rule in flow.NORM]
    rules.append(Rule(r"norm\.((?:running|num)_.*)", r"bn.\1"))
    for part in ("gamma", "beta"):
        rules += spectral_rules(f"{part}.", f"{part}_embed.")
    return [rule.under(ours, theirs) for rule in rules]


def attention_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for the kind "biggan_attention"."""
    rules = [Rule("gamma", "gamma")]
    for name, short in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("out", "o_conv")):
        rules += spectral_rules(f"{name}.", f"{short}.")
    return [rule.under(ours, theirs) for rule in rules]


def spectral_rules(ours: str = "", theirs: str = "") -> list[Rule]:
    """Rules for the kinds "biggan_conv" and "biggan_linear"."""
    names = {"weight": "weight_bar", "bias": "bias", "u": "weight_u", "v": "weight_v"}
    return [Rule(name, f"module.{their}").under(ours, theirs) for name, their in names.items()]


def _painter_rules() -> list[Rule]:
    rules = [*spectral_rules("first.", "G_linear."), *spectral_rules("paint.", "colorize.")]
    rules += [Rule(r"extra_(\d+)\." + rule.ours, r"extra_linears.\1." + rule.theirs) for rule in spectral_rules()]
    for i in range(max(map(len, WIDTHS.values())) - 1):
        rules += block_rules(f"block_{i}.", f"GBlock.{i}.")
    rules += attention_rules("attention.", "attention.")
    rules += [rule.under("last_norm.norm.", "ScaledCrossReplicaBN.") for rule in flow.NORM]
    return [*rules, Rule(r"last_norm\.(.*)", r"ScaledCrossReplicaBN.\1")]
