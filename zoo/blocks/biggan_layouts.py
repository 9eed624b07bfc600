"""Other layouts of BigGAN's weights: its authors' generator in torch (BigBiGAN's too), and TensorFlow Hub's modules.

Both store the same numbers as Net2Net's files, turned: classes last, latent and class embedding of the conditions the
other way round, the first layer's rows by channel, or everything with its inputs first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.blocks.biggan import EMBEDDING, WIDTHS
from zoo.layouts import SAME, Form, Rule

SIDE = 4
"""Height and width of the first layer's image."""
TRANSPOSED = Form(lambda t: t.T, lambda t: t.T)
ROW = Form(lambda t: t[None], lambda t: t[0])
"""A vector (C,), theirs (1, C)."""
SCALAR = Form(lambda t: t.reshape(()), lambda t: t.reshape(1))
"""A vector (1,), theirs a scalar."""
SWAPPED = Form(lambda t: t.roll(EMBEDDING, 1), lambda t: t.roll(-EMBEDDING, 1))
"""Columns [chunk 20, embedding 128], theirs [embedding, chunk]."""
KERNEL = Form(lambda t: t.permute(2, 3, 1, 0), lambda t: t.permute(3, 2, 0, 1))
"""A convolution's weight (O, I, H, W), theirs (H, W, I, O)."""


def _by_channel(t: Tensor) -> Tensor:
    """Rows (4, 4, C) to (C, 4, 4)."""
    return t.unflatten(0, (SIDE, SIDE, -1)).movedim(2, 0).flatten(0, 2)


def _by_pixel(t: Tensor) -> Tensor:
    return t.unflatten(0, (-1, SIDE, SIDE)).movedim(0, 2).flatten(0, 2)


ROWS = Form(_by_channel, _by_pixel)
"""The first layer's outputs (4, 4, C), theirs (C, 4, 4)."""
ROWS_ROW = Form(lambda t: _by_channel(t)[None], lambda t: _by_pixel(t[0]))
SPARE = (r".*\.v", r".*\.num_batches_tracked")
"""Keys of ours that nothing depends on, and that neither layout has."""

UNUSED = (r".*/(accumulation_counter|update_accumulators)",)
"""Variables of TensorFlow Hub that only the collecting of statistics needs."""


def torch_rules(size: int = 128) -> list[Rule]:
    """Rules for :func:`zoo.blocks.biggan.generator`, with ``unit="clamp", last_eps=1e-5``: the authors' port to torch.

    The only state of theirs that is not here, their last singular values ``sv0``, is written as 1.
    """
    last = len(WIDTHS[size]) - 2
    rules = [Rule(r"embed\.weight", "shared.weight", TRANSPOSED)]
    rules += _spectral("first", "linear", ROWS, ROWS, ROWS_ROW)
    rules += _spectral("paint", "output_layer.2")
    for i in range(last + 1):
        rules += _torch_block(f"block_{i}.", f"blocks.{i}.0.")
    for ours, theirs in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("out", "o")):
        rules += _spectral(f"attention.{ours}", f"blocks.{last - 1}.1.{theirs}")
    rules.append(Rule(r"attention\.gamma", f"blocks.{last - 1}.1.gamma", SCALAR))
    names = {"weight": "gain", "bias": "bias", "running_mean": "stored_mean", "running_var": "stored_var"}
    rules += [Rule(rf"last_norm\.{ours}", f"output_layer.0.{theirs}") for ours, theirs in names.items()]
    return [rules[0], *(rule.under("painter.") for rule in rules[1:])]


def _torch_block(ours: str, theirs: str) -> list[Rule]:
    rules = _spectral("skip", "conv_sc")
    for i in range(2):
        rules += _spectral(f"conv_{i}", f"conv{i + 1}")
        rules.append(Rule(rf"norm_{i}\.norm\.running_(mean|var)", rf"bn{i + 1}.stored_\1"))
        rules += _spectral(f"norm_{i}.gamma", f"bn{i + 1}.gain", SWAPPED)
        rules += _spectral(f"norm_{i}.beta", f"bn{i + 1}.bias", SWAPPED)
    return [rule.under(ours, theirs) for rule in rules]


def _spectral(ours: str, theirs: str, weight: Form = SAME, bias: Form = SAME, u: Form = ROW) -> list[Rule]:
    """Rules for a map with a spectrally normalised weight."""
    rules = [
        Rule("weight", "weight", weight, copies=(("sv0", _one),)),
        Rule("bias", "bias", bias),
        Rule("u", "u0", u),
    ]
    return [rule.under(f"{ours}.", f"{theirs}.") for rule in rules]


def _one(weight: Tensor) -> Tensor:
    return torch.ones(1, device=weight.device)


def hub_rules(size: int = 128, average: str = "ema_b999900") -> list[Rule]:
    """Rules for :func:`zoo.blocks.biggan.generator`: the variables of TensorFlow Hub's ``deepmind/biggan-<size>/2``.

    Arguments:
        average: the trained variables' suffix, those of the average over training.
    """
    blocks, end = len(WIDTHS[size]) - 1, f"/{average}"
    rules = [Rule(r"embed\.weight", f"linear/w{end}", TRANSPOSED)]
    rules += _hub_map("painter.first", "Generator/G_Z/G_linear", TRANSPOSED, end)
    rules += _hub_map("painter.paint", "Generator/conv_2d", KERNEL, end)
    for i in range(blocks):
        ours, theirs = f"painter.block_{i}.", f"Generator/GBlock_{i}/" if i else "Generator/GBlock/"
        for ours_part, part in (("conv_0", "conv0"), ("conv_1", "conv1"), ("skip", "conv_sc")):
            rules += _hub_map(ours + ours_part, theirs + part, KERNEL, end)
        for j, suffix in enumerate(("", "_1")):
            for name in ("gamma", "beta"):
                rules += _hub_map(f"{ours}norm_{j}.{name}", f"{theirs}HyperBN{suffix}/{name}", TRANSPOSED, end)
            statistics = Rule(r"running_(mean|var)", rf"CrossReplicaBN{suffix}/accumulated_\1")
            rules.append(statistics.under(f"{ours}norm_{j}.norm.", theirs))
    for short, name in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("out", "o_conv")):
        rules += _hub_map(f"painter.attention.{short}", f"Generator/attention/{name}", KERNEL, end)
    rules.append(Rule(r"painter\.attention\.gamma", f"Generator/attention/gamma{end}", SCALAR))
    for ours, name in (("weight", "gamma"), ("bias", "beta")):
        rules.append(Rule(rf"painter\.last_norm\.{ours}", f"Generator/ScaledCrossReplicaBN/{name}{end}"))
    rules.append(Rule(r"painter\.last_norm\.running_(mean|var)", r"Generator/ScaledCrossReplicaBNbn/accumulated_\1"))
    return rules


def _hub_map(ours: str, theirs: str, form: Form, end: str) -> list[Rule]:
    rules = [Rule("weight", f"w{end}", form), Rule("bias", f"b{end}"), Rule("u", "u0", ROW)]
    return [rule.under(f"{ours}.", f"{theirs}/") for rule in rules]
