"""Files of Net2Net's flows and conditioners with options that no recorded file has."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.reference.files import File, below, draw, fill, gradients
from tests.parity.reference.flows import (
    ActNorm,
    Block,
    Coupling,
    DenseEmbedder,
    Embedder,
    Flow,
    Net,
    PureAffine,
)


def pixel(x: Tensor) -> Tensor:
    return x[..., None, None]


def flow_parts() -> Iterator[File]:
    norm, x = ActNorm(5), draw(1, 5)
    state = fill(norm)
    y, logdet = norm.apply_to(x)
    entries = {"in/x2": x, "out/y2": y, "out/logdet2": logdet, "out/rev2": norm.reverse(y)}
    yield File("net2net_actnorm__vectors", {"params": {"num_features": 5, "logdet": True}}, state, entries)
    for channels, condition, depth in ((7, 0, 1), (2, 0, 0), (4, 3, 3)):
        coupling = Coupling(channels, 6, depth, condition)
        params = {"in_channels": channels, "hidden_dim": 6, "depth" if condition else "hidden_depth": depth}
        params |= {"cond_channels": condition} if condition else {}
        name = f"net2net_{'cond_' if condition else ''}coupling__{channels}"
        yield _both_ways(name, params, coupling, channels, condition)
    for condition, given in ((0, {}), (3, {}), (3, {"activation": "none"})):
        block = Block(6, 5, 1, condition, given.get("activation", "lrelu") if condition else "none")
        params = {"in_channels": 6, "hidden_dim": 5, "hidden_depth": 1, **given}
        params |= {"cond_channels": condition} if condition else {}
        name = f"net2net_{'cond' if condition else 'uncond'}_block__{len(given)}"
        yield _both_ways(name, params, block, 6, condition)


def _both_ways(name: str, params: dict[str, Any], net: Any, channels: int, condition: int) -> File:
    state, x = fill(net), draw(3, channels)
    h = draw(3, condition, seed=1) if condition else None
    y, logdet = net.apply_to(x, h)
    entries = {"in/x": pixel(x), "out/y": pixel(y), "out/logdet": logdet, "out/rev": pixel(net.reverse(x, h))}
    return File(name, {"params": params}, state, entries | ({} if h is None else {"in/xc": pixel(h)}))


def conditioners() -> Iterator[File]:
    options: list[dict[str, Any]] = [
        {"use_an": True, "use_tanh": True, "hidden_dim": 7, "depth": 1, "out_dim": 3},
        {"use_bn": True, "hidden_dim": 7, "depth": 3},
        {"depth": 0, "out_dim": None},
    ]
    for i, params in enumerate(options):
        kind = "bn" if params.get("use_bn") else "an" if params.get("use_an") else ""
        out, hidden = params.get("out_dim") or 4, params.get("hidden_dim", 256)
        net = Net(4, out, hidden, params["depth"], kind, params.get("use_tanh", False))
        state, x = fill(net), draw(6, 4)
        entries = {"in/x": x, "out/y_eval": net.eval()(x)}
        if kind == "bn":
            entries |= {"out/y_train": net.train()(x)}
            entries |= {f"out/after_{k}": v.clone() for k, v in net.state_dict().items() if "running" in k}
        yield File(f"net2net_fc__{i}", {"params": {"dim": 4, **params}}, state, entries)
    one = File("net2net_fc_one", {"params": {"dim": 4, "use_bn": True, "depth": 1, "hidden_dim": 5}}, {}, {})
    net, x = Net(4, 4, 5, 1, "bn"), draw(1, 4)
    yield one._replace(state=fill(net), entries={"in/x": x, "out/y_eval": net.eval()(x)})
    for i, (params, dims) in enumerate(
        (
            ({"in_dim": 9, "up_dim": 4, "depth": 2}, [9, 4]),
            ({"in_dim": 3, "up_dim": 5, "given_dims": [3, 8, 5]}, [3, 8, 5]),
            ({"in_dim": 20, "up_dim": 3}, [20, 14, 8, 3]),
        )  # fmt: skip
    ):
        embedder, x = DenseEmbedder(dims), draw(2, dims[0])
        state = fill(embedder)
        yield File(f"net2net_dense_embedder__{i}", {"params": params}, state, {"in/x": x, "out/y": embedder(x)})
    spatial = Embedder(9, 4, 5, 1)
    params = {"in_spatial_size": 9, "in_channels": 4, "emb_dim": 5, "n_down": 1}
    state, x = fill(spatial), draw(2, 4, 9, 9)
    yield File("net2net_embedder_odd", {"params": params}, state, {"in/x": x, "out/y": spatial(x)})


def flows() -> Iterator[File]:
    for name, depth in (("uncond", 1), ("pureaffine", 3)):
        blocks = [Block(4, 5, 1) if name == "uncond" else PureAffine(4, 5, 1) for _ in range(depth)]
        params = {"in_channels": 4, "n_flows": depth, "hidden_dim": 5, "hidden_depth": 1}
        yield _transported(f"net2net_{name}_flow__{depth}", params, Flow(blocks), {}, None)
    for option, activation in product(("none", "sequential"), ("none", "lrelu")):
        flow = Flow([Block(4, 5, 1, 3, activation) for _ in range(2)], 3 * (option == "sequential"))
        params = {"in_channels": 4, "embedding_dim": 3, "n_flows": 2, "hidden_dim": 5, "hidden_depth": 1}
        params |= {"conditioning_option": option, "activation": activation}
        h = draw(3, 3, seed=2)
        name = f"net2net_conditional_flow_noembedder__{option}_{activation}"
        yield _transported(name, params, flow, {"in/embedding": h}, h)
    for kind, c in (
        ("", draw(3, 6, seed=3)),
        ("an", torch.eye(6)[[1, 0, 5]].long()),
        ("bn", draw(3, 6, seed=4)[..., None, None]),
    ):
        flow, params = _translator(6, kind, 2, "lrelu")
        yield _transported(f"net2net_cond_flow__{kind}", params, flow, {"in/c": c}, c.flatten(1).float())


def _translator(classes: int, kind: str, depth: int, activation: str) -> tuple[Flow, dict[str, Any]]:
    params: dict[str, Any] = {"in_channels": 4, "n_flows": depth, "hidden_dim": 5, "hidden_depth": 1}
    params |= {"conditioning_dim": classes, "embedding_dim": 3, "conditioning_hidden_dim": 7, "conditioning_depth": 1}
    params |= {"activation": activation}
    params |= {f"conditioner_use_{kind}": True} if kind else {}
    embedder = Net(classes, 3, 7, 1, kind)
    return Flow([Block(4, 5, 1, 3, activation) for _ in range(depth)], 0, embedder), params


def _transported(name: str, params: dict[str, Any], flow: Flow, given: dict[str, Tensor], c: Tensor | None) -> File:
    state, x, z = fill(flow), draw(3, 4), draw(3, 4, seed=1)
    flow.eval()
    h = flow.embedder(c) if hasattr(flow, "embedder") else c
    y, logdet = flow.apply_to(x, h)
    entries = {"in/x": pixel(x), "in/z": pixel(z), "out/y": pixel(y), "out/logdet": logdet, **given}
    entries |= {"out/rev_of_y": pixel(flow.reverse(y, h)), "out/sample": pixel(flow.reverse(z, h))}
    return File(name, {"params": params, "mode": "eval"}, state, entries | {"out/nll": 0.5 * (y**2).sum(1)})


def training() -> Iterator[File]:
    for kind, activation, steps in (("an", "lrelu", 3), ("bn", "none", 3), ("", "none", 1)):
        flow, params = _translator(3, kind, 2, activation)
        state, x, label = fill(flow, initialised=False), draw(8, 4), torch.arange(8) % 3
        adam = torch.optim.Adam(flow.parameters(), 2e-3, (0.5, 0.9), amsgrad=True)
        entries: dict[str, Tensor] = {"in/x": pixel(x), "in/label": label}
        for step in range(steps):
            z, logdet = flow.train().apply_to(x, flow.embedder(F.one_hot(label, 3).float()))
            nll, negative = 0.5 * (z**2).sum(1).mean(), -logdet.mean()
            entries |= below(
                "loss/", {f"total_{step}": nll + negative, f"nll_{step}": nll, f"nlogdet_{step}": negative}
            )
            adam.zero_grad()
            (nll + negative).backward()
            if not step:
                entries |= {"out/zz": pixel(z), "out/logdet": logdet, **gradients(flow)}
                entries |= below("init/", {k: v for k, v in flow.state_dict().items() if "norm_layer" in k})
            adam.step()
        entries |= below("after/", flow.state_dict())
        config = {"params": params, "mode": f"train; {steps} steps of Adam(lr=2e-3,betas=(0.5,0.9),amsgrad=True)"}
        yield File(f"net2net_cond_flow_train__{kind}", config, state, entries)
    flow, params = _translator(4, "bn", 2, "none")
    state, z, src, dst = fill(flow), draw(3, 4), torch.tensor([0, 3, 1]), torch.tensor([2, 0, 1])
    a, b = (flow.eval().embedder(F.one_hot(end, 4).float()) for end in (src, dst))
    v, logdet = flow.apply_to(z, a)
    moved = flow.reverse(v, b)
    entries = {"in/z": pixel(z), "in/src": src.int(), "in/dst": dst.int(), "out/v": pixel(v), "out/logdet": logdet}
    entries |= {"out/zt": pixel(moved), "out/z_alpha": pixel(0.3 * z + 0.7 * moved)}
    yield File("net2net_domain_transfer__4", {"params": params, "alpha": 0.7}, state, entries)


def codes() -> Iterator[File]:
    """Latents of a small truncation, so that numbers are drawn anew more than once."""
    random = np.random.RandomState(1)
    z = random.standard_normal((3, 6))
    for row, column in np.ndindex(z.shape):
        while abs(z[row, column]) > 0.6:
            z[row, column] = random.standard_normal()
    entries = {
        "out/test_z": torch.from_numpy(z.reshape(3, 2, 3)).float(),
        "out/test_class": torch.from_numpy(random.choice(50, 3)),
    }
    yield File(
        "net2net_zcodes__small",
        {"params": {"n_samples": 3, "z_shape": [2, 3], "n_classes": 50, "truncation": 0.6}},
        {},
        entries,
    )


GROUPS = (flow_parts, conditioners, flows, training, codes)
