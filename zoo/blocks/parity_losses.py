"""Discriminators and the losses of autoencoders beside recorded numbers of the authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.graph import BuiltGraph
from zoo import losses
from zoo.blocks import autoencoder, discriminator, recipes
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.blocks.parity_autoencoders import Answers, generated, iin_autoencoder, loaded, noise, under
from zoo.experts import lpips
from zoo.layouts import Layout
from zoo.parity import Fixture

JUDGEMENTS: dict[str, Literal["hinge", "softplus"]] = {"hinge": "hinge", "vanilla": "softplus"}


def net2net_disc(fixture: Fixture) -> Answers:
    """Logits in evaluation and in training mode."""
    given = fixture.config["params"]
    norm: discriminator.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    x = fixture["in/x"]
    layers = given.get("n_layers", 3)
    graph = discriminator.discriminator(given.get("input_nc", 3), x.shape[-1], given.get("ndf", 64), layers, norm)
    net = generated(graph, discriminator.discriminator_rules(layers, norm), fixture)
    answers = {"out/y_eval": net(x)}
    return answers | ({"out/y_train": net.train()(x)} if "out/y_train" in fixture else {})


def net2net_ae_loss(fixture: Fixture) -> Answers:
    """All terms and gradients, before and after the discriminator starts, in both modes."""
    given, x = fixture.config["params"], fixture["in/x"]
    layers = given.get("disc_num_layers", 3)
    norm: discriminator.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    judge = discriminator.discriminator(x.shape[1], x.shape[-1], layers=layers, norm=norm)
    rules = discriminator.discriminator_rules(layers, norm, theirs="discriminator.main.")
    net = generated(judge, rules, fixture, beside=("perceptual_loss.", "logvar"))
    distance = lpips.LPIPS()
    layout = Layout(distance, lpips.rules("perceptual_loss."))
    stored = {key: value for key, value in fixture.state.items() if key.startswith("perceptual_loss.")}
    state = stored or recipes.net2net({key: v.shape for key, v in layout.entries.items()}, fixture.config["seed"])
    fixed = {key: value for key, value in layout.write(distance.state_dict()).items() if "scaling_layer" in key}
    layout.load(distance, {**state, **fixed})
    answers: Answers = {}
    for mode in ("eval", "train"):
        net.train(mode == "train")
        for moment in ("pre", "post"):
            step = given["disc_start"] - (moment == "pre")
            answers |= _net2net_pass(fixture, net, distance, step, f"{mode}_{moment}")
    return answers


def _net2net_pass(fixture: Fixture, net: BuiltGraph, distance: lpips.LPIPS, step: int, name: str) -> Answers:
    given, x = fixture.config["params"], fixture["in/x"]
    last, moments, logvar = (fixture[f"in/{key}"].requires_grad_() for key in ("W", "moments", "logvar"))
    restored = (F.conv2d(fixture["in/h"], last) + 0.5 * x).tanh()
    perceptual = distance(x, restored)
    errors = losses.reconstruction(x, restored, perceptual, given.get("perceptual_weight", 1.0))
    nll = losses.negative_log_likelihood(errors, logvar)
    kl = DiagonalGaussian.of(moments).kl().mean()
    generator = losses.generator(net(restored))
    weight = losses.adversarial_weight(nll, generator, last) * given.get("disc_weight", 1.0)
    factor = losses.started(step, given["disc_start"], given.get("disc_factor", 1.0))
    total = nll + given.get("kl_weight", 1.0) * kl + weight * factor * generator
    grads = torch.autograd.grad(total, (last, moments, logvar))
    real, fake = net(x), net(restored.detach())
    judged = factor * losses.discriminator(real, fake, JUDGEMENTS[given.get("disc_loss", "hinge")])
    scalars = {
        "total": total,
        "kl_loss": kl,
        "nll_loss": nll,
        "rec_loss": errors.mean(),
        "d_weight": weight,
        "disc_factor": torch.tensor(factor),
        "g_loss": generator,
        "disc": judged,
        "logits_real": real.mean(),
        "logits_fake": fake.mean(),
    }
    answers = under(f"loss/{name}_", scalars)
    answers |= under(f"grad/{name}_", dict(zip(("W", "moments", "logvar"), grads, strict=True)))
    if factor and f"grad/{name}_disc_main0_w" in fixture:
        first = net.get_parameter("conv_0.weight")
        kept = len(fixture[f"grad/{name}_disc_main0_w"])  # the files hold the first few filters
        answers[f"grad/{name}_disc_main0_w"] = torch.autograd.grad(judged, first)[0][:kept]
    return {**answers, "out/lpips": perceptual, "out/rec": restored}


def iin_disc(fixture: Fixture) -> Answers:
    """Two calls in training mode, what they leave in the buffers, then one in evaluation mode."""
    net, layout = _iin_discriminator(fixture, fixture["in/real"], "discriminator.main.", ("logvar",))
    net.train()
    answers = {
        "out/logits_real_first_call_train_mode": net(fixture["in/real"]),
        "out/logits_fake_second_call_train_mode": net(fixture["in/fake"]),
    }
    answers |= under("out/state_after/", layout.write(net.state_dict()))
    return {**answers, "out/logits_real_eval_mode_after": net.eval()(fixture["in/real"])}


def _iin_discriminator(fixture: Fixture, x: Tensor, prefix: str, beside: Sequence[str]) -> tuple[BuiltGraph, Layout]:
    given, width = fixture.config["Loss"], fixture.config.get("ndf", 64)
    layers, spectral = given.get("disc_num_layers", 3), given.get("spectral_norm", False)
    graph = discriminator.discriminator(x.shape[1], x.shape[-1], width, layers, "batch", spectral)
    return loaded(graph, discriminator.discriminator_rules(layers, "batch", spectral, prefix), fixture.state, beside)


def iin_aeloss(fixture: Fixture) -> Answers:
    """All terms, gradients of the autoencoder's loss before the discriminator's step, and of the discriminator's."""
    given, model, x = fixture.config["Loss"], fixture.config["Model"], fixture["in/x"]
    graph, norm = iin_autoencoder(fixture)
    net, layout = loaded(graph, autoencoder.autoencoder_rules(norm, "model."), fixture.state, ("loss.",))
    judge, judging = _iin_discriminator(fixture, x, "loss.discriminator.main.", ("model.", "loss.logvar"))
    judge.train()
    logvar = fixture.state["loss.logvar"].clone().requires_grad_()
    net.train()
    moments, _, restored = net(x, noise(fixture, model["z_dim"]))
    perceptual = (x - restored).square().mean((1, 2, 3), keepdim=True)  # the file's stand-in for LPIPS
    pixels = given.get("pixelloss", "l1")
    errors = losses.reconstruction(x, restored, perceptual, given.get("perceptual_weight", 1.0), pixels)
    nll = losses.negative_log_likelihood(errors, logvar)
    kl = DiagonalGaussian.of(moments, model.get("deterministic", False)).kl().mean()
    factor = losses.started(fixture.config["global_step"], given["disc_start"], given.get("disc_factor", 1.0))
    real, fake = judge(x), judge(restored)
    judged, generator = factor * losses.discriminator(real, fake, "softplus"), losses.generator(fake)
    calibrated = given.get("calibrate", False)
    last = net.get_parameter("decoder.paint.weight")
    weight = losses.adversarial_weight(nll, generator, last) if calibrated else given.get("discriminator_weight", 1.0)
    total = nll + given.get("kl_weight", 1.0) * kl + weight * factor * generator
    scalars = {
        "loss": total,
        "logvar": logvar,
        "kl_loss": kl,
        "nll_loss": nll,
        "rec_loss": errors.mean(),
        "calibration": losses.calibration(errors, logvar),
        "g_loss": generator,
        "d_loss": judged,
        "logits_real": real.mean(),
        "logits_fake": fake.mean(),
        "d_weight": torch.as_tensor(weight),
    }
    judged.backward(retain_graph=True)
    of_judge = {key: grad.clone() for key, grad in judging.gradients(judge).items()}
    net.zero_grad()
    (total - 0 * judged).backward()
    return {
        "out/reconstruction": restored,
        **under("loss/", scalars),
        **under("grad/", layout.gradients(net)),
        "grad/loss.logvar": logvar.grad if logvar.grad is not None else torch.zeros(()),
        **under("grad_d/", of_judge),
    }
