"""BigGAN's parts, generators and the big autoencoder beside recorded numbers of the invariances' authors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import biggan, flow, recipes
from zoo.layouts import Layout, Rule
from zoo.parity import Fixture

Answers = dict[str, Tensor]


def spectralnorm(fixture: Fixture) -> Answers:
    """A convolution and a linear map; the gradient of the former; a call leaves the state as it is.

    Raises:
        ValueError: if it does not, or if the file has weights of anything else.
    """
    strangers = [key for key in fixture.state if not key.startswith(("conv.", "lin."))]
    if strangers:
        raise ValueError(f"spectralnorm: expected weights of conv and lin, got {', '.join(strangers)}")
    x, xl = fixture["in/x"], fixture["in/xl"]
    y, gradients = _spectral(fixture, "conv", x)
    yl, _ = _spectral(fixture, "lin", xl)
    return {"out/y": y, "out/yl": yl, **{f"grad/{key}": value for key, value in gradients.items()}}


def _spectral(fixture: Fixture, name: str, x: Tensor) -> tuple[Tensor, Answers]:
    state = {key: value for key, value in fixture.state.items() if key.startswith(f"{name}.")}
    weight, bias = state[f"{name}.module.weight_bar"].shape, f"{name}.module.bias" in state
    kind = "biggan_linear" if len(weight) == 2 else "biggan_conv"
    options: dict[str, Any] = {"out": weight[0], "bias": bias}
    options |= {} if len(weight) == 2 else {"kernel": weight[-1]}
    value = g.input("x", tuple(x.shape[1:]))
    graph = g.graph(y=g.make(kind, value, name=name, **options))
    net, layout = _loaded(graph, biggan.spectral_rules(f"{name}.", f"{name}."), state)
    y: Tensor = net.train()(x)
    (y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum().backward()
    after = layout.write(net.state_dict())
    if any(not torch.equal(after[key], kept) for key, kept in state.items()):
        raise ValueError(f"spectralnorm: a call of {name} changed its state")
    return y, layout.gradients(net)


def selfattention(fixture: Fixture) -> Answers:
    """Self-attention."""
    x = fixture["in/x"]
    graph = g.graph(y=g.biggan_attention(g.input("x", tuple(x.shape[1:])), name="attention"))
    net, _ = generated(graph, biggan.attention_rules("attention."), fixture)
    return {"out/y": net(x)}


def gblock(fixture: Fixture) -> Answers:
    """A block in evaluation and then in training mode, and what the latter leaves in its batch norms."""
    x, given = fixture["in/x"], fixture.config
    graph = block_graph(given, x)
    net, layout = generated(graph, biggan.block_rules(), fixture, unused_norms(given))
    inputs = (x, fixture["in/cond"].flatten(1)) if len(graph.inputs) > 1 else (x,)
    answers = {"out/y_eval": net(*inputs)}
    if fixture.expects("out/y_train", "after_train/"):
        answers["out/y_train"] = net.train()(*inputs)
        answers |= {f"after_train/{key}": value for key, value in layout.write(net.state_dict()).items()}
    return answers


def block_graph(given: Mapping[str, Any], x: Tensor) -> g.Graph:
    """A block of an authors' configuration; without a condition, the size meant for it becomes their norms' eps.

    Raises:
        ValueError: for what no generator of theirs uses.
    """
    if given.get("downsample") or tuple(given.get("kernel_size", (3, 3))) != (3, 3):
        raise ValueError("gblock: expected 3x3 convolutions and no downsampling, got other options")
    normed, conditional, z_dim = given.get("bn", True), given.get("conditional", True), given.get("z_dim", 148)
    norm: biggan.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    value = g.input("x", tuple(x.shape[1:]))
    known = g.input("condition", z_dim) if normed and conditional else None
    y = biggan.block(
        value, known, given["out_channel"], given.get("upsample", True), norm if normed else None, eps=float(z_dim)
    )
    return g.graph(inputs=(value,) if known is None else (value, known), y=y)


def unused_norms(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Prefixes of the norms that a block of an authors' configuration has and leaves out."""
    return () if given.get("bn", True) else ("HyperBN",)


def classup(fixture: Fixture) -> Answers:
    """The network that reads class probabilities from a latent."""
    given = fixture.config
    depth, hidden, out = given.get("depth", 2), given.get("hidden_dim", 2000), given.get("out_dim", 1000)
    logits = flow.fully_connected(g.input("x", given["dim"]), out, hidden, depth)
    graph = g.graph(y=g.activation(logits, "softmax"))
    net, _ = generated(graph, flow.fully_connected_rules(depth), fixture)
    y = net(fixture["in/x"].flatten(1))
    return {"out/y": y, "out/y4d": y}


def decoder_small(fixture: Fixture) -> Answers:
    """A whole decoder of few channels, and the class probabilities that it reads."""
    given = fixture.config
    norm: biggan.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    extra = given.get("extra_z_dims", ())
    graph = biggan.decoder(
        size_of(fixture),
        given["z_dim"] + sum(extra),
        given.get("chn", 96),
        given.get("n_class", biggan.CLASSES),
        given.get("classup_hidden", 2000),
        norm,
        extra,
    )
    net, _ = generated(graph, biggan.decoder_rules(), fixture)
    image, classes = net(fixture["in/z"].flatten(1))
    return {"out/x": thinned(image, given), "out/class_probs": classes}


def generator_small(fixture: Fixture) -> Answers:
    """A whole generator of few channels, from a class embedding and from a class."""
    given, z, classes = fixture.config, fixture["in/z"].flatten(1), fixture.config.get("n_class", biggan.CLASSES)
    norm: biggan.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    graph = biggan.generator(size_of(fixture), z.shape[1], given.get("chn", 96), classes, norm)
    net, _ = generated(graph, biggan.generator_rules(), fixture)
    answers = {}
    if "in/embedding" in fixture:
        image = net.get_submodule("painter")(latent=z, embedding=fixture["in/embedding"].flatten(1))
        answers["out/x"] = thinned(image, given)
    if "out/x_cls" in fixture:
        noted = re.search(r"one-hot of class (\d+)", given.get("note", ""))
        chosen = torch.eye(classes)[[int(noted[1]) if noted else ONE_HOT]].expand(len(z), -1)
        answers["out/x_cls"] = thinned(net(latent=z, classes=chosen), given)
    return answers


ONE_HOT = 3
"""The class of ``x_cls`` where a file's note does not name it."""


def size_of(fixture: Fixture) -> int:
    """Height and width of a generator's images, as the configuration, its class or the file's name say."""
    size: int | None = fixture.config.get("size") or fixture.config.get("in_size")
    named = f"{fixture.config.get('class', '')} {fixture.config.get('target', '')} {fixture.component}"
    return size or next((known for known in biggan.WIDTHS if str(known) in named), min(biggan.WIDTHS))


def bigae(given: Mapping[str, Any], recipe: Mapping[str, Any]) -> BuiltGraph:
    """The authors' ``BigAE`` of a configuration, ``Model``, with generated weights."""
    norm: biggan.Norm = "actnorm" if given.get("norm", "an") == "an" else "batch"
    last: biggan.Norm = "actnorm" if given.get("use_actnorm_in_dec") else "batch"
    graph = biggan.autoencoder(
        given["in_size"], given["z_dim"], norm=norm, last_norm=last, normalised=2, layers=layers_of(given)
    )
    return by_recipe(graph, biggan.autoencoder_rules(), recipe)[0]


def layers_of(given: Mapping[str, Any]) -> int:
    """Of the ResNet that an authors' configuration names, a ResNet-101 by default."""
    name: str = given.get("type", "resnet101")
    return int(name.removeprefix("resnet"))


def generated(
    graph: g.Graph, rules: Sequence[Rule], fixture: Fixture, beside: Sequence[str] = ()
) -> tuple[BuiltGraph, Layout]:
    """A network in evaluation mode with the weights of the file, or those that its recipe generates.

    Arguments:
        beside: prefixes of weights that the network does not have.
    """
    if not fixture.state:
        return by_recipe(graph, rules, fixture.config["recipe"])
    net, layout = _loaded(graph, rules, fixture.state, beside)
    return net.eval(), layout


def by_recipe(graph: g.Graph, rules: Sequence[Rule], recipe: Mapping[str, Any]) -> tuple[BuiltGraph, Layout]:
    """A network in evaluation mode with the weights that a fixture's recipe generates."""
    net = graph.build()
    layout = Layout(net, rules)
    shapes = {key: value.shape for key, value in layout.entries.items()}
    layout.load(net, recipes.invariances(shapes, recipe["salt"], recipe.get("gain", 1.0)))
    return net.eval(), layout


def thinned(image: Tensor, given: Mapping[str, Any]) -> Tensor:
    """The pixels of an image that files hold: from the first of ``sub`` in steps of the second."""
    start, step = given.get("sub", (1, 5))
    return image[..., start::step, start::step].detach()


def _loaded(
    graph: g.Graph, rules: Sequence[Rule], state: Mapping[str, Tensor], beside: Sequence[str] = ()
) -> tuple[BuiltGraph, Layout]:
    net = graph.build()
    layout = Layout(net, rules)
    layout.load(net, state, beside)
    return net, layout
