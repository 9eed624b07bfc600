"""The IIN's components beside recorded numbers of the authors' code.

Their actnorm is set by its first batch in evaluation mode too, ours only in training: networks run in training mode,
which makes no other difference to them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import flow
from zoo.blocks import parity_autoencoders as shared
from zoo.blocks import parity_losses as judged
from zoo.data import parity as data
from zoo.iin import dims, edits, losses
from zoo.iin.factors import chunks
from zoo.iin.graph import split_transformer, transformer
from zoo.iin.optimisation import BETAS, adam, schedule
from zoo.iin.published import FLOW
from zoo.layouts import Layout, Rule
from zoo.parity import Checks, Fixture
from zoo.published import read_checkpoint, tensors

Answers = dict[str, Tensor]


def actnorm(fixture: Fixture) -> Answers:
    """Both directions, gradients, and what the first batch sets."""
    x = g.input("x", tuple(fixture["in/x"].shape[1:]))
    graph = g.graph(y=g.actnorm(x, log_scale=False, name="norm"))
    rules = [Rule("norm." + rule.ours, rule.theirs, rule.form) for rule in flow.NORM]
    net, layout = _loaded(graph.build(), rules, fixture.state)
    y, logdet = net(fixture["in/x"])
    loss = losses.nll(y).sum() - logdet.sum()
    loss.backward()
    answers = {"out/y": y, "out/logdet": logdet, "loss/half_sq_minus_logdet": loss}
    answers |= _under("grad/", layout.gradients(net))
    if "in/y" in fixture:
        answers["out/x_rev"] = net.inverse(y=fixture["in/y"])[0]
    if "in/init_x" in fixture:
        fresh = graph.build()
        answers["out/init_y"], answers["out/init_logdet"] = fresh(fixture["in/init_x"])
        answers |= _under("out/init_", layout.write(fresh.state_dict()))
    return answers


def shuffle(fixture: Fixture) -> Answers:
    """A permutation both ways; its log-det is 0."""
    x = g.input("x", fixture["in/x"].shape[1])
    shuffled = g.graph(y=g.shuffle(x, name="shuffle"))
    back: Callable[[Tensor], Tensor] = lambda t: t.argsort()  # noqa: E731
    rule = Rule(r"shuffle\.permutation", "forward_shuffle_idx", copies=(("backward_shuffle_idx", back),))
    net, _ = _loaded(shuffled.build(), [rule], fixture.state)
    y, logdet = net(_vectors(fixture["in/x"]))
    reverse = net.inverse(y=_vectors(fixture["in/y"] if "in/y" in fixture else fixture["in/x"]))[0]
    return {"out/y": y, "out/x_rev": reverse, "out/logdet": logdet.abs().max()}


def mlp(fixture: Fixture) -> Answers:
    """A fully connected network."""
    given = fixture.config
    depth = given["depth"]
    norm: flow.Norm = "batch" if given.get("use_bn") else "none"
    x = g.input("x", given["dim"])
    out = given.get("out_dim") or given["dim"]
    y = flow.fully_connected(x, out, given.get("hidden_dim", 256), depth, norm, given.get("use_tanh", False))
    net, _ = _loaded(g.graph(y=y).build(), flow.fully_connected_rules(depth, norm), fixture.state)
    return {"out/y": net.eval()(_vectors(fixture["in/x"]))}


def coupling(fixture: Fixture) -> Answers:
    """A double coupling both ways, its loss and gradients."""
    given = fixture.config
    x = g.input("x", given["in_channels"])
    graph = g.graph(y=flow.double_coupling(x, None, given["hidden_dim"], given["depth"]))
    net, layout = _loaded(graph.build(), flow.coupling_rules(theirs=""), fixture.state)
    y, logdet = net(_vectors(fixture["in/x"]))
    loss = losses.unsupervised(y, logdet).loss
    loss.backward()
    answers = {"out/y": y, "out/logdet": logdet, "loss/nll": loss, **_under("grad/", layout.gradients(net))}
    return answers | _back(net, fixture, "y")


def flowstep(fixture: Fixture) -> Answers:
    """One block of the flow both ways."""
    given = fixture.config
    graph = transformer(given["in_channels"], 1, given["hidden_dim"], given["hidden_depth"])
    rules = flow.block_rules(r"flow\.(\d)\.", "", ("flow.0", "flow.1", "flow.2"))
    net, _ = _loaded(graph.build(), rules, fixture.state)
    y, logdet = net(_vectors(fixture["in/x"]))
    return {"out/y": y, "out/logdet": logdet, **_back(net, fixture, "y")}


def whole_flow(fixture: Fixture) -> Answers:
    """The flow after every block, its loss and gradients, the way back, and what the first batch sets."""
    net, layout = _transformer(fixture)
    x = _vectors(fixture["in/x"])
    z, logdet = net(x)
    terms = losses.unsupervised(z, logdet)
    terms.loss.backward()
    answers = {"out/z": z, "out/logdet": logdet, "loss/loss": terms.loss, "loss/nll_loss": terms.nll}
    answers |= {"loss/nlogdet_loss": terms.negative_logdet, **_under("grad/", layout.gradients(net))}
    answers |= _under("out/state_after/", layout.write(net.state_dict())) | _back(net, fixture, "z")
    h, total = x, torch.zeros(len(x))
    for index, block in enumerate(net.get_submodule("flow").children()):
        h, logdet = block(h)
        total = total + logdet
        answers[f"out/step{index}_h"], answers[f"out/step{index}_logdet_cum"] = h, total
    return answers


def trainsteps(fixture: Fixture) -> Answers:
    """Steps of Adam with the falling learning rate."""
    given = fixture.config
    net, layout = _transformer(fixture)
    optimizer = adam(net.parameters(), given["learning_rate"])
    optimizer.param_groups[0]["betas"] = tuple(given.get("betas", BETAS))
    rates = schedule(optimizer, given["decay_start"], given["num_steps"])
    used, values = [], []
    for x in fixture["in/x"][: given.get("steps")]:
        used.append(optimizer.param_groups[0]["lr"])
        loss = losses.unsupervised(*net(_vectors(x))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        values.append(loss.detach())
    after = _under("out/param_after/", layout.write(net.state_dict()))
    return {"out/lr_used": torch.tensor(used), "loss/loss": torch.stack(values), **after}


def unsup_loss(fixture: Fixture) -> Answers:
    """The unsupervised loss on raw arrays, with gradients."""
    z, logdet = fixture["in/z"].requires_grad_(), fixture["in/logdet"].requires_grad_()
    terms = losses.unsupervised(z, logdet)
    terms.loss.backward()
    answers = {"loss/loss": terms.loss, "loss/nll_loss": terms.nll, "loss/nlogdet_loss": terms.negative_logdet}
    return answers | _gradients({"z": z, "logdet": logdet})


def factor_loss(fixture: Fixture) -> Answers:
    """The factor loss on raw arrays, with gradients."""
    arrays = {key: value for key, value in fixture.under("in/").items() if key != "factor"}
    given = {key: value.requires_grad_() for key, value in arrays.items()}
    count = sum(key.startswith("z1_") for key in given)
    first, second = ([given[f"z{side}_{k}"] for k in range(count)] for side in (1, 2))
    terms = losses.factor(first, second, given["logdet1"], given["logdet2"], fixture["in/factor"], _rho(fixture))
    terms.loss.backward()
    return {"loss/loss": terms.loss, "loss/loss1": terms.first, "loss/loss2": terms.second, **_gradients(given)}


def factor_transformer(fixture: Fixture) -> Answers:
    """The split flow on pairs: factors, loss, gradients, masks, swap and cross."""
    net, layout = _transformer(fixture)
    x1, x2, factor = _vectors(fixture["in/x1"]), _vectors(fixture["in/x2"]), fixture["in/factor"]
    (*first, logdet1), (*second, logdet2) = net(x1), net(x2)
    terms = losses.factor(first, second, logdet1, logdet2, factor, _rho(fixture))
    terms.loss.backward()
    answers = {"out/logdet1": logdet1, "out/logdet2": logdet2, **_under("grad/", layout.gradients(net))}
    answers |= {"loss/loss": terms.loss, "loss/loss1": terms.first, "loss/loss2": terms.second}
    answers["out/x_swap"] = net.inverse(*edits.swap(first, second, factor))[0]
    answers["out/x1_rec"] = net.inverse(*first)[0]
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        answers |= {f"out/z1_{k}": a, f"out/z2_{k}": b, f"out/mask_{k}": losses.shared(factor, k)}
        answers[f"out/x_cross_{k}"] = net.inverse(*edits.cross(second, first, k))[0]
    return answers


def factor_split(fixture: Fixture) -> Answers:
    """Sizes of chunks; what is asked stands in the keys, ``out/chunk_C<channels>_n<factors>``."""
    answers = {}
    for key in fixture.expected:
        if asked := re.search(r"_C(\d+)_n(\d+)$", key):
            answers[key] = torch.tensor(chunks(int(asked[1]), int(asked[2])))
    return answers


def dimensions(fixture: Fixture) -> Answers:
    """The dimension estimation."""
    given = fixture.config
    latents = _vectors(fixture["in/za"]), _vectors(fixture["in/zb"])
    found = dims.estimate(*latents, fixture["in/factor"], given["n_factors"], given.get("residual_index"))
    return {"out/scores": found.scores, "out/dims": torch.tensor(found.sizes)}


def ckpt_legacy(fixture: Fixture) -> Answers:
    """A file of the authors as they saved it: its flow's results, and what stands in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ckpt"
        path.write_bytes(fixture.arrays["in/ckpt_bytes"].tobytes())
        checkpoint = read_checkpoint(path)
    state = tensors(checkpoint)
    net, layout = _transformer(fixture, state)
    *z, logdet = net.eval()(_vectors(fixture["in/x"]))
    rate = torch.tensor(float(checkpoint["optimizer"]["param_groups"][0]["lr"]))
    answers = {"out/z": torch.cat(z, 1), "out/logdet": logdet, "out/lr": rate}
    answers["out/n_state_keys"] = torch.tensor(len(layout.entries))
    return answers | _under("out/state/", layout.write(net.state_dict()))


def _images(compute: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]) -> Any:
    def component(fixture: Fixture) -> Answers:
        return {f"out/{k}": torch.from_numpy(np.asarray(v)) for k, v in compute(fixture.config, fixture.arrays).items()}

    return component


def _transformer(fixture: Fixture, state: Mapping[str, Tensor] | None = None) -> tuple[BuiltGraph, Layout]:
    """A flow as ``config`` says, whole or split, with the file's weights, in training mode."""
    given = fixture.config["Transformer"]
    dim = given["in_channel"]
    options = {"depth": given["n_flow"], "hidden": given["hidden_dim"], "layers": given["hidden_depth"]}
    if "in/x1" in fixture or "n_factors" in given:
        sizes = given.get("factor_config") or chunks(dim, given.get("n_factors", 2))
        graph = split_transformer(dim, [f"factor_{k}" for k in range(len(sizes))], sizes, **options)
    else:
        graph = transformer(dim, **options)
    return _loaded(graph.build(), FLOW, fixture.state if state is None else state)


def _loaded(net: BuiltGraph, rules: list[Rule], state: Mapping[str, Tensor]) -> tuple[BuiltGraph, Layout]:
    layout = Layout(net, rules)
    layout.load(net, state)
    return net.train(), layout


def _rho(fixture: Fixture) -> float:
    rho: float = fixture.config.get("Loss", {}).get("rho", losses.RHO)
    return rho


def _back(net: BuiltGraph, fixture: Fixture, name: str) -> Answers:
    """The reverse pass of an input of its own, if the file has one."""
    return {"out/x_rev": net.inverse(_vectors(fixture[f"in/{name}"]))[0]} if f"in/{name}" in fixture else {}


def _vectors(x: Tensor) -> Tensor:
    return x.flatten(1)


def _under(prefix: str, values: Mapping[str, Tensor]) -> Answers:
    return {prefix + key: value.detach().clone() for key, value in values.items()}


def _gradients(given: Mapping[str, Tensor]) -> Answers:
    return {f"grad/{key}": value.grad for key, value in given.items() if value.grad is not None}


CHECKS = Checks(
    {
        "ae": shared.iin_ae,
        "clf": shared.iin_clf,
        "distribution": shared.iin_distribution,
        "disc": judged.iin_disc,
        "aeloss": judged.iin_aeloss,
        "actnorm": actnorm,
        "shuffle": shuffle,
        "mlp": mlp,
        "coupling": coupling,
        "flowstep": flowstep,
        "transformer": whole_flow,
        "ddinit": whole_flow,
        "trainsteps": trainsteps,
        "unsup_loss": unsup_loss,
        "factor_loss": factor_loss,
        "factor_transformer": factor_transformer,
        "factor_split": factor_split,
        "dims": dimensions,
        "ckpt_legacy": ckpt_legacy,
        "cmnist_pairs": _images(data.iin_cmnist_pairs),
        "celeba_pairs": _images(data.iin_celeba_pairs),
        "preprocess": _images(data.iin_preprocess),
    },
    # the authors' own float32 differs from float64 by 1.2e-5 after a batch of reconstructions in training mode
    tolerances={"aeloss:out/reconstruction": 3e-5},
    scaled=("grad/", "grad_d/"),
)
