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
from zoo.blocks.parity_autoencoders import pictures
from zoo.blocks.parity_biggan import block_graph, size_of, unused_norms
from zoo.layouts import Layout, Rule
from zoo.parity import Fixture
from zoo.parity_files import every_nth

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
    """A convolution (or linear map) with a spectrally normalised weight, and the gradient of the sum of squares.

    Raises:
        ValueError: for more than one power iteration, which no network of theirs has.
    """
    x, shape, given = fixture["in/x"], fixture["state/module.weight_bar"].shape, fixture.config.get("params", {})
    if given.get("power_iterations", 1) != 1:
        raise ValueError(f"power_iterations: expected 1, got {given['power_iterations']}")
    value, bias = image_input(fixture), "state/module.bias" in fixture
    if len(shape) == 2:
        y = g.biggan_linear(value, shape[0], bias=bias, name="layer")
    else:
        y = g.biggan_conv(value, shape[0], kernel=shape[-1], bias=bias, name="layer")
    net, layout = loaded(g.graph(y=y), biggan.spectral_rules("layer."), fixture)
    layer = cast(SpectralWeight, net.get_submodule("layer"))
    found = net.train()(x) if len(shape) == 2 else convolved(layer, x, given.get("module", ""))
    loss = found.square().sum()
    loss.backward()
    answers = {"out/y": found, "out/weight": layer.normalised(), "loss/sumsq": loss}
    return answers | {f"grad/{key}": value for key, value in layout.gradients(net).items()}


def convolved(layer: SpectralWeight, x: Tensor, written: str) -> Tensor:
    """What a normalised convolution makes of x, with the stride and padding of a call written as ``Conv2d(4,6,3)``."""
    names = ("in", "out", "kernel", "stride", "padding")
    parts = re.sub(r"^\w*\(|\)$|\s", "", written).split(",")
    given = {name: part.rpartition("=") for name, part in zip(names, parts, strict=False)}
    options = {key or name: value for name, (key, _, value) in given.items()}
    bias = getattr(layer, "bias", None)
    return F.conv2d(x, layer.normalised(), bias, int(options.get("stride", 1)), int(options.get("padding", 0)))


def selfattention(fixture: Fixture) -> Answers:
    """Self-attention."""
    graph = g.graph(y=g.biggan_attention(image_input(fixture), name="attention"))
    net, _ = loaded(graph, biggan.attention_rules("attention."), fixture)
    return {"out/y": net(fixture["in/x"])}


def conditional_norm(fixture: Fixture) -> Answers:
    """A conditional batch norm in evaluation and then in training mode with what it keeps; or a conditional actnorm."""
    x, condition = fixture["in/x"], fixture["in/y"].flatten(1)
    over: biggan.Norm = "actnorm" if "condactnorm" in fixture.component else "batch"
    value, known = image_input(fixture), g.input("condition", condition.shape[1])
    graph = g.graph(inputs=(value, known), y=g.biggan_norm(value, known, over=over, name="norm"))
    net, layout = loaded(graph, biggan.norm_rules("norm."), fixture)
    answers = {"out/eval": net(x, condition), "out/y": net(x, condition), "out/train": net.train()(x, condition)}
    after = layout.write(net.state_dict())
    return answers | {f"out/after_{key.rpartition('.')[2]}": value for key, value in after.items()}


def gblock(fixture: Fixture) -> Answers:
    """A block in evaluation and then in training mode."""
    given, x = fixture.config["params"], fixture["in/x"]
    graph = block_graph(given, x)
    net, _ = loaded(graph, biggan.block_rules(), fixture, unused_norms(given))
    inputs = (x, fixture["in/condition"].flatten(1)) if len(graph.inputs) > 1 else (x,)
    return {"out/eval": net(*inputs), "out/train": net.train()(*inputs)}


def generator(fixture: Fixture) -> Answers:
    """A whole generator, from classes and from class embeddings."""
    given, z = fixture.config["params"], fixture["in/z"].flatten(1)
    classes, norm = given.get("n_class", biggan.CLASSES), last_norm(given)
    graph = biggan.generator(size_of(fixture), z.shape[1], given.get("chn", 96), classes, norm)
    net, _ = loaded(graph, biggan.generator_rules(), fixture)
    chosen = F.one_hot(fixture["in/cls"].long(), classes).float()
    with torch.no_grad():
        embedding = net.get_submodule("embed")(chosen)
        images = {"img": net(z, chosen)}
        if "in/emb" in fixture:
            images["img_from_emb"] = net.get_submodule("painter")(z, fixture["in/emb"].flatten(1))
    return {"out/label_emb": embedding, **pictures(fixture, images)}


def variable_generator(fixture: Fixture) -> Answers:
    """A generator of a latent of another size, given class probabilities."""
    given, z, chosen = fixture.config["params"], fixture["in/z"].flatten(1), fixture["in/class_probs"].flatten(1)
    extra, classes = given.get("extra_z_dims", []), given.get("n_class", biggan.CLASSES)
    graph = biggan.generator(size_of(fixture), z.shape[1], given.get("chn", 96), classes, last_norm(given), extra)
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
    for key in (key for key in fixture.expected if key.startswith("out/img_t")):
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
        answers[key] = every_nth(image, fixture[key])
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
