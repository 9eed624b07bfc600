"""Autoencoders, discriminators, posteriors and their losses beside recorded numbers of the authors' code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo.blocks import autoencoder, biggan, recipes, resnet
from zoo.blocks.embedders import Norm
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.blocks.image_kinds import ImagenetNormalise
from zoo.blocks.parity_biggan import layers_of
from zoo.layouts import Layout, Rule
from zoo.parity import Fixture
from zoo.parity_files import every_nth

Answers = dict[str, Tensor]
NORMS: dict[str, Norm] = {"an": "actnorm", "bn": "batch", "in": "instance"}


def loaded(
    network: g.Graph, rules: Sequence[Rule], state: Mapping[str, Tensor], beside: Sequence[str] = ()
) -> tuple[BuiltGraph, Layout]:
    """The network in eval mode with the authors' weights; ``beside`` are prefixes of weights of other networks."""
    net = network.build().eval()
    layout = Layout(net, rules)
    layout.load(net, state, beside)
    return net, layout


def generated(network: g.Graph, rules: Sequence[Rule], fixture: Fixture, beside: Sequence[str] = ()) -> BuiltGraph:
    """The network in eval mode with the weights of the file, or those that Net2Net's rule generates.

    Arguments:
        beside: prefixes of weights of other networks.
    """
    net = network.build().eval()
    layout = Layout(net, rules)
    shapes = {key: value.shape for key, value in layout.entries.items()}
    layout.load(net, fixture.state or recipes.net2net(shapes, fixture.config["seed"]), beside)
    return net


def numbers(posterior: DiagonalGaussian) -> Answers:
    """A distribution's means and spreads, by the authors' names."""
    return {name: getattr(posterior, name) for name in ("mean", "logvar", "std", "var", "mode")}


def noise(fixture: Fixture, size: int) -> Tensor:
    """What a file's posterior was sampled with (B, size), zeros if nothing is recorded."""
    return fixture["in/noise"].flatten(1) if "in/noise" in fixture else torch.zeros(len(fixture["in/x"]), size)


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
    answers = {"out/moments": moments, **under("out/", numbers(posterior)), "out/kl": posterior.kl()}
    return answers | {"out/dec": net.decoder(fixture["in/z"].flatten(1))}


def net2net_diag_gaussian(fixture: Fixture) -> Answers:
    """All of the distribution, the deterministic one too."""
    first, second = (DiagonalGaussian.of(fixture[f"in/{name}"]) for name in ("p", "p2"))
    point = DiagonalGaussian.of(fixture["in/p2"], deterministic=True)
    generator = torch.Generator().manual_seed(fixture.config["seed"])
    return {
        **under("out/", numbers(first)),
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
    net: Any = generated(*_dequantiser(fixture.config["params"]), fixture)
    h, moments, _, restored = net(fixture["in/x"].flatten(1), fixture["in/eps"].flatten(1))
    posterior = DiagonalGaussian.of(moments)
    return {
        "out/h": h,
        "out/mu": posterior.mean,
        "out/logvar": posterior.logvar,
        "out/dec": net.decoder(fixture["in/z"].flatten(1)),
        "out/y": restored,
    }


def _dequantiser(given: Mapping[str, Any]) -> tuple[g.Graph, list[Rule]]:
    channels, layers = given.get("in_channels", 128), given.get("n_down", 2)
    graph = autoencoder.dequantiser(channels, given.get("z_dim", 128), given.get("mid_channels", 4096), layers)
    return graph, autoencoder.dequantiser_rules(layers)


def net2net_resnet_encoder(fixture: Fixture) -> Answers:
    """Moments with images normalised twice, as the authors do, and features with images normalised once and twice."""
    given = fixture.config["params"]
    twice = 2 if given.get("pre_process", True) else 0
    out = given["z_dim"] * (2 if given.get("double_z", True) else 1)
    answers: Answers = {}
    for normalised, name in ((twice, "features"), (min(twice, 1), "features_once")):
        channels, side = fixture["in/x"].shape[1:3]
        graph = resnet.encoder(side, channels, out, layers_of(given), "actnorm", normalised)
        moments, features = generated(graph, resnet.encoder_rules(), fixture)(fixture["in/x"])
        answers.setdefault("out/y", moments)
        answers[f"out/{name}"] = features
    if "out/pre" in fixture:
        answers["out/pre"] = every_nth(ImagenetNormalise((3, None, None))(fixture["in/x"]), fixture["out/pre"])
    return answers


def net2net_bigae(fixture: Fixture) -> Answers:
    """Moments of bytes over 127, normalised twice; parts of a decoded latent and of its class probabilities."""
    given, x = fixture.config["params"], fixture["in/x"]
    encoding, decoding = given["encoder_config"], given["decoder_config"]
    norm: biggan.Norm = "actnorm" if decoding.get("use_actnorm_in_dec") else "batch"
    graph = biggan.autoencoder(
        decoding["in_size"],
        encoding["z_dim"],
        last_norm=norm,
        normalised=2,
        extra=decoding.get("extra_z_dims", ()),
        layers=layers_of(encoding),
    )
    net: Any = generated(graph, biggan.autoencoder_rules(), fixture)
    with torch.no_grad():
        moments, _ = net.encoder(x.float() / (127 if x.dtype == torch.int8 else 1))
        image, classes = net.decoder(fixture["in/z"].flatten(1))
    answers = pictures(fixture, {"img": image})
    answers |= {"out/moments": moments, "out/mode": DiagonalGaussian.of(moments).mode}
    if "out/class_probs_head" in fixture:
        answers["out/class_probs_head"] = classes[:, : fixture["out/class_probs_head"].shape[1]]
    return answers | {"out/class_probs_top": classes.max()}


def pictures(fixture: Fixture, images: Answers) -> Answers:
    """What a file holds of images: all pixels or every n-th, ``img_s4``, and numbers of the first, ``img_stats``."""
    answers = under("out/", images)
    for key in fixture.expected:
        match = re.fullmatch(r"out/(.*)_s(\d+)", key)
        if match and match[1] in images:
            stride = int(match[2])
            answers[key] = images[match[1]][..., ::stride, ::stride]
    image = images["img"]
    return answers | {"out/img_stats": torch.stack([image.mean(), image.std(), image.abs().max()])}


def iin_ae(fixture: Fixture) -> Answers:
    """Posterior, sample with given noise, reconstruction, decoded latent; gradients of the summed error and KL."""
    given = fixture.config["Model"]
    deterministic = given.get("deterministic", False)
    graph, norm = iin_autoencoder(fixture)
    net, layout = loaded(graph, autoencoder.autoencoder_rules(norm), fixture.state)
    parts: Any = net.train(fixture.config.get("mode") == "train")
    x = fixture["in/x"]
    posterior = DiagonalGaussian.of(parts.encoder(x), deterministic)
    answers = under("out/", numbers(posterior))
    answers["out/kl"] = posterior.kl()
    answers["out/last_feature"] = _before_last(parts.encoder, x)
    if "in/z" in fixture:
        answers["out/decode_z"] = parts.decoder(fixture["in/z"].flatten(1))
    if "in/noise" in fixture or deterministic:
        answers["out/sample"] = posterior.mean if deterministic else posterior.sample(fixture["in/noise"].flatten(1))
        answers["out/reconstruction"] = parts.decoder(answers["out/sample"])
        loss = (answers["out/reconstruction"] - x).abs().sum() / len(x) + posterior.kl().mean()
        loss.backward()
        answers |= {"loss/l1sum_plus_kl": loss, **under("grad/", layout.gradients(net))}
    return answers


def iin_autoencoder(fixture: Fixture) -> tuple[g.Graph, Norm]:
    given = fixture.config["Model"]
    norm = NORMS[given.get("norm", "an")]
    sizes = given["in_size"], given["in_channels"], given["n_down"], given["z_dim"]
    width, deterministic = fixture.config.get("base_width", 64), given.get("deterministic", False)
    return autoencoder.autoencoder(*sizes, norm, width, deterministic), norm


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
        fixture.config.get("base_width", 64),
    )
    net, layout = loaded(graph, autoencoder.classifier_rules(NORMS[given.get("norm", "an")]), fixture.state)
    z, logits = net.train(fixture.config.get("mode") == "train")(fixture["in/x"])
    labels = F.one_hot(fixture["in/class"].long(), logits.shape[1]).to(logits)
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
    posterior = DiagonalGaussian.of(moments, fixture.config.get("deterministic", False))
    other = DiagonalGaussian.of(fixture["in/other_parameters"])
    point = DiagonalGaussian.of(moments, deterministic=True)
    return {
        **under("out/", numbers(posterior)),
        "out/sample": posterior.sample(fixture["in/noise"]),
        "out/kl": posterior.kl(),
        "out/kl_other": posterior.kl(other),
        "out/nll": other.nll(fixture["in/sample"]),
        "out/det_sample": point.sample(fixture["in/noise"]),
        "out/det_kl": point.kl(),
        "grad/parameters_of_mean_kl": torch.autograd.grad(DiagonalGaussian.of(moments).kl().mean(), moments)[0],
    }


def invariances_gaussian(fixture: Fixture) -> Answers:
    """All of the distribution."""
    posterior = DiagonalGaussian.of(fixture["in/parameters"])
    return {
        **under("out/", numbers(posterior)),
        "out/sample": posterior.sample(fixture["in/noise"]),
        "out/kl": posterior.kl(),
        "out/nll": posterior.nll(fixture["in/x"]),
    }


def invariances_flatvae(fixture: Fixture) -> Answers:
    """Moments, and what the decoder makes of their mean."""
    given, x = fixture.config["Model"], fixture["in/x"].flatten(1)
    graph, rules = _dequantiser(given)
    net, _ = loaded(graph, rules, fixture.state)
    z_dim, point = given.get("z_dim", 128), given.get("be_deterministic", False)
    _, moments, z, restored = net(x, noise(fixture, z_dim) * (not point))
    return {**under("out/", numbers(DiagonalGaussian.of(moments))), "out/sample": z, "out/decoded": restored}
