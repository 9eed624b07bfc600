"""Net2Net's components beside recorded numbers of the authors' code."""

from __future__ import annotations

from torch import Tensor

from zoo.blocks.flow import Norm
from zoo.layouts import Layout
from zoo.net2net import graph
from zoo.net2net.published import translator_rules
from zoo.parity import Checks, Fixture


def conditional_flow(fixture: Fixture) -> dict[str, Tensor]:
    """A whole flow in eval mode: latent, log-det, the way back, a sample from given noise."""
    given = fixture.config["params"]
    norm: Norm = (
        "batch" if given.get("conditioner_use_bn") else "actnorm" if given.get("conditioner_use_an") else "none"
    )
    layers = given.get("conditioning_depth", 2)
    net = (
        graph.translator(
            dim=given["in_channels"],
            condition=given["conditioning_dim"],
            embedding=given["embedding_dim"],
            depth=given["n_flows"],
            hidden=given["hidden_dim"],
            layers=given["hidden_depth"],
            activation=given.get("activation", "lrelu"),
            exact_logdet=False,
            conditioning=given.get("conditioning_option", "none"),
            embedder_hidden=given.get("conditioning_hidden_dim", 256),
            embedder_layers=layers,
            embedder_norm=norm,
        )
        .build()
        .eval()
    )
    Layout(net, translator_rules(layers, norm)).load(net, fixture.state)
    x, c = fixture["in/x"].flatten(1), fixture["in/c"].float().flatten(1)
    y, logdet = net(x, c)
    answers = {"out/y": y, "out/logdet": logdet, "out/embedding": net.get_submodule("embedder")(c)}
    answers["out/rev_of_y"] = net.inverse(z=y, condition=c)[0]
    if "in/z" in fixture:
        answers["out/sample"] = net.inverse(z=fixture["in/z"].flatten(1), condition=c)[0]
    answers["out/nll"] = 0.5 * y.square().sum(1)
    return answers


CHECKS = Checks({"cond_flow_bn": conditional_flow, "cond_flow_an_seq_lrelu": conditional_flow})
