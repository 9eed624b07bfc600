"""BigGAN's parts and generators beside recorded numbers of Net2Net's code, and of ports by others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import biggan, biggan_deep, biggan_layouts, recipes
from zoo.blocks.biggan_kinds import SpectralWeight
from zoo.layouts import Layout, Rule
from zoo.parity import Fixture

Answers = dict[str, Tensor]
Network = tuple[BuiltGraph, Layout]


def loaded(network: g.Graph, rules: Sequence[Rule], fixture: Fixture, beside: Sequence[str] = ()) -> Network:
    """The network in eval mode with the weights of the file, or those that its rule generates."""
    net = network.build().eval()
    layout = Layout(net, rules)
    shapes = {key: value.shape for key, value in layout.entries.items()}
    layout.load(net, fixture.state or recipes.net2net(shapes, fixture.config["seed"]), beside)
    return net, layout


def image_input(fixture: Fixture) -> g.Value:
    """The input "x" of a graph, of the shape of the file's."""
    return g.input("x", tuple(fixture["in/x"].shape[1:]))


def spectralnorm(fixture: Fixture) -> Answers:
    """A convolution (or linear map) with a spectrally normalised weight, and the gradient of the sum of squares."""
    x, shape = fixture["in/x"], fixture["state/module.weight_bar"].shape
    value, bias = image_input(fixture), "state/module.bias" in fixture
    if len(shape) == 2:
        y = g.biggan_linear(value, shape[0], bias=bias, name="layer")
    else:
        y = g.biggan_conv(value, shape[0], kernel=shape[-1], bias=bias, name="layer")
    net, layout = loaded(g.graph(y=y), biggan.spectral_rules("layer."), fixture)
    layer = cast(SpectralWeight, net.get_submodule("layer"))
    found = net.train()(x)
    loss = found.square().sum()
    loss.backward()
    answers = {"out/y": found, "out/weight": layer.normalised(), "loss/sumsq": loss}
    return answers | {f"grad/{key}": value for key, value in layout.gradients(net).items()}


def selfattention(fixture: Fixture) -> Answers:
    """Self-attention."""
    graph = g.graph(y=g.biggan_attention(image_input(fixture), name="attention"))
    net, _ = loaded(graph, biggan.attention_rules("attention."), fixture)
    return {"out/y": net(fixture["in/x"])}


def conditional_norm(fixture: Fixture) -> Answers:
    """A conditional batch norm in evaluation and then in training mode with what it keeps; or a conditional actnorm."""
    x, condition = fixture["in/x"], fixture["in/y"].flatten(1)
    over: biggan.Norm = "actnorm" if "state/bn.loc" in fixture else "batch"
    value, known = image_input(fixture), g.input("condition", condition.shape[1])
    graph = g.graph(inputs=(value, known), y=g.biggan_norm(value, known, over=over, name="norm"))
    net, layout = loaded(graph, biggan.norm_rules("norm."), fixture)
    answers = {"out/eval": net(x, condition), "out/y": net(x, condition), "out/train": net.train()(x, condition)}
    after = layout.write(net.state_dict())
    return answers | {f"out/after_{key.rpartition('.')[2]}": value for key, value in after.items()}


def gblock(fixture: Fixture) -> Answers:
    """A block in evaluation and then in training mode."""
    given, x = fixture.config["params"], fixture["in/x"]
    graph = block_graph(given, image_input(fixture))
    skipped = () if given.get("bn", True) else ("HyperBN",)
    net, _ = loaded(graph, biggan.block_rules(), fixture, skipped)
    inputs = (x, fixture["in/condition"].flatten(1))[: len(graph.inputs)]
    return {"out/eval": net(*inputs), "out/train": net.train()(*inputs)}


def block_graph(given: dict[str, Any], x: g.Value) -> g.Graph:
    """A block of an authors' configuration; without a condition, the size meant for it becomes their norms' eps."""
    normed, conditional, z_dim = given.get("bn", True), given.get("conditional", True), given.get("z_dim", 148)
    norm: biggan.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    known = g.input("condition", z_dim) if normed and conditional else None
    y = biggan.block(
        x, known, given["out_channel"], given.get("upsample", True), norm if normed else None, eps=float(z_dim)
    )
    return g.graph(inputs=(x,) if known is None else (x, known), y=y)


def generator(fixture: Fixture) -> Answers:
    """A whole generator, from classes and from class embeddings."""
    given, z, chosen = fixture.config["params"], fixture["in/z"].flatten(1), fixture["in/cls"]
    size = 256 if "Generator256" in fixture.config["target"] else 128
    classes, norm = given.get("n_class", biggan.CLASSES), last_norm(given)
    graph = biggan.generator(size, z.shape[1], given.get("chn", 96), classes, norm)
    net, _ = loaded(graph, biggan.generator_rules(), fixture)
    with torch.no_grad():
        embedding = net.get_submodule("embed")(F.one_hot(chosen, classes).float())
        images = {"img": net(z, F.one_hot(chosen, classes).float())}
        images["img_from_emb"] = net.get_submodule("painter")(z, fixture["in/emb"].flatten(1))
    return {"out/label_emb": embedding, **pictures(fixture, images)}


def variable_generator(fixture: Fixture) -> Answers:
    """A generator of a latent of another size, given class probabilities."""
    given, z, chosen = fixture.config["params"], fixture["in/z"].flatten(1), fixture["in/class_probs"].flatten(1)
    size = 256 if "Generator256" in fixture.config["target"] else 128
    extra, classes = given.get("extra_z_dims", []), given.get("n_class", biggan.CLASSES)
    graph = biggan.generator(size, z.shape[1], given.get("chn", 96), classes, last_norm(given), extra)
    net, _ = loaded(graph, biggan.generator_rules(), fixture)
    with torch.no_grad():
        return pictures(fixture, {"img": net(z, chosen)})


def torch_generator(fixture: Fixture) -> Answers:
    """The generator of BigBiGAN's port, in its authors' layout: one class, the first, for all."""
    given, z = fixture.config["params"], fixture["in/z"].flatten(1)
    size, classes = given["resolution"], given["n_classes"]
    graph = biggan.generator(size, z.shape[1], given["G_ch"], classes, unit="clamp", last_eps=1e-5)
    net = graph.build().eval()
    layout = Layout(net, biggan_layouts.torch_rules(size), spare=biggan_layouts.SPARE)
    shapes = {key: value.shape for key, value in layout.entries.items()}
    layout.load(net, fixture.state or recipes.net2net_aliased(shapes, fixture.config["seed"]))
    with torch.no_grad():
        image = net(z, F.one_hot(torch.zeros(len(z), dtype=torch.int64), classes).float())
    return pictures(fixture, {"img": image})


def deep_generator(fixture: Fixture) -> Answers:
    """BigGAN-deep's generator at several truncations, in the layout of its port to torch."""
    given, z, chosen = fixture.config["params"], fixture["in/z"].flatten(1), fixture["in/cls"]
    layers, place, seed = given["layers"], given["attention_layer_position"], fixture.config.get("seed", 0)
    answers = {}
    for key in fixture.expected:
        graph = biggan_deep.generator(
            [(bool(up), before, after) for up, before, after in layers],
            place,
            given["z_dim"],
            given["channel_width"],
            given["num_classes"],
            float(key.removeprefix("out/img_t")),
            given.get("n_stats", 51),
            exchanged=True,
        )
        net = graph.build().eval()
        layout = Layout(net, biggan_deep.generator_rules(len(layers), place))
        shapes = {name: value.shape for name, value in layout.entries.items()}
        layout.load(net, fixture.state or _iterated(recipes.net2net_aliased(shapes, seed)))
        with torch.no_grad():
            image = net(z, F.one_hot(chosen, given["num_classes"]).float())
        stride = image.shape[-1] // fixture[key].shape[-1]
        answers[key] = image[..., ::stride, ::stride]
    return answers


def _iterated(state: Answers) -> Answers:
    """A generated state after one power iteration, as the rule of BigGAN-deep's files has it."""
    state = dict(state)
    for key in [key.removesuffix("weight_orig") for key in state if key.endswith("weight_orig")]:
        matrix = state[key + "weight_orig"].flatten(1)
        v = F.normalize(matrix.mT @ state[key + "weight_u"], dim=0, eps=1e-4)
        state |= {key + "weight_v": v, key + "weight_u": F.normalize(matrix @ v, dim=0, eps=1e-4)}
    return state


def last_norm(given: dict[str, Any]) -> biggan.Norm:
    """The norm before a generator's last convolution."""
    return "actnorm" if given.get("use_actnorm") else "batch"


def pictures(fixture: Fixture, images: Answers) -> Answers:
    """What a file holds of images: every n-th pixel, ``img_s4``, and numbers of the first, ``img_stats``."""
    answers = {}
    for key in fixture.expected:
        match = re.fullmatch(r"out/(.*)_s(\d+)", key)
        if match and match[1] in images:
            stride = int(match[2])
            answers[key] = images[match[1]][..., ::stride, ::stride]
    image = images["img"]
    return answers | {"out/img_stats": torch.stack([image.mean(), image.std(), image.abs().max()])}
