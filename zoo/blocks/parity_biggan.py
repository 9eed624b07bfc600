"""BigGAN's parts, generators and the big autoencoder beside recorded numbers of the invariances' authors."""

from __future__ import annotations

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
        ValueError: if it does not.
    """
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
    net, _ = _loaded(graph, biggan.attention_rules("attention."), fixture.state)
    return {"out/y": net(x)}


def gblock(fixture: Fixture) -> Answers:
    """A block in evaluation and then in training mode, and what the latter leaves in its batch norms."""
    given, x, condition = fixture.config, fixture["in/x"], fixture["in/cond"].flatten(1)
    value, known = g.input("x", tuple(x.shape[1:])), g.input("condition", condition.shape[1])
    y = biggan.block(value, known, given["out_channel"], given.get("upsample", True))
    net, layout = _loaded(g.graph(inputs=(value, known), y=y), biggan.block_rules(), fixture.state)
    answers = {"out/y_eval": net.eval()(x=x, condition=condition), "out/y_train": net.train()(x=x, condition=condition)}
    return answers | {f"after_train/{key}": value for key, value in layout.write(net.state_dict()).items()}


def classup(fixture: Fixture) -> Answers:
    """The network that reads class probabilities from a latent."""
    given = fixture.config
    depth = given.get("depth", 2)
    logits = flow.fully_connected(g.input("x", given["dim"]), given["out_dim"], given["hidden_dim"], depth)
    graph = g.graph(y=g.activation(logits, "softmax"))
    net, _ = _loaded(graph, flow.fully_connected_rules(depth), fixture.state)
    y = net(fixture["in/x"].flatten(1))
    return {"out/y": y, "out/y4d": y}


def decoder_small(fixture: Fixture) -> Answers:
    """A whole decoder of few channels, and the class probabilities that it reads."""
    given = fixture.config
    norm: biggan.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    graph = biggan.decoder(
        given["size"], given["z_dim"], given["chn"], given["n_class"], given.get("classup_hidden", 2000), norm
    )
    net, _ = generated(graph, biggan.decoder_rules(), given["recipe"])
    image, classes = net(fixture["in/z"].flatten(1))
    return {"out/x": thinned(image, given), "out/class_probs": classes}


def generator_small(fixture: Fixture) -> Answers:
    """A whole generator of few channels, from a class embedding and from a class."""
    given, z = fixture.config, fixture["in/z"].flatten(1)
    graph = biggan.generator(
        given.get("size", 128 if "Generator128" in given.get("class", "") else 256),
        given["code_dim"],
        given["chn"],
        given["n_class"],
    )
    net, _ = generated(graph, biggan.generator_rules(), given["recipe"])
    chosen = torch.eye(given["n_class"])[[ONE_HOT]].expand(len(z), -1)
    painter = net.get_submodule("painter")
    answers = {"out/x": thinned(painter(latent=z, embedding=fixture["in/embedding"].flatten(1)), given)}
    return answers | {"out/x_cls": thinned(net(latent=z, classes=chosen), given)}


ONE_HOT = 3
"""The class of ``x_cls`` in all files (their ``note``)."""


def bigae(given: Mapping[str, Any], recipe: Mapping[str, Any]) -> BuiltGraph:
    """The authors' ``BigAE`` of a configuration, ``Model``, with generated weights."""
    norm: biggan.Norm = "actnorm" if given.get("norm", "an") == "an" else "batch"
    last: biggan.Norm = "actnorm" if given.get("use_actnorm_in_dec") else "batch"
    graph = biggan.autoencoder(given["in_size"], given["z_dim"], norm=norm, last_norm=last, normalised=2)
    return generated(graph, biggan.autoencoder_rules(), recipe)[0]


def generated(graph: g.Graph, rules: Sequence[Rule], recipe: Mapping[str, Any]) -> tuple[BuiltGraph, Layout]:
    """A network in evaluation mode with the weights that a fixture's recipe generates."""
    net = graph.build()
    layout = Layout(net, rules)
    shapes = {key: value.shape for key, value in layout.entries.items()}
    layout.load(net, recipes.invariances(shapes, recipe["salt"], recipe["gain"]))
    return net.eval(), layout


def thinned(image: Tensor, given: Mapping[str, Any]) -> Tensor:
    """The pixels of an image that files hold: from the first of ``sub`` in steps of the second."""
    start, step = given.get("sub", (1, 5))
    return image[..., start::step, start::step].detach()


def _loaded(graph: g.Graph, rules: Sequence[Rule], state: Mapping[str, Tensor]) -> tuple[BuiltGraph, Layout]:
    net = graph.build()
    layout = Layout(net, rules)
    layout.load(net, state)
    return net, layout
