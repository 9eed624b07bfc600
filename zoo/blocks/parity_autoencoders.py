"""Autoencoders, discriminators, posteriors and their losses beside recorded numbers of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo import losses
from zoo.blocks import autoencoder, biggan, discriminator, recipes, resnet
from zoo.blocks.embedders import Norm
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.blocks.image_kinds import ImagenetNormalise
from zoo.experts import lpips
from zoo.layouts import Layout, Rule
from zoo.parity import Fixture

Answers = dict[str, Tensor]
NORMS: dict[str, Norm] = {"an": "actnorm", "bn": "batch", "in": "instance"}


def loaded(network: g.Graph, rules: Sequence[Rule], state: Mapping[str, Tensor]) -> tuple[BuiltGraph, Layout]:
    """The network in eval mode with the authors' weights."""
    net = network.build().eval()
    layout = Layout(net, rules)
    layout.load(net, state)
    return net, layout


def generated(network: g.Graph, rules: Sequence[Rule], fixture: Fixture) -> BuiltGraph:
    """The network in eval mode with the weights of the file, or those that Net2Net's rule generates."""
    net = network.build().eval()
    layout = Layout(net, rules)
    shapes = {key: value.shape for key, value in layout.entries.items()}
    layout.load(net, fixture.state or recipes.net2net(shapes, fixture.config["seed"]))
    return net


def under(prefix: str, values: Mapping[str, Tensor]) -> Answers:
    """The same values under longer keys."""
    return {prefix + key: value for key, value in values.items()}


def net2net_basic_ae(fixture: Fixture) -> Answers:
    """Moments, their Gaussian, a decoded latent."""
    given = fixture.config["params"]
    graph = autoencoder.autoencoder(given["in_size"], given["in_channels"], given["n_down"], given["z_dim"])
    net: Any = generated(graph, autoencoder.autoencoder_rules(), fixture)
    moments = net.encoder(fixture["in/x"])
    posterior = DiagonalGaussian.of(moments, given.get("deterministic", False))
    return {
        "out/moments": moments,
        "out/mean": posterior.mean,
        "out/logvar": posterior.logvar,
        "out/kl": posterior.kl(),
        "out/dec": net.decoder(fixture["in/z"].flatten(1)),
    }


def net2net_diag_gaussian(fixture: Fixture) -> Answers:
    """All of the distribution, the deterministic one too."""
    first, second = (DiagonalGaussian.of(fixture[f"in/{name}"]) for name in ("p", "p2"))
    point = DiagonalGaussian.of(fixture["in/p2"], deterministic=True)
    generator = torch.Generator().manual_seed(fixture.config["seed"])
    return {
        **{f"out/{name}": getattr(first, name) for name in ("mean", "logvar", "std", "var", "mode")},
        "out/kl2": second.kl(),
        "out/kl_other": second.kl(DiagonalGaussian.of(0.5 * fixture["in/p2"])),
        "out/nll": second.nll(fixture["in/x"]),
        "out/sample_torchseed": second.sample(generator=generator),
        "out/det_std": point.std,
        "out/det_kl": point.kl(),
        "out/det_nll": point.nll(fixture["in/x"]),
    }


def net2net_dequant_vae(fixture: Fixture) -> Answers:
    """Encoder, moments, decoder, and all of it with the noise that was drawn."""
    given = fixture.config["params"]
    graph = autoencoder.dequantiser(given["in_channels"], given["z_dim"], given["mid_channels"], given["n_down"])
    net: Any = generated(graph, autoencoder.dequantiser_rules(given["n_down"]), fixture)
    h, moments, _, restored = net(fixture["in/x"].flatten(1), fixture["in/eps"].flatten(1))
    posterior = DiagonalGaussian.of(moments)
    return {
        "out/h": h,
        "out/mu": posterior.mean,
        "out/logvar": posterior.logvar,
        "out/dec": net.decoder(fixture["in/z"].flatten(1)),
        "out/y": restored,
    }


def net2net_resnet_encoder(fixture: Fixture) -> Answers:
    """Moments with images normalised twice, as the authors do, and features with images normalised once and twice."""
    given = fixture.config["params"]
    twice = 2 if given.get("pre_process", True) else 0
    out = given["z_dim"] * (2 if given.get("double_z", True) else 1)
    answers: Answers = {}
    for normalised, name in ((twice, "features"), (min(twice, 1), "features_once")):
        graph = resnet.encoder(
            given["in_size"],
            given["in_channels"],
            out,
            int(given["type"].removeprefix("resnet")),
            "actnorm",
            normalised,
        )
        moments, features = generated(graph, resnet.encoder_rules(), fixture)(fixture["in/x"])
        answers.setdefault("out/y", moments)
        answers[f"out/{name}"] = features
    if "out/pre" in fixture:
        step = fixture["in/x"].shape[-1] // fixture["out/pre"].shape[-1]
        answers["out/pre"] = ImagenetNormalise((3, None, None))(fixture["in/x"])[..., ::step, ::step]
    return answers


def net2net_bigae(fixture: Fixture) -> Answers:
    """Moments of bytes over 127, normalised twice; parts of a decoded latent and of its class probabilities."""
    given = fixture.config["params"]
    encoding, decoding = given["encoder_config"], given["decoder_config"]
    norm: biggan.Norm = "actnorm" if decoding.get("use_actnorm_in_dec") else "batch"
    graph = biggan.autoencoder(encoding["in_size"], encoding["z_dim"], last_norm=norm, normalised=2)
    net: Any = generated(graph, biggan.autoencoder_rules(), fixture)
    with torch.no_grad():
        moments, _ = net.encoder(fixture["in/x"].float() / 127)
        image, classes = net.decoder(fixture["in/z"].flatten(1))
    head, step = fixture["out/class_probs_head"].shape[1], image.shape[-1] // fixture["out/img_s4"].shape[-1]
    return {
        "out/moments": moments,
        "out/mode": DiagonalGaussian.of(moments).mode,
        "out/class_probs_top": classes.max(),
        "out/class_probs_head": classes[:, :head],
        "out/img_s4": image[..., ::step, ::step],
        "out/img_stats": torch.stack([image.mean(), image.std(), image.abs().max()]),
    }


def net2net_disc(fixture: Fixture) -> Answers:
    """Logits in evaluation and in training mode."""
    given = fixture.config["params"]
    norm: discriminator.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    x = fixture["in/x"]
    layers = given.get("n_layers", 3)
    graph = discriminator.discriminator(given.get("input_nc", 3), x.shape[-1], given.get("ndf", 64), layers, norm)
    net = generated(graph, discriminator.discriminator_rules(layers, norm), fixture)
    return {"out/y_eval": net(x), "out/y_train": net.train()(x)}


def net2net_ae_loss(fixture: Fixture) -> Answers:
    """All terms and gradients, before and after the discriminator starts, in both modes."""
    given, x = fixture.config["params"], fixture["in/x"]
    layers = given.get("disc_num_layers", 3)
    norm: discriminator.Norm = "actnorm" if given.get("use_actnorm") else "batch"
    judge = discriminator.discriminator(x.shape[1], x.shape[-1], layers=layers, norm=norm)
    net = generated(judge, discriminator.discriminator_rules(layers, norm, theirs="discriminator.main."), fixture)
    distance = lpips.LPIPS()
    layout = Layout(distance, lpips.rules("perceptual_loss."))
    state = recipes.net2net({key: v.shape for key, v in layout.entries.items()}, fixture.config["seed"])
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
    by = "hinge" if given.get("disc_loss", "hinge") == "hinge" else "softplus"
    judged = factor * losses.discriminator(real, fake, by)  # type: ignore[arg-type]
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
    if factor:
        first = net.get_parameter("conv_0.weight")
        kept = len(fixture[f"grad/{name}_disc_main0_w"])  # the files hold the first few filters
        answers[f"grad/{name}_disc_main0_w"] = torch.autograd.grad(judged, first)[0][:kept]
    return {**answers, "out/lpips": perceptual, "out/rec": restored}


def iin_ae(fixture: Fixture) -> Answers:
    """Posterior, sample with given noise, reconstruction, decoded latent; gradients of the summed error and KL."""
    given = fixture.config["Model"]
    norm, deterministic = NORMS[given.get("norm", "an")], given.get("deterministic", False)
    graph = autoencoder.autoencoder(
        given["in_size"], given["in_channels"], given["n_down"], given["z_dim"], norm, fixture.config["base_width"]
    )
    net, layout = loaded(graph, autoencoder.autoencoder_rules(norm), fixture.state)
    parts: Any = net
    x = fixture["in/x"]
    posterior = DiagonalGaussian.of(parts.encoder(x), deterministic)
    answers = {f"out/{name}": getattr(posterior, name) for name in ("mean", "logvar", "std", "var", "mode")}
    answers["out/kl"] = posterior.kl()
    answers["out/last_feature"] = _before_last(parts.encoder, x)
    answers["out/decode_z"] = parts.decoder(fixture["in/z"].flatten(1))
    if "in/noise" in fixture:
        answers["out/sample"] = posterior.sample(fixture["in/noise"].flatten(1))
        answers["out/reconstruction"] = parts.decoder(answers["out/sample"])
        loss = (answers["out/reconstruction"] - x).abs().sum() / len(x) + posterior.kl().mean()
        loss.backward()
        answers |= {"loss/l1sum_plus_kl": loss, **under("grad/", layout.gradients(net))}
    return answers


def _before_last(encoder: Any, x: Tensor) -> Tensor:
    """What the last convolution of an encoder reads."""
    seen: list[Tensor] = []
    hook = encoder.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(x)
    hook.remove()
    return seen[0]


def iin_clf(fixture: Fixture) -> Answers:
    """Representation, logits, the binary cross entropies that the authors train with."""
    given = fixture.config["Model"]
    graph = autoencoder.classifier(
        given["in_size"],
        given["in_channels"],
        given["n_down"],
        given["z_dim"],
        fixture.config["n_classes"],
        NORMS[given.get("norm", "an")],
        fixture.config["base_width"],
    )
    net, layout = loaded(graph, autoencoder.classifier_rules(NORMS[given.get("norm", "an")]), fixture.state)
    z, logits = net(fixture["in/x"])
    labels = F.one_hot(fixture["in/class"], logits.shape[1]).to(logits)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    each.mean().backward()
    return {
        "out/z": z,
        "out/logits": logits,
        "out/accuracy": (logits.argmax(1) == fixture["in/class"]).double().mean(),
        "loss/bce_elementwise": each,
        "loss/bce": each.mean(),
        **under("grad/", layout.gradients(net)),
    }


def iin_distribution(fixture: Fixture) -> Answers:
    """All of the distribution, and the gradient of the mean KL divergence."""
    moments = fixture["in/parameters"].requires_grad_()
    posterior, other = DiagonalGaussian.of(moments), DiagonalGaussian.of(fixture["in/other_parameters"])
    point = DiagonalGaussian.of(moments, deterministic=True)
    return {
        **{f"out/{name}": getattr(posterior, name) for name in ("mean", "logvar", "std", "var", "mode")},
        "out/sample": posterior.sample(fixture["in/noise"]),
        "out/kl": posterior.kl(),
        "out/kl_other": posterior.kl(other),
        "out/nll": other.nll(fixture["in/sample"]),
        "out/det_sample": point.sample(fixture["in/noise"]),
        "out/det_kl": point.kl(),
        "grad/parameters_of_mean_kl": torch.autograd.grad(posterior.kl().mean(), moments)[0],
    }


def iin_disc(fixture: Fixture) -> Answers:
    """Two calls in training mode, what they leave in the buffers, then one in evaluation mode."""
    net, layout = _iin_discriminator(fixture, fixture["in/real"], fixture.state, "discriminator.main.")
    net.train()
    answers = {
        "out/logits_real_first_call_train_mode": net(fixture["in/real"]),
        "out/logits_fake_second_call_train_mode": net(fixture["in/fake"]),
    }
    answers |= under("out/state_after/", layout.write(net.state_dict()))
    return {**answers, "out/logits_real_eval_mode_after": net.eval()(fixture["in/real"])}


def _iin_discriminator(
    fixture: Fixture, x: Tensor, state: Mapping[str, Tensor], prefix: str
) -> tuple[BuiltGraph, Layout]:
    given = fixture.config["Loss"]
    layers, spectral = given.get("disc_num_layers", 3), given.get("spectral_norm", False)
    graph = discriminator.discriminator(x.shape[1], x.shape[-1], fixture.config["ndf"], layers, "batch", spectral)
    kept = {key: value for key, value in state.items() if key.startswith(prefix)}
    return loaded(graph, discriminator.discriminator_rules(layers, "batch", spectral, prefix), kept)


def iin_aeloss(fixture: Fixture) -> Answers:
    """All terms, gradients of the autoencoder's loss before the discriminator's step, and of the discriminator's."""
    given, model, x = fixture.config["Loss"], fixture.config["Model"], fixture["in/x"]
    norm = NORMS[model.get("norm", "an")]
    graph = autoencoder.autoencoder(
        model["in_size"], model["in_channels"], model["n_down"], model["z_dim"], norm, fixture.config["base_width"]
    )
    own = {key: value for key, value in fixture.state.items() if key.startswith("model.")}
    net, layout = loaded(graph, autoencoder.autoencoder_rules(norm, "model."), own)
    judge, judging = _iin_discriminator(fixture, x, fixture.state, "loss.discriminator.main.")
    judge.train()
    logvar = fixture.state["loss.logvar"].clone().requires_grad_()
    net.train()
    moments, _, restored = net(x, fixture["in/noise"].flatten(1))
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


def invariances_gaussian(fixture: Fixture) -> Answers:
    """All of the distribution."""
    posterior = DiagonalGaussian.of(fixture["in/parameters"])
    return {
        **{f"out/{name}": getattr(posterior, name) for name in ("mean", "logvar", "std", "var", "mode")},
        "out/sample": posterior.sample(fixture["in/noise"]),
        "out/kl": posterior.kl(),
        "out/nll": posterior.nll(fixture["in/x"]),
    }


def invariances_flatvae(fixture: Fixture) -> Answers:
    """Moments, and what the decoder makes of their mean."""
    given = fixture.config["Model"]
    graph = autoencoder.dequantiser(given["in_channels"], given["z_dim"], given["mid_channels"], given["n_down"])
    net, _ = loaded(graph, autoencoder.dequantiser_rules(given["n_down"]), fixture.state)
    parts: Any = net
    noise = (
        fixture["in/noise"].flatten(1) if "in/noise" in fixture else torch.zeros(len(fixture["in/x"]), given["z_dim"])
    )
    _, moments, z, restored = net(fixture["in/x"].flatten(1), noise)
    posterior = DiagonalGaussian.of(moments)
    decoded = parts.decoder(posterior.mean) if given.get("be_deterministic") else restored
    return {"out/mean": posterior.mean, "out/logvar": posterior.logvar, "out/sample": z, "out/decoded": decoded}
