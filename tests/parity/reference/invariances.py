"""Files of the invariances' components with options that no recorded file has."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.reference import images as im
from tests.parity.reference.files import File, below, by_recipe, draw, fill, gradients
from tests.parity.reference.flows import ActNorm, Block, Coupling, DenseEmbedder, Embedder, Flow, Net


def parts() -> Iterator[File]:
    norm, x = ActNorm(3), draw(2, 3, 2, 2)
    state, (y, logdet) = fill(norm), norm.apply_to(x)
    entries = {"in/x4": x, "out/y4": y, "out/logdet4": logdet, "out/rev4": norm.reverse(x)}
    yield File("invariances_actnorm__maps", {"num_features": 3}, state, entries)
    for kind in ("bn", "an", ""):
        net, x = Net(3, 3, 4, 1, kind), draw(1, 3)
        given = {"dim": 3, "depth": 1, "hidden_dim": 4, "out_dim": None} | ({f"use_{kind}": True} if kind else {})
        yield File(f"invariances_fcnet__{kind}", given, fill(net), {"in/x": x, "out/y": net.eval()(x)})
    net, x = Net(4, 6, 5, 1), draw(2, 4)
    given = {"dim": 4, "depth": 1, "hidden_dim": 5, "out_dim": 6}
    yield File("invariances_classup__1", given, fill(net), {"in/x": x, "out/y": net(x).softmax(1)})
    vae, x, noise = im.Dequantiser(4, 3, 5, 1), draw(2, 4), draw(2, 3)
    state, h = fill(vae), vae.encoder(x)
    found = im.moments(torch.cat([vae.mu_layer(h), vae.logvar_layer(h)], 1))
    sample = found["mean"] + found["std"] * noise
    entries = {"in/x": x, "in/noise": noise, **below("out/", {k: found[k] for k in ("mean", "logvar", "std")})}
    given = {"Model": {"in_channels": 4, "n_down": 1, "mid_channels": 5, "z_dim": 3}}
    yield File("invariances_flatvae__random", given, state, {**entries, "out/decoded": vae.decoder(sample)})
    maps = Embedder(5, 2, 3, 2)
    state, x = fill(maps), draw(2, 2, 5, 5)
    given = {"in_spatial_size": 5, "in_channels": 2, "emb_dim": 3, "n_down": 2}
    yield File("invariances_embedder_conv__5", given, state, {"in/x": x, "out/emb": maps(x)})
    dense = DenseEmbedder([7, 4])
    entries = {"in/x": draw(1, 7), "out/emb": dense(draw(1, 7))}
    state = {key: value.clone() for key, value in dense.state_dict().items()}
    yield File("invariances_embedder_dense__one", {"in_dim": 7, "up_dim": 4, "depth": 2}, state, entries)


def flows() -> Iterator[File]:
    coupling, x, h = Coupling(4, 3, 0, 2), draw(3, 4), draw(3, 2)
    state, (y, logdet) = fill(coupling), coupling.apply_to(x, h)
    entries = {"in/x": x, "in/cond": h, "out/y": y, "out/logdet": logdet, "out/x_rec": x}
    given = {"in_channels": 4, "cond_channels": 2, "hidden_dim": 3, "depth": 0}
    yield File(
        "invariances_coupling__0",
        given,
        state,
        {**entries, "in/y_for_inverse": x, "out/inverse": coupling.reverse(x, h)},
    )
    for option, activation, depth in product(("none", "sequential"), ("none", "lrelu"), (1, 3)):
        flow = Flow([Block(4, 3, 1, 2, activation) for _ in range(depth)], 2 * (option == "sequential"))
        state, (y, logdet) = fill(flow), flow.apply_to(x, h)
        exact = flow.double().apply_to(x.double(), h.double(), exact=True)[1]
        given = {"in_channels": 4, "embedding_dim": 2, "hidden_dim": 3, "hidden_depth": 1, "n_flows": depth}
        given |= {"conditioning_option": option} | ({} if activation == "lrelu" else {"activation": activation})
        entries = {"in/x": x, "in/embedding": h, "out/y": y, "out/logdet": logdet, "out/logdet_true_f64": exact}
        entries |= {"in/y_for_inverse": h.repeat(1, 2), "out/inverse": flow.float().reverse(h.repeat(1, 2), h)}
        yield File(f"invariances_flow_{option}{activation}{depth}", given, state, entries)
    block = Block(4, 3, 1, 2, "lrelu")
    state, (y, logdet) = fill(block), block.apply_to(x, h)
    given = {"in_channels": 4, "cond_channels": 2, "hidden_dim": 3, "hidden_depth": 1}
    yield File("invariances_flowblock__x", given, state, {"in/x": x, "in/cond": h, "out/y": y, "out/logdet": logdet})


class Transformer(nn.Module):
    def __init__(self, embedder: nn.Module, flow: Flow) -> None:
        super().__init__()
        self.embedder, self.flow = embedder, flow


def transformers() -> Iterator[File]:
    options: tuple[tuple[str, nn.Module, Tensor, dict[str, Any]], ...] = (
        ("conv", Embedder(6, 2, 4, 2), draw(4, 2, 6, 6),
         {"conditioning_spatial_size": 6, "conditioning_in_channels": 2, "embedder_down": 2}),
        ("dense", DenseEmbedder([9, 7, 4]), draw(4, 9),
         {"conditioning_spatial_size": 1, "conditioning_in_channels": 9, "conditioning_dims": [9, 7, 4]}),
        ("default", DenseEmbedder([16, 12, 8, 4]), draw(4, 16),
         {"conditioning_spatial_size": 1, "conditioning_in_channels": 16, "conditioning_option": "sequential"}),
        ("init", DenseEmbedder([5, 4]), draw(4, 5),
         {"conditioning_spatial_size": 1, "conditioning_in_channels": 5, "conditioning_depth": 2,
          "activation": "none"}),
    )  # fmt: skip
    for name, embedder, z, given in options:
        given |= {"in_channels": 4, "mid_channels": 5, "hidden_depth": 1, "n_flows": 2}
        activation, x = given.get("activation", "lrelu"), draw(4, 4)
        sequential = 4 * ("conditioning_option" in given)
        net = Transformer(embedder, Flow([Block(4, 5, 1, 4, activation) for _ in range(2)], sequential))
        state = fill(net, initialised=name != "init")
        config: dict[str, Any] = {"Transformer": given}
        if name == "init":
            y, logdet = net.flow.apply_to(x, embedder(z))
            entries = {"in/x": x, "in/cond": z, "out/y": y, "out/logdet": logdet}
            entries |= below(
                "after/", {k: v for k, v in net.state_dict().items() if k.rpartition(".")[2] in ("loc", "scale")}
            )
        else:
            config["train"] = {"lr": 1e-3, "betas": [0.4, 0.8], "eps": 1e-7, "steps": 2}
            entries = _trained(net, x, z)
        yield File(f"invariances_cinn_{name}", config, state, entries)


def _trained(net: Transformer, x: Tensor, z: Tensor) -> dict[str, Tensor]:
    h = net.embedder(z)
    y, logdet = net.flow.apply_to(x, h)
    v = draw(4, 4, seed=4)
    entries = {
        "in/x": x,
        "in/cond": z,
        "in/v": v,
        "out/y": y,
        "out/logdet": logdet,
        "out/sample": net.flow.reverse(v, h),
    }
    entries |= {"out/swap": net.flow.reverse(y.flip(0), h)}
    adam = torch.optim.Adam(net.parameters(), 1e-3, (0.4, 0.8), 1e-7)
    for step in range(3):
        y, logdet = net.flow.apply_to(x, net.embedder(z))
        nll, negative = 0.5 * (y**2).sum(1).mean(), -logdet.mean()
        entries[f"loss/step_{step}" if step < 2 else "loss/after2"] = torch.stack([nll + negative, nll, negative])
        if step < 2:
            adam.zero_grad()
            (nll + negative).backward()
            entries |= {} if step else gradients(net)
            adam.step()
    return entries | below("after2/", net.state_dict())


def biggan() -> Iterator[File]:
    for bn, up, conditional, kind, out in product((True, False), (True, False), (True, False), ("bn", "an"), (4, 3)):
        if kind == "an" and not conditional:
            continue  # their code fails
        net, x, y = im.GBlock(4, out, 3, bn, up, conditional, kind), draw(2, 4, 3, 3), draw(2, 3, seed=1)
        given = {
            "out_channel": out,
            "z_dim": 3,
            "bn": bn,
            "upsample": up,
            "conditional": conditional,
            "use_actnorm": kind == "an",
        }
        state = fill(net)
        entries = {"in/x": x, "in/cond": y, "out/y_eval": net.eval()(x, y), "out/y_train": net.train()(x, y)}
        if bn:
            entries |= below("after_train/", {k: v for k, v in net.state_dict().items() if "running" in k})
        yield File(f"invariances_gblock_{bn}{up}{conditional}{kind}{out}".lower(), given, state, entries)
    recipe = {"salt": "own:", "gain": 1.3}
    decoder, z = im.Decoder(128, 105, 4, 6, 7, "bn"), draw(1, 105)
    by_recipe(decoder.eval(), **recipe)
    given = {
        "z_dim": 105,
        "chn": 4,
        "n_class": 6,
        "classup_hidden": 7,
        "use_actnorm": False,
        "size": 128,
        "recipe": recipe,
        "sub": [0, 4],
    }
    image, classes = decoder(z)
    yield File(
        "invariances_decoder128_small_bn",
        given,
        {},
        {"in/z": z, "out/x": image[..., ::4, ::4], "out/class_probs": classes},
    )
    generator, z, embedding = im.Generator(128, 120, 4, 6), draw(1, 120), draw(1, 128)
    by_recipe(generator.eval(), **recipe)
    given = {
        "class": "Generator128 (reduced)",
        "code_dim": 120,
        "chn": 4,
        "n_class": 6,
        "recipe": recipe,
        "note": "one-hot of class 5",
    }
    entries = {"in/z": z, "in/embedding": embedding, "out/x": generator(z, embedding=embedding)[..., 1::5, 1::5]}
    entries["out/x_cls"] = generator(z, torch.eye(6)[[5]])[..., 1::5, 1::5]
    yield File("invariances_generator128_small", given, {}, entries)


def encoder() -> Iterator[File]:
    recipe, x = {"salt": "e:", "gain": 0.9}, draw(1, 3, 40, 40).tanh()
    net = im.ResnetEncoder("resnet18", 6, by="bn")
    by_recipe(net.eval(), **recipe)
    given = {"z_dim": 3, "in_size": 40, "type": "resnet18", "norm": "bn"}
    yield File("invariances_encoder_small", {"Model": given, "recipe": recipe}, {}, {"in/x": x, "out/params": net(x)})


GROUPS = (parts, flows, transformers, biggan, encoder)
