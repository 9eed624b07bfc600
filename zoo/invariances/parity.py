"""The invariances' components beside recorded numbers of the authors' code.

Their actnorm is set by its first batch in evaluation mode too, ours only in training: networks run in training mode,
which makes no other difference to them. What the authors returned as the log-det of their leaky ReLU is our option
``exact_logdet=False``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import embedders, flow, parity_biggan
from zoo.blocks import parity_autoencoders as shared
from zoo.iin import edits, losses
from zoo.iin.factors import chunks
from zoo.iin.graph import split_transformer
from zoo.iin.published import FLOW
from zoo.invariances import parity_networks as networks
from zoo.invariances.parity_networks import transformer
from zoo.layouts import Layout, Rule
from zoo.parity import Checks, Fixture

Answers = dict[str, Tensor]


def actnorm(fixture: Fixture) -> Answers:
    """Vectors and feature maps, both ways, and what the first batch sets."""
    answers: Answers = {}
    for rank in (rank for rank in ("4", "2") if f"in/x{rank}" in fixture):
        x = fixture[f"in/x{rank}"]
        graph = g.graph(y=g.actnorm(g.input("x", tuple(x.shape[1:])), log_scale=False, name="norm"))
        rules = _below("norm.", flow.NORM)
        net, _ = _loaded(graph, rules, fixture.state)
        y, logdet = net(x)
        answers |= {f"out/y{rank}": y, f"out/logdet{rank}": logdet, f"out/rev{rank}": net.inverse(y=x)[0]}
        if f"in/init_x{rank}" not in fixture:
            continue
        first = fixture[f"in/init_x{rank}"]
        fresh = g.graph(y=g.actnorm(g.input("x", tuple(first.shape[1:])), log_scale=False, name="norm")).build()
        answers[f"out/init_y{rank}"], answers[f"out/init_logdet{rank}"] = fresh(first)
        for key, value in Layout(fresh, rules).write(fresh.state_dict()).items():
            answers[f"out/init_{key}{rank}"] = value
    return answers


def shuffle_lrelu(fixture: Fixture) -> Answers:
    """The shuffle and the invertible leaky ReLU, both ways."""
    x = fixture["in/x"].flatten(1)
    value = g.input("x", x.shape[1])
    copy = ("backward_shuffle_idx", torch.argsort)
    rule = Rule(r"shuffle\.permutation", "forward_shuffle_idx", copies=(copy,))
    shuffle, _ = _loaded(g.graph(y=g.shuffle(value, name="shuffle")), [rule], fixture.state)
    lrelu = g.graph(y=g.leaky_relu(value, slope=fixture.config.get("alpha", 0.9))).build()
    answers: Answers = {}
    for name, net in (("shuffle", shuffle), ("lrelu", lrelu)):
        answers |= {f"out/{name}": net(x)[0], f"out/{name}_rev": net.inverse(y=x)[0]}
    return answers


def fcnet(fixture: Fixture) -> Answers:
    """A fully connected network."""
    given = fixture.config
    depth, norm = given["depth"], _norm(given)
    x, out = g.input("x", given["dim"]), given.get("out_dim") or given["dim"]
    y = flow.fully_connected(x, out, given.get("hidden_dim", 256), depth, norm, given.get("use_tanh", False))
    net, _ = _loaded(g.graph(y=y), flow.fully_connected_rules(depth, norm), fixture.state)
    return {"out/y": net.eval()(fixture["in/x"].flatten(1))}


def coupling(fixture: Fixture) -> Answers:
    """A double coupling with a condition, both ways."""
    given = fixture.config
    x, h = g.input("x", given["in_channels"]), g.input("condition", given["cond_channels"])
    depth = given.get("depth", given.get("hidden_depth", 2))
    graph = g.graph(inputs=(x, h), y=flow.double_coupling(x, h, given["hidden_dim"], depth))
    net, _ = _loaded(graph, flow.coupling_rules(theirs=""), fixture.state)
    return _both_ways(net, fixture, fixture["in/cond"])


def flowblock(fixture: Fixture) -> Answers:
    """One block of the flow."""
    rules = flow.block_rules(r"flow\.(\d)\.", "")
    return _flow(fixture, rules, fixture["in/cond"], fixture.config["cond_channels"], 1)


def whole_flow(fixture: Fixture) -> Answers:
    """A conditional flow with the embedding as its condition."""
    given = fixture.config
    return _flow(fixture, flow.flow_rules(), fixture["in/embedding"], given["embedding_dim"], given["n_flows"])


def _flow(fixture: Fixture, rules: Sequence[Rule], h: Tensor, condition: int, depth: int) -> Answers:
    given = fixture.config
    x, known = g.input("x", given["in_channels"]), g.input("condition", condition)
    nets = {}
    for exact in (False, True):
        y = flow.flow(
            x,
            known,
            depth=depth,
            hidden=given["hidden_dim"],
            layers=given["hidden_depth"],
            activation=given.get("activation", "lrelu"),
            exact_logdet=exact,
            conditioning=given.get("conditioning_option", "none"),
        )
        nets[exact], _ = _loaded(g.graph(inputs=(x, known), y=y), rules, fixture.state)
    answers = _both_ways(nets[False], fixture, h)
    double = nets[True].double()
    answers["out/logdet_true_f64"] = double(fixture["in/x"].flatten(1).double(), h.flatten(1).double())[1]
    return answers


def _both_ways(net: BuiltGraph, fixture: Fixture, condition: Tensor) -> Answers:
    x, h = fixture["in/x"].flatten(1), condition.flatten(1)
    y, logdet = net(x, h)
    answers = {"out/y": y, "out/logdet": logdet, "out/x_rec": net.inverse(y, h)[0]}
    if "in/y_for_inverse" in fixture:
        answers["out/inverse"] = net.inverse(fixture["in/y_for_inverse"].flatten(1), h)[0]
    return answers


def embedder_dense(fixture: Fixture) -> Answers:
    """An embedder of vectors, and what its first batch sets."""
    given = fixture.config
    depth = given.get("depth", 4)
    dims = given.get("given_dims")
    dims = dims if isinstance(dims, list) else embedders.dense_dims(given["in_dim"], given["up_dim"], depth)
    graph = g.graph(h=embedders.dense(g.input("z", dims[0]), dims))
    rules, x = embedders.dense_rules(len(dims) - 1), fixture["in/x"].flatten(1)
    net, _ = _loaded(graph, rules, fixture.state)
    answers = {"out/emb": net(x)}
    if not fixture.expects("out/emb_when_uninitialised", "after_init/"):
        return answers  # of a batch of one, perhaps, which could not initialise it
    fresh, layout = _loaded(graph, rules, _uninitialised(fixture.state))
    answers["out/emb_when_uninitialised"] = fresh(x)
    return answers | {f"after_init/{key}": value for key, value in layout.write(fresh.state_dict()).items()}


def embedder_conv(fixture: Fixture) -> Answers:
    """An embedder of feature maps."""
    given = fixture.config
    side = given["in_spatial_size"]
    z = g.input("z", (given["in_channels"], side, side))
    graph = g.graph(h=embedders.spatial(z, given["emb_dim"], given.get("n_down", 4)))
    net, _ = _loaded(graph, embedders.spatial_rules(), fixture.state)
    return {"out/emb": net(fixture["in/x"])}


def conditional(fixture: Fixture) -> Answers:
    """The whole cINN: both ways, a sample, a swap, and some steps of training."""
    graph, rules = transformer(fixture.config["Transformer"])
    net, _ = _loaded(graph, rules, fixture.state)
    x, z = fixture["in/x"].flatten(1), _representation(fixture["in/cond"])
    y, logdet = net(x, z)
    answers = {"out/y": y, "out/logdet": logdet, "out/x_rec": net.inverse(y, z)[0]}
    if "in/v" in fixture:
        answers["out/sample"] = net.inverse(fixture["in/v"].flatten(1), z)[0]
    answers["out/swap"] = net.inverse(y.flip(0), z)[0]
    exact, rules = transformer(fixture.config["Transformer"], exact_logdet=True)
    double, _ = _loaded(exact, rules, fixture.state)
    answers["out/logdet_true_f64"] = double.double()(x.double(), z.double())[1]
    return {key: value.detach() for key, value in answers.items()} | _trained(fixture, net, rules, x, z)


def _trained(fixture: Fixture, net: BuiltGraph, rules: Sequence[Rule], x: Tensor, z: Tensor) -> Answers:
    if "train" not in fixture.config:
        return {}
    given, layout = fixture.config["train"], Layout(net, rules)
    optimizer = torch.optim.Adam(net.parameters(), given["lr"], betas=tuple(given["betas"]), eps=given["eps"])
    answers, steps = {}, given["steps"]
    for step in range(steps + 1):
        v, logdet = net(x, z)
        nll, negative = 0.5 * v.square().sum(1).mean(), -logdet.mean()
        answers[f"loss/step_{step}" if step < steps else f"loss/after{steps}"] = torch.stack(
            [nll + negative, nll, negative]
        )
        if step == steps:
            break
        optimizer.zero_grad()
        (nll + negative).backward()
        if step == 0:
            answers |= {f"grad/{key}": value.clone() for key, value in layout.gradients(net).items()}
        optimizer.step()
    return answers | {f"after{steps}/{key}": value for key, value in layout.write(net.state_dict()).items()}


def initialisation(fixture: Fixture) -> Answers:
    """The first call of a cINN that is not initialised, and all its entries afterwards."""
    graph, rules = transformer(fixture.config["Transformer"])
    net, layout = _loaded(graph, rules, fixture.state)
    y, logdet = net(fixture["in/x"].flatten(1), _representation(fixture["in/cond"]))
    after = layout.write(net.state_dict())
    return {"out/y": y, "out/logdet": logdet, **{f"after/{key}": value for key, value in after.items()}}


def e_factor(fixture: Fixture) -> Answers:
    """The concept flow on pairs that share a factor, its loss, and a swap of the first factor."""
    given = fixture.config["Transformer"]
    dim = given["in_channel"]
    sizes = given.get("factor_config") or chunks(dim, given.get("n_factors", 2))
    names = [f"factor_{k}" for k in range(len(sizes))]
    graph = split_transformer(dim, names, sizes, given["n_flow"], given["hidden_dim"], given["hidden_depth"])
    net, layout = _loaded(graph, FLOW, fixture.state)
    x1, x2 = fixture["in/x1"].flatten(1), fixture["in/x2"].flatten(1)
    (*first, logdet1), (*second, logdet2) = net(x1), net(x2)
    rho = fixture.config.get("Loss", {}).get("rho", losses.RHO)
    terms = losses.factor(first, second, logdet1, logdet2, fixture["in/factor"], rho)
    terms.loss.backward()
    answers = {"out/logdet1": logdet1, "out/logdet2": logdet2, "out/x1_rec": net.inverse(*first)[0]}
    answers |= {"loss/total": terms.loss, "loss/loss1": terms.first, "loss/loss2": terms.second}
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        answers |= {f"out/z1_{k}": a, f"out/z2_{k}": b}
        answers[f"out/swap{k}"] = net.inverse(*edits.cross(first, second, k))[0]
    return answers | {f"grad/{key}": value for key, value in layout.gradients(net).items()}


def _loaded(graph: g.Graph, rules: Sequence[Rule], state: Mapping[str, Tensor]) -> tuple[BuiltGraph, Layout]:
    net = graph.build()
    layout = Layout(net, rules)
    layout.load(net, state)
    return net, layout


def _below(node: str, rules: Sequence[Rule]) -> list[Rule]:
    return [rule.under(node) for rule in rules]


def _uninitialised(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: torch.zeros_like(v) if k.endswith(".initialized") else v for k, v in state.items()}


def _norm(given: Mapping[str, Any]) -> flow.Norm:
    return "batch" if given.get("use_bn") else "actnorm" if given.get("use_an") else "none"


def _representation(z: Tensor) -> Tensor:
    """A vector where the authors carry it as a 1x1 image."""
    return z.flatten(1) if z.shape[2:].numel() == 1 else z


CHECKS = Checks(
    {
        "gaussian": shared.invariances_gaussian,
        "encoder": networks.encoder,
        "flatvae": shared.invariances_flatvae,
        "actnorm": actnorm,
        "shuffle_lrelu": shuffle_lrelu,
        "fcnet": fcnet,
        "coupling": coupling,
        "flowblock": flowblock,
        "flow": whole_flow,
        "embedder_dense": embedder_dense,
        "embedder_conv": embedder_conv,
        "cinn_init": initialisation,
        "cinn": conditional,
        "e_factor": e_factor,
        "alexnet_hooks": networks.hooks,
        "resnet_hooks": networks.hooks,
        "preprocess_attack": networks.preprocess_attack,
        "fid": networks.fid,
        "images": networks.images,
        "layouts": networks.layouts,
        "spectralnorm": parity_biggan.spectralnorm,
        "selfattention": parity_biggan.selfattention,
        "gblock": parity_biggan.gblock,
        "classup": parity_biggan.classup,
        "decoder": parity_biggan.decoder_small,
        "generator": parity_biggan.generator_small,
        "bigae": networks.bigae_full,
        "e2e": networks.e2e,
    },
    tolerances={"preprocess_attack*:out/crop_*": 0.0, "fid*": 1e-6},
    inputs=("images",),
)
