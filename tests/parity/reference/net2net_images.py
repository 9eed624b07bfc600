"""Files of Net2Net's networks of images with options that no recorded file has."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity.reference import images as im
from tests.parity.reference.files import File, below, by_name, draw, fill, gradients
from tests.parity.reference.net2net import pixel


def autoencoders() -> Iterator[File]:
    for down, size, deterministic in ((1, 4, True), (3, 8, False)):
        params = {"n_down": down, "z_dim": 3, "in_size": size, "in_channels": 2, "deterministic": deterministic}
        net, x, z = im.Autoencoder(size, 2, down, 3), draw(2, 2, size, size), draw(2, 3)
        by_name(net, 5)
        found = net(x)
        entries = {"in/x": x, "in/z": pixel(z), "out/moments": found, "out/dec": net.decode(z)}
        entries |= below("out/", im.moments(found, deterministic))
        yield File(f"net2net_basic_ae_{down}_gen", {"params": params, "seed": 5}, {}, entries)
    for kind, channels, double, twice in (("resnet18", 1, True, False),):
        net = im.ResnetEncoder(kind, 4 * (1 + double), channels, times=2 * twice)
        params = {
            "z_dim": 4,
            "in_size": 64,
            "in_channels": channels,
            "type": kind,
            "double_z": double,
            "pre_process": twice,
        }
        by_name(net.eval(), 6)
        x = draw(1, channels, 64, 64)
        yield File(f"net2net_resnet_encoder__{kind}_{channels}{twice}", {"params": params, "seed": 6}, {},
                   {"in/x": x, "out/y": net(x), "out/features": net.features(net.normalise(x, 2 * twice))})  # fmt: skip
    vae, x, z, eps = im.Dequantiser(5, 3, 6, 1), draw(2, 5), draw(2, 3), draw(2, 3, seed=1)
    state, h = fill(vae), vae.encoder(x)
    mean, logvar = vae.mu_layer(h), vae.logvar_layer(h).clamp(-30, 10)
    entries = {"in/x": x, "in/z": z, "in/eps": eps, "out/h": h, "out/mu": mean, "out/logvar": logvar}
    entries |= {"out/dec": vae.decoder(z), "out/y": vae.decoder(mean + (0.5 * logvar).exp() * eps)}
    yield File(
        "net2net_dequant_vae__1",
        {"params": {"n_down": 1, "z_dim": 3, "in_channels": 5, "mid_channels": 6}},
        state,
        entries,
    )


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
    params = {"disc_start": 7, "disc_weight": 0.8, "disc_factor": 0.5, "disc_num_layers": 2, "disc_loss": "vanilla"}
    params |= {"use_actnorm": True, "kl_weight": 0.1, "perceptual_weight": 0.3}
    whole = nn.ModuleDict({"perceptual_loss": Perceptual(), "discriminator": im.Discriminator(3, 64, 2, "an")})
    by_name(whole, 3)
    whole.eval()
    x, h, given = (
        draw(2, 3, 32, 32),
        draw(2, 3, 32, 32, seed=1),
        (draw(3, 3, 1, 1), draw(2, 6, 1, 1), torch.tensor(0.2)),
    )
    w, parameters, logvar = (t.clone().requires_grad_() for t in given)
    restored = (F.conv2d(h, w) + 0.5 * x).tanh()
    errors = (x - restored).abs() + 0.3 * whole["perceptual_loss"](x, restored)
    nll, kl = (errors / logvar.exp() + logvar).sum() / 2, im.moments(parameters)["kl"].sum() / 2
    fake, real = whole["discriminator"](restored), whole["discriminator"](x)
    sizes = [torch.autograd.grad(loss, w, retain_graph=True)[0].norm() for loss in (nll, -fake.mean())]
    weight = (sizes[0] / (sizes[1] + 1e-4)).clamp(0, 1e4) * 0.8
    total = nll + 0.1 * kl + weight.detach() * 0.5 * -fake.mean()
    judged = 0.5 * 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
    scalars = {
        "total": total,
        "kl_loss": kl,
        "nll_loss": nll,
        "rec_loss": errors.mean(),
        "d_weight": weight,
        "disc": judged,
    }
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
    yield File(
        "net2net_selfattention__8", {"params": {"in_dim": 8}}, fill(attention), {"in/x": x, "out/y": attention(x)}
    )
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
        params = {
            "code_dim": z.shape[1] - sum(extra),
            "n_class": 5,
            "chn": 4,
            "extra_z_dims": extra,
            "use_actnorm": kind == "an",
        }
        by_name(generator.eval(), 1)
        entries = {"in/z": z, "in/class_probs": classes, "out/img_s4": generator(z, classes)[..., ::4, ::4]}
        yield File(f"net2net_vardim_gen{size}_gen", {"params": params, "seed": 1}, {}, entries)


def _block(bn: bool, up: bool, conditional: bool, kind: str, out: int) -> File:
    net, x, y = im.GBlock(4, out, 3, bn, up, conditional, kind), draw(2, 4, 3, 3), draw(2, 3, seed=1)
    params = {
        "in_channel": 4,
        "out_channel": out,
        "z_dim": 3,
        "bn": bn,
        "upsample": up,
        "conditional": conditional,
        "use_actnorm": kind == "an",
    }
    state = fill(net)
    entries = {"in/x": x, "in/condition": y, "out/eval": net.eval()(x, y), "out/train": net.train()(x, y)}
    return File(f"net2net_gblock__{bn}{up}{conditional}{kind}{out}".lower(), {"params": params}, state, entries)


GROUPS = (autoencoders, discriminators, autoencoder_loss, biggan)
