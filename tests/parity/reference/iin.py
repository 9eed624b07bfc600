"""Files of the IIN's components with options that no recorded file has."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity.reference import images as im
from tests.parity.reference.files import File, below, draw, fill, gradients
from tests.parity.reference.flows import ActNorm, Block, Coupling, Net


def blocks() -> Iterator[File]:
    norm, x, y = ActNorm(4), draw(2, 4, 3, 2), draw(2, 4, 3, 2, seed=1)
    state = fill(norm)
    found, logdet = norm.apply_to(x)
    loss = 0.5 * (found**2).sum() - logdet.sum()
    loss.backward()
    entries = {"in/x": x, "in/y": y, "out/y": found, "out/logdet": logdet, "out/x_rev": norm.reverse(y)}
    yield File(
        "iin_actnorm__map", {"in_channel": 4}, state, {**entries, "loss/half_sq_minus_logdet": loss, **gradients(norm)}
    )
    net, x = Net(4, 3, 5, 1, "bn", True), draw(1, 4)
    given = {"dim": 4, "depth": 1, "hidden_dim": 5, "use_tanh": True, "use_bn": True, "out_dim": 3}
    yield File("iin_mlp_bn", given, fill(net), {"in/x": x, "out/y": net.eval()(x)})
    coupling, x, y = Coupling(2, 3, 0), draw(4, 2), draw(4, 2, seed=1)
    state = fill(coupling)
    found, logdet = coupling.apply_to(x)
    loss = 0.5 * (found**2).sum(1).mean() - logdet.mean()
    loss.backward()
    entries = {
        "in/x": x,
        "in/y": y,
        "out/y": found,
        "out/logdet": logdet,
        "out/x_rev": coupling.reverse(y),
        "loss/nll": loss,
    }
    yield File(
        "iin_coupling__2", {"in_channels": 2, "hidden_dim": 3, "depth": 0}, state, {**entries, **gradients(coupling)}
    )
    step = Block(6, 3, 1, listed=True)
    state, (found, logdet) = fill(step), step.apply_to(x := draw(2, 6))
    entries = {"in/x": x, "out/y": found, "out/logdet": logdet}
    yield File("iin_flowstep__6", {"in_channels": 6, "hidden_dim": 3, "hidden_depth": 1}, state, entries)


class Transformer(nn.Module):
    def __init__(self, channels: int, depth: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.realnvp = nn.Module()
        self.realnvp.flow = nn.ModuleList(Block(channels, hidden, layers, listed=True) for _ in range(depth))

    def apply_to(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for block in self.realnvp.get_submodule("flow").children():
            x, logdet = block.apply_to(x)
            total = total + logdet
        return x, total

    def reverse(self, z: Tensor) -> Tensor:
        for block in reversed([*self.realnvp.get_submodule("flow").children()]):
            z = block.reverse(z)
        return z


def flows() -> Iterator[File]:
    for name, depth, initialised in (("transformer", 1, True), ("ddinit", 2, False)):
        net, x = Transformer(4, depth, 5, 1), draw(5, 4)
        given = {"Transformer": {"in_channel": 4, "n_flow": depth, "hidden_depth": 1, "hidden_dim": 5}}
        state = fill(net, initialised=initialised)
        z, logdet = net.apply_to(x)
        nll, negative = 0.5 * (z**2).sum(1).mean(), -logdet.mean()
        (nll + negative).backward()
        entries = {"in/x": x, "out/z": z, "out/logdet": logdet, **gradients(net)}
        entries |= below("out/state_after/", {k: v for k, v in net.state_dict().items() if "loc" in k})
        entries |= below("loss/", {"loss": nll + negative, "nll_loss": nll, "nlogdet_loss": negative})
        yield File(f"iin_{name}__{depth}", given, state, entries)
    net, x = Transformer(4, 2, 5, 1), draw(3, 6, 4)
    given |= {"learning_rate": 2e-3, "num_steps": 3, "decay_start": 0, "betas": [0.8, 0.95], "steps": 3}
    state, adam = fill(net), torch.optim.Adam(net.parameters(), 2e-3, (0.8, 0.95))
    values, rates = [], []
    for step, batch in enumerate(x):
        rates.append(2e-3 * (1 - min(max((step - 1) / 3, 0), 1)))
        adam.param_groups[0]["lr"] = rates[-1]
        z, logdet = net.apply_to(batch)
        values.append(0.5 * (z**2).sum(1).mean() - logdet.mean())
        adam.zero_grad()
        values[-1].backward()
        adam.step()
    entries = {"in/x": x, "out/lr_used": torch.tensor(rates), "loss/loss": torch.stack(values)}
    yield File("iin_trainsteps__betas", given, state, entries | below("out/param_after/", net.state_dict()))


def pair_loss(
    first: list[Tensor], second: list[Tensor], logdets: list[Tensor], factor: Tensor, rho: float
) -> dict[str, Tensor]:
    """The factor loss of the sheet's section 3.1, sample by sample."""
    a = sum(0.5 * (z**2).sum(1) for z in first) - logdets[0]
    b = -logdets[1]
    for i, f in enumerate(factor.tolist()):
        for k, (u, v) in enumerate(zip(first, second, strict=True)):
            m = 1.0 if f == k or (f < 0 and f != -k) else 0.0
            term = 0.5 * ((v[i] - m * rho * u[i]) ** 2).sum() / (1 - m * rho**2)
            b = b + F.one_hot(torch.tensor(i), len(factor)) * term
    return {"loss": a.mean() + b.mean(), "loss1": a.mean(), "loss2": b.mean()}


def factors() -> Iterator[File]:
    factor = torch.tensor([0, 2, -1, -2, 1])
    for name, options, sizes in (
        ("config", {"factor_config": [1, 4, 1], "n_factors": 3}, [1, 4, 1]),
        ("chunks", {"n_factors": 4}, [2, 2, 2]),
        ("two", {"factor_config": []}, [3, 3]),
    ):
        net, x1, x2 = Transformer(6, 2, 5, 1), draw(5, 6), draw(5, 6, seed=1)
        given = {"in_channel": 6, "n_flow": 2, "hidden_depth": 1, "hidden_dim": 5, **options}
        state = fill(net)
        (z1, logdet1), (z2, logdet2) = net.apply_to(x1), net.apply_to(x2)
        first, second = list(z1.split(sizes, 1)), list(z2.split(sizes, 1))
        losses = pair_loss(first, second, [logdet1, logdet2], factor, 0.6)
        losses["loss"].backward()
        masks = [
            torch.tensor([float(f == k or (f < 0 and f != -k)) for f in factor.tolist()]) for k in range(len(sizes))
        ]
        swapped = [a + m[:, None] * (b - a) for a, b, m in zip(first, second, masks, strict=True)]
        entries = {"in/x1": x1, "in/x2": x2, "in/factor": factor, "out/logdet1": logdet1, "out/logdet2": logdet2}
        entries |= {"out/x_swap": net.reverse(torch.cat(swapped, 1)), **below("loss/", losses), **gradients(net)}
        for k in range(len(sizes)):
            crossed = [a if j == k else b for j, (a, b) in enumerate(zip(first, second, strict=True))]
            entries |= {f"out/z1_{k}": first[k], f"out/mask_{k}": masks[k]}
            entries[f"out/x_cross_{k}"] = net.reverse(torch.cat(crossed, 1))
        yield File(f"iin_factor_transformer__{name}", {"Transformer": given, "Loss": {"rho": 0.6}}, state, entries)
        arrays = {
            f"z{side}_{k}": z.detach().clone().requires_grad_()
            for side, zs in ((1, first), (2, second))
            for k, z in enumerate(zs)
        }
        arrays |= {f"logdet{i}": t.detach().clone().requires_grad_() for i, t in ((1, logdet1), (2, logdet2))}
        parts = [[arrays[f"z{side}_{k}"] for k in range(len(sizes))] for side in (1, 2)]
        losses = pair_loss(*parts, [arrays["logdet1"], arrays["logdet2"]], factor, 0.9)
        losses["loss"].backward()
        entries = {"in/factor": factor.int(), **below("in/", arrays), **below("loss/", losses)}
        entries |= {f"grad/{k}": v.grad for k, v in arrays.items() if v.grad is not None}
        yield File(f"iin_factor_loss_{name}", {"Loss": {"rho": 0.9}, "sizes": sizes}, {}, entries)
    for residual in (0, 1, 2):
        yield _dims(residual)


def _dims(residual: int) -> File:
    za, zb, factor = (
        draw(50, 9),
        draw(50, 9, seed=1),
        torch.randint(3, (50,), generator=torch.Generator().manual_seed(0)),
    )
    factor = torch.where(factor == residual, (factor + 1) % 3, factor)
    zb = zb + 0.7 * za
    a, b = za.double().numpy(), zb.double().numpy()
    both = np.concatenate([a, b])
    scores = np.ones(3)
    for f in {0, 1, 2} - {residual}:
        rows = factor.numpy() == f
        mean = 0.5 * (a[rows].mean(0) + b[rows].mean(0))
        scores[f] = ((a[rows] - mean) * (b[rows] - mean)).mean(0).sum() / ((both - both.mean(0)) ** 2).mean(0).sum()
    sizes = np.floor(np.exp(scores) / np.exp(scores).sum() * 9).astype(int)
    sizes[-1] = 9 - sizes[:-1].sum()
    entries = {
        "in/za": za,
        "in/zb": zb,
        "in/factor": factor,
        "out/scores": torch.from_numpy(scores),
        "out/dims": torch.from_numpy(sizes),
    }
    return File(f"iin_dims{residual}", {"n_factors": 3, "residual_index": residual, "dim": 9}, {}, entries)


def autoencoders() -> Iterator[File]:
    for kind, down, deterministic, mode in (
        ("in", 2, False, "eval"),
        ("bn", 1, True, "eval"),
        ("bn", 3, False, "train"),
    ):
        net, x, z, noise = im.Autoencoder(16, 1, down, 3, kind, 4), draw(3, 1, 16, 16), draw(3, 3), draw(3, 3, seed=1)
        given = {
            "Model": {
                "deterministic": deterministic,
                "in_channels": 1,
                "in_size": 16,
                "n_down": down,
                "norm": kind,
                "z_dim": 3,
            }
        }
        state = fill(net)
        found = im.moments(net.train(mode == "train")(x), deterministic)
        sample = found["mean"] + found["std"] * noise
        restored = net.decode(sample)
        loss = (restored - x).abs().sum() / 3 + found["kl"].mean()
        loss.backward()
        entries = {
            "in/x": x,
            "in/z": z,
            **({} if deterministic else {"in/noise": noise}),
            **below("out/", found),
            **gradients(net),
        }
        entries |= {"out/sample": sample, "out/reconstruction": restored, "loss/l1sum_plus_kl": loss}
        yield File(f"iin_ae_{kind}{down}", {**given, "base_width": 4, "mode": mode}, state, entries)
    classifier, x, chosen = im.Classifier(8, 3, 2, 5, 3, "bn", 4), draw(4, 3, 8, 8), torch.tensor([0, 2, 1, 0])
    state, z = fill(classifier), classifier.eval()(x)
    logits, labels = classifier.classifier(z), torch.eye(3)[chosen]
    each = -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits))
    each.mean().backward()
    entries = {"in/x": x, "in/class": chosen.to(torch.uint8), "out/z": z, "out/logits": logits, "loss/bce": each.mean()}
    given = {
        "Model": {"in_channels": 3, "in_size": 8, "n_down": 2, "norm": "bn", "z_dim": 5},
        "base_width": 4,
        "n_classes": 3,
    }
    yield File("iin_clf__bn", given, state, {**entries, "loss/bce_elementwise": each, **gradients(classifier)})


OPTIONS: tuple[dict[str, Any], ...] = (
    {"pixelloss": "l2", "spectral_norm": True, "calibrate": True, "kl_weight": 0.3, "perceptual_weight": 0.2,
     "disc_factor": 0.6, "disc_num_layers": 2, "disc_start": 4},
    {"calibrate": False, "discriminator_weight": 0.4, "disc_num_layers": 1, "disc_start": 3},
)  # fmt: skip


def losses() -> Iterator[File]:
    for i, options in enumerate(OPTIONS):
        yield _loss(i, options)
        spectral, layers = options.get("spectral_norm", False), options["disc_num_layers"]
        judge, real, fake = (
            im.Discriminator(2, 3, layers, "bn", spectral),
            draw(3, 2, 24, 24),
            draw(3, 2, 24, 24, seed=1),
        )
        whole = nn.ModuleDict({"discriminator": judge})
        state = fill(whole)
        entries = {"in/real": real, "in/fake": fake, "out/logits_real_first_call_train_mode": judge.train()(real)}
        entries["out/logits_fake_second_call_train_mode"] = judge(fake)
        entries |= below(
            "out/state_after/", {k: v for k, v in whole.state_dict().items() if "running" in k or "_u" in k}
        )
        entries["out/logits_real_eval_mode_after"] = judge.eval()(real)
        yield File(f"iin_disc__{i}", {"ndf": 3, "Loss": options}, state, entries)


def _loss(number: int, options: dict[str, Any]) -> File:
    point = bool(number)
    model = im.Autoencoder(24, 3, 1, 2, "an", 4)
    loss = nn.Module()
    loss.logvar = nn.Parameter(torch.tensor(0.3))
    loss.discriminator = im.Discriminator(3, 4, options["disc_num_layers"], "bn", options.get("spectral_norm", False))
    whole = nn.ModuleDict({"model": model, "loss": loss}).train()
    state = fill(whole) | {"loss.logvar": loss.logvar.detach().clone()}
    x, noise = draw(3, 3, 24, 24), draw(3, 2)
    found = im.moments(model(x), point)
    restored = model.decode(found["mean"] + found["std"] * noise)
    errors = (x - restored) ** 2 if options.get("pixelloss") == "l2" else (x - restored).abs()
    errors = errors + options.get("perceptual_weight", 1.0) * ((x - restored) ** 2).mean((1, 2, 3), keepdim=True)
    nll = (errors / loss.logvar.exp() + loss.logvar).sum() / 3
    kl, factor = found["kl"].mean(), options.get("disc_factor", 1.0)
    judge = loss.get_submodule("discriminator")
    real, fake = judge(x), judge(restored)
    g, last = -fake.mean(), model.get_parameter("image_layer.sub_layers.0.weight")
    sizes = [torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (nll, g)]
    balanced = (sizes[0] / (sizes[1] + 1e-4)).clamp(0, 1e4).detach()
    weight = balanced if options["calibrate"] else torch.tensor(options["discriminator_weight"])
    total = nll + options.get("kl_weight", 1.0) * kl + weight * factor * g
    judged = factor * 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
    scalars = {"loss": total, "kl_loss": kl, "nll_loss": nll, "rec_loss": errors.mean(), "g_loss": g, "d_loss": judged}
    scalars |= {"calibration": (errors / loss.logvar.exp() - 1).sum() / 3, "d_weight": weight}
    named = dict(whole.named_parameters())
    mine, theirs = ({k: p for k, p in named.items() if ("discriminator" in k) == their} for their in (False, True))
    grads = torch.autograd.grad(total, [*mine.values()], retain_graph=True, allow_unused=True)
    entries = {f"grad/{k}": grad for k, grad in zip(mine, grads, strict=True) if grad is not None}
    entries |= dict(zip((f"grad_d/{k}" for k in theirs), torch.autograd.grad(judged, [*theirs.values()]), strict=True))
    entries |= {"in/x": x, "in/noise": noise, "out/reconstruction": restored, **below("loss/", scalars)}
    given = {"deterministic": point, "in_channels": 3, "in_size": 24, "n_down": 1, "norm": "an", "z_dim": 2}
    config = {"base_width": 4, "ndf": 4, "Model": given, "Loss": options, "global_step": 4}
    return File(f"iin_aeloss__{number}", config, state, entries)


def pairs() -> Iterator[File]:
    """The tables of pairs, drawn one number after the other."""
    attributes = np.random.RandomState(3).choice([-1, 1], size=(20, 40)).astype(np.int8)
    for name, given, columns in (
        ("own", {"attributes": ["Bald", "Young"]}, [4, 39]),
        ("default", {}, [15, 20, 24, 31]),
    ):
        subset = np.random.RandomState(5).choice(20, size=12)
        chosen, random = attributes[subset], np.random.RandomState(5)
        factor, second = [], []
        for row in chosen:
            factor.append(random.choice(len(columns)))
            column = chosen[:, columns[factor[-1]]]
            second.append(random.choice(np.flatnonzero(column == row[columns[factor[-1]]])))
        tables = {
            "subset_idx_first7": subset[:7],
            "factor_first7": factor[:7],
            "i2_first7": second[:7],
            "attribute_indices": columns,
        }
        entries = {f"out/{key}": torch.tensor(np.asarray(value)) for key, value in tables.items()}
        config = {"seed": 5, "subset": 12, **given}
        yield File(f"iin_celeba_pairs__{name}", config, {}, {"in/attributes": torch.from_numpy(attributes), **entries})


GROUPS = (blocks, flows, factors, autoencoders, losses, pairs)
