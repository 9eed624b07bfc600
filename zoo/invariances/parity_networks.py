"""What surrounds the invariances' flows beside recorded numbers: classifiers, images, attacks, FID, key lists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import graph as g
from zoo import published, registry
from zoo.blocks import parity_biggan, recipes, resnet
from zoo.blocks.gaussian import DiagonalGaussian
from zoo.data import parity as data
from zoo.experts.classifiers import CLASSES, MEAN, SIDE, SIDES, SOFTMAX, STD, Greybox, classifier, network_input
from zoo.experts.cut import INPUT
from zoo.invariances import attack
from zoo.invariances.graph import cinn
from zoo.invariances.published import CLASSIFIERS, PUBLISHED, cinn_rules
from zoo.layouts import Rule
from zoo.metrics import frechet
from zoo.parity import Fixture
from zoo.parity_files import every_nth, text

Answers = dict[str, Tensor]
FIXTURES = Path(__file__).parents[2] / "tests" / "parity" / "fixtures"
LAYERS = {
    "alexnet": [INPUT, *(f"features.{i}" for i in range(13)), "avgpool", "flatten"]
    + [f"classifier.{i}" for i in range(7)]
    + [SOFTMAX],
    "resnet": [INPUT, "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    + ["avgpool", "flatten", "fc", SOFTMAX],
}
"""The authors' lists of layers: the cut at index i is the output of the i-th, counted from 1, and 0 the input."""


BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "initialized") + (
    "forward_shuffle_idx",
    "backward_shuffle_idx",
)
"""Last names of the authors' tensors that are no parameters of theirs."""


def images(fixture: Fixture) -> Answers:
    """Images that other files start from: there is nothing to compute.

    Raises:
        ValueError: unless they are bytes (B, H, W, 3).
    """
    _images(fixture)
    return {}


def _images(fixture: Fixture) -> Tensor:
    found = fixture["in/image_uint8"]
    if found.ndim != 4 or found.shape[-1] != 3 or found.dtype != torch.uint8:
        raise ValueError(f"images: expected bytes (B, H, W, 3), got {found.dtype} {tuple(found.shape)}")
    return found.permute(0, 3, 1, 2).float() / 127.5 - 1


def input_images(fixture: Fixture) -> Tensor:
    """The images (B, 3, H, W) in [-1, 1] that a file holds or names: one beside it, or in this repository."""
    if "in/x" in fixture:
        return fixture["in/x"]
    name = fixture.config["images_from"]
    beside = fixture.path.parent / name
    return _images(Fixture(beside if beside.is_file() else FIXTURES / name))


def encoder(fixture: Fixture) -> Answers:
    """Moments of images normalised twice, as the authors do, with the weights that the file's recipe generates."""
    given, config = fixture.config["Model"], fixture.config
    x = input_images(fixture)
    if "crop" in config:
        x = cropped(x, config["crop"])
    norm: resnet.Norm = "actnorm" if given.get("norm", "an") == "an" else "batch"
    out = given["z_dim"] * (2 if given.get("double_z", True) else 1)
    graph = resnet.encoder(x.shape[-1], x.shape[1], out, parity_biggan.layers_of(given), norm, normalised=2)
    net, _ = parity_biggan.generated(graph, resnet.encoder_rules(), fixture)
    return {"out/params": net(x)[0]}


def cropped(x: Tensor, written: str) -> Tensor:
    """The part of images (B, C, H, W) that a file's config writes as ``x[:, :, 32:96, 32:96]``."""
    numbers = re.fullmatch(r"x\[:, :, (\d+):(\d+), (\d+):(\d+)\]", written)
    if numbers is None:
        raise ValueError(f"crop: expected x[:, :, a:b, c:d], got {written!r}")
    top, bottom, left, right = map(int, numbers.groups())
    return x[:, :, top:bottom, left:right]


def hooks(fixture: Fixture) -> Answers:
    """A classifier's representation at every place of the authors' list of layers, and its logits."""
    name, prefix = classifier_of(fixture.config["class"], fixture.config.get("Model", {}))
    net = classifier(name, fixture.config.get("Model", {}).get("n_classes", CLASSES))
    generate(net, fixture.config["recipe"], prefix)
    given, side = input_images(fixture), SIDES.get(name, SIDE)
    answers = {}
    for index, cut in enumerate(LAYERS["alexnet" if name == "alexnet" else "resnet"]):
        if f"out/z_{index:02d}" in fixture:
            answers[f"out/z_{index:02d}"] = _thinned(Greybox(net, cut, side).encode(given))
    logits = Greybox(net, INPUT, side).logits(given)
    if "out/logits_forward" in fixture:
        stride = -(-logits.shape[1] // fixture["out/logits_forward"].shape[1])
        answers["out/logits_forward"] = logits[:, ::stride]
    return answers


def classifier_of(kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
    """Our name of an authors' classifier, and the prefix of its keys."""
    return ("alexnet", "") if kind == "AlexNetClassifier" else (given.get("type", "resnet101"), "model.")


def generate(net: nn.Module, recipe: Mapping[str, Any], prefix: str = "") -> None:
    """Fills a network of torchvision with generated weights."""
    shapes = {prefix + key: value.shape for key, value in net.state_dict().items()}
    state = recipes.invariances(shapes, recipe["salt"], recipe["gain"])
    net.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})


def _thinned(z: Tensor) -> Tensor:
    """The part of a representation that files hold."""
    if z.ndim == 2:
        return z[:, :: max(1, z.shape[1] // 128)]
    channels, height, width = z.shape[1:]
    return z[:, :: max(1, channels // 16), :: max(1, height // 6), :: max(1, width // 6)]


def preprocess_attack(fixture: Fixture) -> Answers:
    """Crops, the normalisation of classifiers (once) and of the autoencoder (twice), the attack and its control."""
    found = data.invariances_crops(fixture.config, fixture.arrays)
    x, epsilon = torch.from_numpy(found["x"]), fixture.config["eps"]
    answers = {f"out/{key}": torch.from_numpy(value) for key, value in found.items()}
    once = _input(x, x.shape[-1])
    full = {"ae_once": once, "ae_twice": _input(once, x.shape[-1])}
    if "in/grad" in fixture:
        full["attacked"] = attack.step(x, fixture["in/grad"], epsilon)
    full["random"] = attack.random_control(x, epsilon)
    for key in fixture.expected:
        if key.startswith("out/clf_"):
            full[key.removeprefix("out/")] = _input(x, int(key.removeprefix("out/clf_")))
    thinned = {f"out/{key}": value for key, value in full.items() if f"out/{key}" in fixture}
    return answers | {key: every_nth(value, fixture[key]) for key, value in thinned.items()}


def _input(x: Tensor, side: int) -> Tensor:
    """What a classifier with this input size is given."""
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (MEAN, STD))
    return network_input(x, side, mean, std)


def fid(fixture: Fixture) -> Answers:
    """The Fréchet distance of two sets of features."""
    first, second = (frechet.moments(torch.from_numpy(fixture.arrays[f"in/act_{s}"].astype(float))) for s in "ab")
    answers = {"out/fid": torch.tensor(frechet.frechet_distance(first, second), dtype=torch.float64)}
    for side, moments in zip("ab", (first, second), strict=True):
        answers[f"out/mu_{side}"] = torch.from_numpy(moments.mean)
        answers[f"out/sigma_{side}"] = torch.from_numpy(moments.covariance)
    return answers


@torch.no_grad()
def bigae_full(fixture: Fixture) -> Answers:
    """The big autoencoder at its published size, from generated weights."""
    net = parity_biggan.bigae(fixture.config["Model"], fixture.config["recipe"])
    posterior = DiagonalGaussian.of(net.get_submodule("encoder")(input_images(fixture))[0])
    answers = {"out/mean": posterior.mean, "out/logvar": posterior.logvar}
    for key, latent in (("out/x_rec", 0.1 * posterior.mean), ("out/x_sample", fixture["in/z"].flatten(1))):
        answers[key] = parity_biggan.thinned(net.get_submodule("decoder")(latent)[0], fixture.config)
    return answers


@torch.no_grad()
def e2e(fixture: Fixture) -> Answers:
    """A cut AlexNet, the cINN and the big autoencoder at their published sizes, from generated weights."""
    given, recipe = fixture.config, fixture.config["recipe"]
    alexnet = classifier("alexnet")
    generate(alexnet, recipe["alexnet"])
    cut = LAYERS["alexnet"][given["split_idx"]]
    z = Greybox(alexnet, cut, SIDES["alexnet"]).encode(input_images(fixture))
    net, _ = parity_biggan.by_recipe(*transformer(given["Transformer"]), recipe["cinn"])
    v, logdet = net(fixture["in/zbar"].flatten(1), z)
    sample, swap = net.inverse(fixture["in/v"].flatten(1), z)[0], net.inverse(v, z.flip(0))[0]
    answers = {"out/embedding": net.get_submodule("embedder")(z), "out/v": v, "out/logdet": logdet}
    answers |= {"out/rec": net.inverse(v, z)[0], "out/sample": sample, "out/swap": swap}
    del alexnet, net
    decode = parity_biggan.bigae(given["ae_config"]["Model"], recipe["ae"]).get_submodule("decoder")
    answers["out/x_sample"] = parity_biggan.thinned(decode(0.5 * sample)[0], given)
    return answers | {"out/x_swap": parity_biggan.thinned(decode(0.5 * swap)[0], given)}


def transformer(given: Mapping[str, Any], exact_logdet: bool = False) -> tuple[g.Graph, list[Rule]]:
    """The cINN and its rules of an authors' configuration, ``Transformer``, with their defaults."""
    dims = given.get("conditioning_dims", "none")
    dims = () if dims in ("none", None) else tuple(dims)
    size, depth = given["conditioning_spatial_size"], given.get("conditioning_depth", 4)
    graph = cinn(
        dim=given["in_channels"],
        condition=given["conditioning_in_channels"],
        size=size,
        down=given.get("embedder_down", 4),
        embedder_depth=depth,
        embedder_dims=dims,
        depth=given["n_flows"],
        hidden=given["mid_channels"],
        layers=given["hidden_depth"],
        activation=given.get("activation", "lrelu"),
        exact_logdet=exact_logdet,
        conditioning=given.get("conditioning_option", "none"),
    )
    return graph, cinn_rules(size, len(dims) or depth)


def layouts(fixture: Fixture) -> Answers:
    """Keys, shapes and types of every published file, from our networks without weights.

    Raises:
        ValueError: naming the first tensors in which one of them differs.
    """
    answers = {}
    for key in fixture.expected:
        name = key.removeprefix("layout/")
        theirs = json.loads(str(fixture.arrays[key]))
        entries, count = published_entries(name)
        ours = {k: [list(value.shape), str(value.dtype).removeprefix("torch.")] for k, value in entries.items()}
        if ours != theirs["state"]:
            wrong = sorted(k for k in ours | theirs["state"] if ours.get(k) != theirs["state"].get(k))
            raise ValueError(f"{name}: {len(wrong)} tensors differ, such as {', '.join(wrong[:3])}")
        answers[key] = text(json.dumps({**theirs, "state": ours, "n_keys": len(ours), "n_params": count}))
    return answers


def published_entries(file: str) -> tuple[dict[str, Tensor], int]:
    """The tensors of a published file by the authors' keys, on the meta device, and the number of their parameters.

    Raises:
        ValueError: if none of our networks is published in a file of that key.
    """
    with torch.device("meta"):
        if file in CLASSIFIERS:
            net: nn.Module = classifier(*CLASSIFIERS[file])
            entries = {f"model.{key}": value for key, value in net.state_dict().items()}
        else:
            name = next((name for name, known in PUBLISHED.items() if known.file == file), None)
            if name is None:
                raise ValueError(f"layout: none of our networks is published as {file!r}")
            options = {**registry.entry(name).defaults, **PUBLISHED[name].options}
            net = registry.graph(name, **PUBLISHED[name].options).build()
            entries = published.layout(name, net, options).entries
    return entries, sum(v.numel() for key, v in entries.items() if key.rpartition(".")[2] not in BUFFERS)
