"""Files of Net2Net's components with options that no recorded file has."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity.reference import images as im
from tests.parity.reference.files import File, below, by_name, draw, fill, gradients
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
        (({"in_dim": 9, "up_dim": 4, "depth": 2}, [9, 4]), ({"in_dim": 3, "up_dim": 5, "given_dims": [3, 8, 5]}, [3, 8, 5]),
         ({"in_dim": 20, "up_dim": 3}, [20, 14, 8, 3]))  # fmt: skip
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
    for kind, c in (("", draw(3, 6, seed=3)), ("an", torch.eye(6)[[1, 0, 5]].long()), ("bn", draw(3, 6, seed=4)[..., None, None])):
        flow, params = _translator(6, kind, 2, "lrelu")
        yield _transported(f"net2net_cond_flow__{kind}", params, flow, {"in/c": c}, c.flatten(1).float())


def _translator(classes: int, kind: str, depth: int, activation: str) -> tuple[Flow, dict[str, Any]]:
    params = {"in_channels": 4, "conditioning_dim": classes, "embedding_dim": 3, "hidden_dim": 5, "hidden_depth": 1,
              "n_flows": depth, "conditioning_hidden_dim": 7, "conditioning_depth": 1, "activation": activation}  # fmt: skip
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
            entries |= below("loss/", {f"total_{step}": nll + negative, f"nll_{step}": nll, f"nlogdet_{step}": negative})
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


def autoencoders() -> Iterator[File]:
    for down, size, deterministic in ((1, 4, True), (3, 8, False)):
        params = {"n_down": down, "z_dim": 3, "in_size": size, "in_channels": 2, "deterministic": deterministic}
        net, x, z = im.Autoencoder(size, 2, down, 3), draw(2, 2, size, size), draw(2, 3)
        by_name(net, 5)
        found = net(x)
        entries = {"in/x": x, "in/z": pixel(z), "out/moments": found, "out/dec": net.decode(z)}
        entries |= below("out/", im.moments(found, deterministic))
        yield File(f"net2net_basic_ae_{down}_gen", {"params": params, "seed": 5}, {}, entries)
    for kind, channels, double, twice in (("resnet34", 3, False, True), ("resnet18", 3, True, False), ("resnet18", 1, True, False)):
        net = im.ResnetEncoder(kind, 4 * (1 + double), channels, times=2 * twice)
        params = {"z_dim": 4, "in_size": 64, "in_channels": channels, "type": kind, "double_z": double, "pre_process": twice}
        by_name(net.eval(), 6)
        x = draw(1, channels, 64, 64)
        yield File(f"net2net_resnet_encoder__{kind}_{channels}{twice}", {"params": params, "seed": 6}, {},
                   {"in/x": x, "out/y": net(x), "out/features": net.features(net.normalise(x, 2 * twice))})  # fmt: skip
    vae, x, z, eps = im.Dequantiser(5, 3, 6, 1), draw(2, 5), draw(2, 3), draw(2, 3, seed=1)
    state, h = fill(vae), vae.encoder(x)
    mean, logvar = vae.mu_layer(h), vae.logvar_layer(h).clamp(-30, 10)
    entries = {"in/x": x, "in/z": z, "in/eps": eps, "out/h": h, "out/mu": mean, "out/logvar": logvar}
    entries |= {"out/dec": vae.decoder(z), "out/y": vae.decoder(mean + (0.5 * logvar).exp() * eps)}
    yield File("net2net_dequant_vae__1", {"params": {"n_down": 1, "z_dim": 3, "in_channels": 5, "mid_channels": 6}}, state, entries)


def discriminators() -> Iterator[File]:
    for layers, kind, channels, size in ((1, "an", 1, 16), (2, "bn", 2, 24), (4, "bn", 3, 64)):
        net, x = im.Discriminator(channels, 3, layers, kind), draw(2, channels, size, size)
        params = {"input_nc": channels, "ndf": 3, "n_layers": layers, "use_actnorm": kind == "an"}
        state = fill(net)
        entries = {"in/x": x, "out/y_eval": net.eval()(x), "out/y_train": net.train()(x)}
        yield File(f"net2net_disc__{layers}", {"params": params}, state, entries)


class Perceptual(nn.Module):
    """LPIPS on VGG16."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg

        ends = (0, 4, 9, 16, 23, 30)
        self.net = nn.Module()
        features = vgg.make_layers(vgg.cfgs["D"])
        for i, (a, b) in enumerate(zip(ends, ends[1:], strict=False), 1):
            self.net.add_module(f"slice{i}", nn.Sequential())
            for j in range(a, b):
                self.net.get_submodule(f"slice{i}").add_module(str(j), features[j])
        for i, width in enumerate((64, 128, 256, 512, 512)):
            self.add_module(f"lin{i}", nn.Module())
            self.get_submodule(f"lin{i}").model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        shift, scale = (torch.tensor(v).reshape(3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
        a, b, total = (x - shift) / scale, (y - shift) / scale, x.new_zeros(())
        for i in range(5):
            part = self.net.get_submodule(f"slice{i + 1}")
            a, b = part(a), part(b)
            unit = [t / (t.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for t in (a, b)]
            lin = self.get_submodule(f"lin{i}").get_submodule("model.1")
            total = total + lin((unit[0] - unit[1]) ** 2).mean((2, 3), keepdim=True)
        return total


def autoencoder_loss() -> Iterator[File]:
    params: dict[str, Any] = {"disc_start": 7, "kl_weight": 0.1, "disc_weight": 0.8, "disc_factor": 0.5, "disc_num_layers": 2,
                              "use_actnorm": True, "disc_loss": "vanilla", "perceptual_weight": 0.3}  # fmt: skip
    whole = nn.ModuleDict({"perceptual_loss": Perceptual(), "discriminator": im.Discriminator(3, 64, 2, "an")})
    by_name(whole, 3)
    whole.eval()
    x, h, given = draw(2, 3, 32, 32), draw(2, 3, 32, 32, seed=1), (draw(3, 3, 1, 1), draw(2, 6, 1, 1), torch.tensor(0.2))
    w, parameters, logvar = (t.clone().requires_grad_() for t in given)
    restored = (F.conv2d(h, w) + 0.5 * x).tanh()
    errors = (x - restored).abs() + 0.3 * whole["perceptual_loss"](x, restored)
    nll, kl = (errors / logvar.exp() + logvar).sum() / 2, im.moments(parameters)["kl"].sum() / 2
    fake, real = whole["discriminator"](restored), whole["discriminator"](x)
    sizes = [torch.autograd.grad(loss, w, retain_graph=True)[0].norm() for loss in (nll, -fake.mean())]
    weight = (sizes[0] / (sizes[1] + 1e-4)).clamp(0, 1e4) * 0.8
    total = nll + 0.1 * kl + weight.detach() * 0.5 * -fake.mean()
    judged = 0.5 * 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
    scalars = {"total": total, "kl_loss": kl, "nll_loss": nll, "rec_loss": errors.mean(), "d_weight": weight, "disc": judged}
    grads = dict(zip(("W", "moments", "logvar"), torch.autograd.grad(total, (w, parameters, logvar)), strict=True))
    entries = {"in/x": x, "in/h": h, "in/W": w, "in/moments": parameters, "in/logvar": logvar, "out/rec": restored}
    entries |= below("loss/eval_post_", scalars) | below("grad/eval_post_", grads)
    yield File("net2net_ae_loss_vanilla", {"params": params, "seed": 3}, {}, entries)


def biggan() -> Iterator[File]:
    for shape, module in (((3, 5, 3, 3), "Conv2d(5, 3, 3, stride=2)"), ((4, 5), "Linear(5,4,bias=False)")):
        net, x = im.SN(*shape, bias=len(shape) > 2), draw(2, 5, 6, 7) if len(shape) > 2 else draw(2, 5)
        state, bias = fill(net), getattr(net.module, "bias", None)
        y = F.conv2d(x, net.weight(), bias, 2) if len(shape) > 2 else net(x)
        (y**2).sum().backward()
        entries = {"in/x": x, "out/y": y, "loss/sumsq": (y**2).sum(), **gradients(net)}
        yield File(f"net2net_spectralnorm_{len(shape)}", {"params": {"module": module}}, state, entries)
    attention, x = im.Attention(8), draw(1, 8, 4, 2)
    yield File("net2net_selfattention__8", {"params": {"in_dim": 8}}, fill(attention), {"in/x": x, "out/y": attention(x)})
    for kind in ("bn", "an"):
        norm, x, y = im.ConditionalNorm(3, 4, kind), draw(2, 3, 2, 2), draw(2, 4)
        state = fill(norm)
        entries = {"in/x": x, "in/y": y, **({"out/y": norm(x, y)} if kind == "an" else {"out/eval": norm.eval()(x, y)})}
        yield File(f"net2net_cond{'act' * (kind == 'an')}{'norm' if kind == 'an' else kind}__3",
                   {"params": {"num_features": 3, "num_classes": 4}}, state, entries)  # fmt: skip
    for bn, up, conditional, kind, out in product((True, False), (True, False), (True, False), ("bn", "an"), (4, 3)):
        if kind == "an" and not conditional:
            continue  # their code fails
        yield _block(bn, up, conditional, kind, out)
    for size, kind, extra in ((256, "an", (5, 2)), (128, "bn", (3,))):
        z, classes = draw(1, (146 if size == 256 else 104) + sum(extra)), draw(1, 5).softmax(1)
        generator = im.Generator(size, z.shape[1] - sum(extra), 4, 5, kind, extra)
        params = {"code_dim": z.shape[1] - sum(extra), "n_class": 5, "chn": 4, "extra_z_dims": extra, "use_actnorm": kind == "an"}
        by_name(generator.eval(), 1)
        entries = {"in/z": z, "in/class_probs": classes, "out/img_s4": generator(z, classes)[..., ::4, ::4]}
        yield File(f"net2net_vardim_gen{size}_gen", {"params": params, "seed": 1}, {}, entries)


def _block(bn: bool, up: bool, conditional: bool, kind: str, out: int) -> File:
    net, x, y = im.GBlock(4, out, 3, bn, up, conditional, kind), draw(2, 4, 3, 3), draw(2, 3, seed=1)
    params = {"in_channel": 4, "out_channel": out, "z_dim": 3, "bn": bn, "upsample": up, "conditional": conditional, "use_actnorm": kind == "an"}
    state = fill(net)
    entries = {"in/x": x, "in/condition": y, "out/eval": net.eval()(x, y), "out/train": net.train()(x, y)}
    return File(f"net2net_gblock__{bn}{up}{conditional}{kind}{out}".lower(), {"params": params}, state, entries)


def codes() -> Iterator[File]:
    """Latents of a small truncation, so that numbers are drawn anew more than once."""
    random = np.random.RandomState(1)
    z = random.standard_normal((3, 6))
    for row, column in np.ndindex(z.shape):
        while abs(z[row, column]) > 0.6:
            z[row, column] = random.standard_normal()
    entries = {"out/test_z": torch.from_numpy(z.reshape(3, 2, 3)), "out/test_class": torch.from_numpy(random.choice(50, 3))}
    yield File("net2net_zcodes__small", {"params": {"n_samples": 3, "z_shape": [2, 3], "n_classes": 50, "truncation": 0.6}}, {}, entries)


GROUPS = (flow_parts, conditioners, flows, training, autoencoders, discriminators, autoencoder_loss, biggan, codes)
