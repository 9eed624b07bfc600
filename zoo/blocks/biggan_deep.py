"""BigGAN-deep's generator as a graph (arXiv 1809.11096, appendix B), with the key names of its port to torch.

Another network than BigGAN: four convolutions a block, skips without parameters, the whole latent in every condition,
and batch statistics for each of 51 truncations of the latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowkit import graph as g
from zoo.blocks import kinds as _kinds  # noqa: F401  registers the zoo's own kinds
from zoo.blocks.biggan_deep_kinds import STATISTICS
from zoo.layouts import SAME, Form, Rule

CHANNELS = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1), 512: (16, 16, 8, 8, 4, 2, 1, 1)}
"""Of the published generators by their size, at 4x4 pixels and after each doubling, in units of the width (table 7)."""
ATTENTION = 8
"""The block that the attention of each of them stands before, at 64x64 pixels."""
Layer = tuple[bool, int, int]
"""Whether a block doubles the image, and its channels before and after in units of the width."""
Options = dict[str, Any]
_VECTOR = Form(lambda t: t.flatten(1), lambda t: t[..., None, None])
"""The weight of a 1x1 convolution (O, I, 1, 1), theirs (O, I)."""


def published_layers(size: int) -> list[Layer]:
    """The blocks of a published generator, two at each resolution; ValueError for a size that there is none of."""
    if size not in CHANNELS:
        raise ValueError(f"size: expected one of {', '.join(map(str, CHANNELS))}, got {size}")
    widths = CHANNELS[size]
    return [layer for a, b in zip(widths, widths[1:], strict=False) for layer in ((False, a, a), (True, a, b))]


def generator(
    layers: Sequence[Layer],
    attention: int,
    latent: int = 128,
    width: int = 128,
    classes: int = 1000,
    truncation: float = 1.0,
    statistics: int = STATISTICS,
    exchanged: bool = False,
) -> g.Graph:
    """A latent (Z,) and class probabilities (K,) -> image (3, S, S) in [-1, 1].

    Arguments:
        layers: the blocks from 4x4 pixels on.
        attention: number of the block that a self-attention stands before.
        truncation: the largest absolute value of the latent divided by 2, 0 to 1: selects the statistics, nothing else.
        statistics, exchanged: see the kind "truncated_norm".
    """
    z, chosen = g.input("latent", latent), g.input("classes", classes)
    embedding = g.linear(chosen, latent, bias=False, name="embed")
    known = g.reshape(g.concat(z, embedding, name="condition"), (2 * latent, 1, 1), name="pixel")
    options: Options = {"truncation": truncation, "statistics": statistics, "exchanged": exchanged}
    first = layers[0][1] * width
    x = g.spectral_conv2d(known, 16 * first, kernel=1, padding=0, name="first")
    x = g.channels_last_image(g.flatten(x, name="row"), name="image_first")
    for i, (upsample, _, out) in enumerate(layers):
        if i == attention:
            x = g.deep_attention(x, name="attention")
        inner, given = g.input("x", x.shape), g.input("condition", known.shape)
        body = g.graph(inputs=(inner, given), y=block(inner, given, out * width, upsample, options))
        x = g.call(body, x, known, name=f"block_{i}")
    x = g.activation(g.truncated_norm(x, affine=True, **options, name="last_norm"), "relu", name="last_relu")
    x = g.first_channels(g.spectral_conv2d(x, x.channels, name="paint"), out=3, name="colours")
    return g.graph(inputs=(z, chosen), image=g.activation(x, "tanh", name="tanh"))


def block(x: g.Value, condition: g.Value, out: int, upsample: bool, options: Options) -> g.Value:
    """A residual block with convolutions 1x1, 3x3, 3x3, 1x1 of a quarter of the channels before it.

    The skip keeps as many channels as come out, the first ones.
    """
    h, inner = x, x.channels // 4
    for i, (channels, kernel) in enumerate(((inner, 1), (inner, 3), (inner, 3), (out, 1))):
        h = g.activation(_conditional(h, condition, i, options), "relu", name=f"relu_{i}")
        if upsample and i == 1:
            h = g.upsample(h, name="upsample")
        h = g.spectral_conv2d(h, channels, kernel=kernel, padding=kernel // 2, name=f"conv_{i}")
    skip = x if x.channels == out else g.first_channels(x, out=out, name="skip")
    total: g.Value = h + (g.upsample(skip, name="upsample_skip") if upsample else skip)
    return total


def _conditional(x: g.Value, condition: g.Value, number: int, options: Options) -> g.Value:
    """A norm, a scale 1 + a(c) and a shift b(c)."""
    x = g.truncated_norm(x, **options, name=f"norm_{number}")
    scale, shift = (
        g.broadcast(g.flatten(g.spectral_conv2d(condition, x.channels, kernel=1, padding=0, bias=False, name=name)), x)
        for name in (f"scale_{number}", f"shift_{number}")
    )
    total: g.Value = x + x * scale + shift
    return total


def generator_rules(blocks: int, attention: int) -> list[Rule]:
    """Rules for :func:`generator`: the keys of ``biggan-deep-<size>-pytorch_model.bin``, which count the attention."""
    rules = [*_spectral("first", "gen_z", _VECTOR), *_spectral("paint", "conv_to_rgb"), *_norm("last_norm", "bn")]
    rules.append(Rule(r"last_norm\.(weight|bias)", r"bn.\1"))
    for i in range(blocks):
        for j in range(4):
            parts = _spectral(f"conv_{j}", f"conv_{j}") + _norm(f"norm_{j}", f"bn_{j}")
            for ours, theirs in (("scale", "scale"), ("shift", "offset")):
                parts += _spectral(f"{ours}_{j}", f"bn_{j}.{theirs}", _VECTOR)
            rules += [rule.under(f"block_{i}.", f"layers.{i + (i >= attention)}.") for rule in parts]
    for ours, theirs in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("out", "o_conv")):
        rules += _spectral(f"attention.{ours}", f"layers.{attention}.snconv1x1_{theirs}")
    rules.append(Rule(r"attention\.gamma", f"layers.{attention}.gamma"))
    return [Rule(r"embed\.weight", "embeddings.weight"), *(rule.under(theirs="generator.") for rule in rules)]


def _norm(ours: str, theirs: str) -> list[Rule]:
    names = {"means": "running_means", "variances": "running_vars"}
    return [Rule(rf"{ours}\.{name}", f"{theirs}.{their}") for name, their in names.items()]


def _spectral(ours: str, theirs: str, form: Form = SAME) -> list[Rule]:
    names = {"weight": "weight_orig", "bias": "bias", "u": "weight_u", "v": "weight_v"}
    rules = [Rule(name, their, form if name == "weight" else SAME) for name, their in names.items()]
    return [rule.under(f"{ours}.", f"{theirs}.") for rule in rules]
