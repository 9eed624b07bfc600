"""Net2Net's components beside recorded numbers of the authors' code."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import embedders, flow, recipes
from zoo.blocks import parity_autoencoders as shared
from zoo.blocks import parity_losses as judged
from zoo.layouts import Layout, Rule
from zoo.net2net import graph, losses
from zoo.net2net import parity_data as data
from zoo.net2net import parity_generators as generators
from zoo.net2net.published import translator_rules
from zoo.parity import TOLERANCE, Checks, Fixture

Answers = dict[str, Tensor]


def loaded(network: g.Graph, rules: Sequence[Rule], fixture: Fixture) -> BuiltGraph:
    """The network in eval mode with the weights of the file, or those that its rule generates."""
    net = network.build().eval()
    layout = Layout(net, rules)
    state = fixture.state
    if not state:
        shapes = {key: value.shape for key, value in layout.entries.items()}
        state = recipes.net2net(shapes, fixture.config["seed"])
    layout.load(net, state)
    return net


def vector(value: Tensor) -> Tensor:
    """(B, C, 1, 1) or (B, C) as (B, C)."""
    return value.flatten(1).float()


def actnorm(fixture: Fixture) -> Answers:
    """Forward, log-det and reverse of images and vectors, and what the first batch sets."""
    channels = fixture.config["params"]["num_features"]
    rules = [Rule("norm." + rule.ours, rule.theirs, rule.form) for rule in flow.NORM]
    answers: Answers = {}
    shapes = {"4": (channels, None, None), "2": (channels,)}
    for rank, shape in ((r, s) for r, s in shapes.items() if f"in/x{r}" in fixture):
        network = g.graph(y=g.actnorm(g.input("x", shape), log_scale=False, name="norm"))
        net = loaded(network, rules, fixture)
        y, logdet = net(fixture[f"in/x{rank}"])
        answers |= {f"out/y{rank}": y, f"out/logdet{rank}": logdet, f"out/rev{rank}": net.inverse(y)[0]}
        if f"in/init_x{rank}" not in fixture:
            continue
        fresh = network.build().train()
        y, logdet = fresh(fixture[f"in/init_x{rank}"])
        answers |= {f"out/init_y{rank}": y, f"out/init_logdet{rank}": logdet}
        state = Layout(fresh, rules).write(fresh.state_dict())
        answers |= {f"out/init_{key}{rank}": value for key, value in state.items()}
    return answers


def activation_and_shuffle(fixture: Fixture) -> Answers:
    """A leaky ReLU and a fixed permutation, both ways."""
    params = fixture.config["params"]
    given = vector(fixture["in/x"])
    channels = given.shape[1]
    relu = g.graph(y=g.legacy_leaky_relu(g.input("x", channels), slope=params.get("alpha", 0.9))).build()
    shuffle = loaded(
        g.graph(y=g.shuffle(g.input("x", channels), name="shuffle")),
        [Rule(r"shuffle\.permutation", "forward_shuffle_idx", copies=(("backward_shuffle_idx", Tensor.argsort),))],
        fixture,
    )
    return {
        "out/lrelu": relu(given)[0],
        "out/lrelu_rev": relu.inverse(given)[0],
        "out/shuffle": shuffle(given)[0],
        "out/shuffle_rev": shuffle.inverse(given)[0],
    }


def both_ways(net: BuiltGraph, fixture: Fixture) -> Answers:
    """y and log-det of x, and the reverse pass of x, given an embedding "in/xc" if there is one."""
    x = vector(fixture["in/x"])
    h = (vector(fixture["in/xc"]),) if "in/xc" in fixture else ()
    y, logdet = net(x, *h)
    return {"out/y": y, "out/logdet": logdet, "out/rev": net.inverse(x, *h)[0]}


def coupling(fixture: Fixture) -> Answers:
    """A double coupling, with or without a condition."""
    params = fixture.config["params"]
    x, h = _inputs(params)
    depth = params.get("hidden_depth", params.get("depth", 2))
    y = flow.double_coupling(x, h, params["hidden_dim"], depth, exact_inverse=False)
    return both_ways(loaded(g.graph(y=y), flow.coupling_rules(theirs=""), fixture), fixture)


def block(fixture: Fixture) -> Answers:
    """A block of a flow, with or without a condition."""
    params = fixture.config["params"]
    x, h = _inputs(params)
    activation: flow.Activation = "none" if h is None else params.get("activation", "lrelu")
    y = flow.flow(
        x,
        h,
        depth=1,
        hidden=params["hidden_dim"],
        layers=params["hidden_depth"],
        activation=activation,
        exact_logdet=False,
        exact_inverse=False,
    )
    return both_ways(loaded(g.graph(y=y), flow.block_rules(r"flow\.(0)\.", ""), fixture), fixture)


def _inputs(params: dict[str, Any]) -> tuple[g.Value, g.Value | None]:
    x = g.input("x", params["in_channels"])
    return x, g.input("h", params["cond_channels"]) if "cond_channels" in params else None


def fully_connected(fixture: Fixture) -> Answers:
    """A conditioner network in eval mode and, if asked for, in training mode with its statistics afterwards."""
    params = fixture.config["params"]
    norm = _norm(params, "use_")
    x, depth = g.input("x", params["dim"]), params["depth"]
    tanh = bool(params.get("use_tanh"))
    y = flow.fully_connected(
        x, params.get("out_dim") or params["dim"], params.get("hidden_dim", 256), depth, norm, tanh
    )
    rules = flow.fully_connected_rules(depth, norm)
    net = loaded(g.graph(y=y), rules, fixture)
    answers = {"out/y_eval": net(vector(fixture["in/x"]))}
    if "out/y_train" in fixture:
        answers["out/y_train"] = net.train()(vector(fixture["in/x"]))
    state = Layout(net, rules).write(net.state_dict())
    return answers | {f"out/after_{key}": value for key, value in state.items()}


def _norm(params: dict[str, Any], prefix: str) -> flow.Norm:
    return "batch" if params.get(f"{prefix}bn") else "actnorm" if params.get(f"{prefix}an") else "none"


def dense_embedder(fixture: Fixture) -> Answers:
    """The embedder of vectors."""
    params = fixture.config["params"]
    dims = params.get("given_dims")
    if not isinstance(dims, list):
        dims = embedders.dense_dims(params["in_dim"], params["up_dim"], params.get("depth", 4))
    z = g.input("z", dims[0])
    net = loaded(g.graph(h=embedders.dense(z, dims)), embedders.dense_rules(len(dims) - 1), fixture)
    return {"out/y": net(vector(fixture["in/x"]))}


def spatial_embedder(fixture: Fixture) -> Answers:
    """The embedder of feature maps."""
    params = fixture.config["params"]
    z = g.input("z", (params["in_channels"], params["in_spatial_size"], params["in_spatial_size"]))
    h = embedders.spatial(z, params["emb_dim"], params.get("n_down", 4))
    return {"out/y": loaded(g.graph(h=h), embedders.spatial_rules(), fixture)(fixture["in/x"])}


def unconditional(fixture: Fixture) -> Answers:
    """An unconditional flow: latent, log-det, the way back, a sample from given noise."""
    params = fixture.config["params"]
    network = graph.unconditional(
        dim=params["in_channels"],
        depth=params["n_flows"],
        hidden=params["hidden_dim"],
        layers=params["hidden_depth"],
        exact_inverse=False,
        coupling_only=fixture.component.startswith("pureaffine"),
    )
    return transported(loaded(network, flow.flow_rules(), fixture), fixture)


def without_embedder(fixture: Fixture) -> Answers:
    """A flow that is given the embedding itself."""
    params = fixture.config["params"]
    network = graph.conditional_flow(
        dim=params["in_channels"],
        embedding=params["embedding_dim"],
        depth=params["n_flows"],
        hidden=params["hidden_dim"],
        layers=params["hidden_depth"],
        activation=params.get("activation", "lrelu"),
        exact_logdet=False,
        conditioning=params.get("conditioning_option", "none"),
    )
    return transported(loaded(network, flow.flow_rules(), fixture), fixture, vector(fixture["in/embedding"]))


def transported(net: BuiltGraph, fixture: Fixture, *condition: Tensor) -> Answers:
    """What a flow does with "in/x" and, backwards, with "in/z"."""
    y, logdet = net(vector(fixture["in/x"]), *condition)
    answers = {"out/y": y, "out/logdet": logdet, "out/rev_of_y": net.inverse(y, *condition)[0]}
    if "in/z" in fixture:
        answers["out/sample"] = net.inverse(vector(fixture["in/z"]), *condition)[0]
    return answers | {"out/nll": losses.half_square(y)}


def translator(params: dict[str, Any]) -> tuple[g.Graph, list[Rule]]:
    """The authors' ``ConditionalFlatCouplingFlow`` with their arguments, and its key names."""
    norm, layers = _norm(params, "conditioner_use_"), params.get("conditioning_depth", 2)
    network = graph.translator(
        dim=params["in_channels"],
        condition=params["conditioning_dim"],
        embedding=params["embedding_dim"],
        depth=params["n_flows"],
        hidden=params["hidden_dim"],
        layers=params["hidden_depth"],
        activation=params.get("activation", "lrelu"),
        exact_logdet=False,
        conditioning=params.get("conditioning_option", "none"),
        embedder_hidden=params.get("conditioning_hidden_dim", 256),
        embedder_layers=layers,
        embedder_norm=norm,
    )
    return network, translator_rules(layers, norm)


def conditional(fixture: Fixture) -> Answers:
    """A whole flow in eval mode: latent, log-det, the way back, a sample from given noise."""
    net = loaded(*translator(fixture.config["params"]), fixture)
    c = given_condition(fixture)
    return transported(net, fixture, c) | {"out/embedding": net.get_submodule("embedder")(c)}


def given_condition(fixture: Fixture) -> Tensor:
    """What the first expert says (B, K): recorded as it is, or as labels."""
    if "in/c" in fixture:
        return vector(fixture["in/c"])
    return F.one_hot(fixture["in/label"].long(), fixture.config["params"]["conditioning_dim"]).float()


def transfer(fixture: Fixture) -> Answers:
    """From one label to another, whole and blended."""
    params, alpha = fixture.config["params"], fixture.config["alpha"]
    net = loaded(*translator(params), fixture)
    ends, classes = (fixture[f"in/{end}"].long() for end in ("src", "dst")), params["conditioning_dim"]
    source, target = (F.one_hot(end, classes).float() for end in ends)
    z = vector(fixture["in/z"])
    v, logdet = net(z, source)
    moved = net.inverse(v, target)[0]
    return {"out/v": v, "out/logdet": logdet, "out/zt": moved, "out/z_alpha": (1 - alpha) * z + alpha * moved}


def training(fixture: Fixture) -> Answers:
    """Steps of the flow's training from the first batch on: losses, gradients, what is set, what has changed."""
    network, rules = translator(fixture.config["params"])
    net = loaded(network, rules, fixture).train()
    layout = Layout(net, rules)
    steps, rate = schedule(fixture)
    optimizer = losses.optimizer(net.parameters(), rate)
    x, c = vector(fixture["in/x"]), given_condition(fixture)
    answers: Answers = {}
    for step in range(steps):
        z, logdet = net(x, c)
        terms = losses.likelihood(z, logdet)
        for name, key in (("total", "total_loss"), ("nll", "nll_loss"), ("nlogdet", "nlogdet_loss")):
            answers[f"loss/{name}_{step}"] = terms[key].detach()
        optimizer.zero_grad()
        terms["total_loss"].backward()
        if step == 0:
            answers |= {"out/zz": z, "out/logdet": logdet}
            answers |= {f"init/{key}": v.clone() for key, v in layout.write(net.state_dict()).items()}
            answers |= {f"grad/{key}": v.clone() for key, v in layout.gradients(net).items()}
        optimizer.step()
    return answers | {f"after/{key}": v for key, v in layout.write(net.state_dict()).items()}


def schedule(fixture: Fixture) -> tuple[int, float]:
    """How many steps a file of training records (the losses of each), and the learning rate that it states."""
    steps = {int(key.rpartition("_")[2]) + 1 for key in fixture.expected if key.startswith("loss/")}
    stated = re.search(r"\blr=([\d.e+-]+)", fixture.config.get("mode", ""))
    rate = fixture.config.get("lr", stated[1] if stated else 1e-3)
    return max(steps, default=1), float(rate)


def trained_tolerance(fixture: Fixture, key: str) -> float:
    """Of an entry after training: wider for biases before a batch norm, and the means that it keeps of them.

    Such a bias has no effect and a gradient of rounding errors, which Adam turns into steps of the learning rate, up or
    down, later ones a little longer: two computations may part by twice that at every step. The mean follows with a
    momentum of 0.1, from the second batch on.
    """
    params, (steps, rate) = fixture.config["params"], schedule(fixture)
    normed = range(params.get("conditioning_depth", 2) + 1 if _norm(params, "conditioner_use_") == "batch" else 0)
    longest = (1 - losses.BETAS[0]) / math.sqrt(1 - losses.BETAS[1])
    apart = [0.0] + [2 * rate * (1 + longest * step) for step in range(steps)]  # after so many steps
    if key in {f"after/embedder.main.{3 * i}.bias" for i in normed}:
        return TOLERANCE + apart[steps]
    if key in {f"after/embedder.main.{3 * i + 1}.running_mean" for i in normed}:
        return TOLERANCE + sum(0.1 * 0.9 ** (steps - 1 - step) * apart[step] for step in range(steps))
    return TOLERANCE


CHECKS = Checks(
    {
        "bigae": shared.net2net_bigae,
        "basic_ae": shared.net2net_basic_ae,
        "diag_gaussian": shared.net2net_diag_gaussian,
        "dequant_vae": shared.net2net_dequant_vae,
        "resnet_encoder": shared.net2net_resnet_encoder,
        "disc": judged.net2net_disc,
        "ae_loss": judged.net2net_ae_loss,
        "actnorm": actnorm,
        "invlrelu_shuffle": activation_and_shuffle,
        "coupling": coupling,
        "cond_coupling": coupling,
        "uncond_block": block,
        "cond_block": block,
        "fc": fully_connected,
        "dense_embedder": dense_embedder,
        "embedder": spatial_embedder,
        "uncond_flow": unconditional,
        "pureaffine_flow": unconditional,
        "conditional_flow_noembedder": without_embedder,
        "cond_flow_train": training,
        "cond_flow": conditional,
        "domain_transfer": transfer,
        "spectralnorm": generators.spectralnorm,
        "selfattention": generators.selfattention,
        "condbn": generators.conditional_norm,
        "condactnorm": generators.conditional_norm,
        "gblock": generators.gblock,
        "biggan_gen": generators.generator,
        "vardim_gen": generators.variable_generator,
        "hf_biggan_deep": generators.deep_generator,
        "bigbigan_generator": generators.torch_generator,
        "captioner": data.captioner,
        "preprocess": data.preprocess,
        "zcodes": data.codes,
    },
    tolerances={
        "cond_flow_train*:after/*": trained_tolerance,
        "captioner*:out/seq*": 0.0,
        "preprocess*": 0.0,
        "zcodes": 0.0,
    },
)
