"""The published cuts of torchvision's classifiers with experts of the user's: their system and their training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo import registry, weights
from zoo.data import folders
from zoo.experts.classifiers import IMAGENET, Greybox, greybox
from zoo.invariances.experiment import InvarianceExperiment
from zoo.invariances.system import Layer, SmallAutoencoder, System
from zoo.training.fit import Data, Fit, fingerprint, fit, save_weights
from zoo.verbs import Context

SIDE = 128  # pixels of the published systems' images
CLASSES = {"resnet101": 10, "animals149": 149}
SHARES = {"train": 0.9, "test": 0.1}
FILE, RANDOM = "experts.json", "random"
ORIGINS = {"resnet101": "the published file resnet101_animalfaces_10, or resnet101_animalfaces_shared for 149 classes"}
NO_FILE = "which is none of the published files: train one, or take that of its authors"


@dataclass(frozen=True)
class Experts:
    """Which weights the fixed networks have.

    Arguments:
        autoencoder: a safetensors file with a graph that has "encoder" (image -> mean, deviation) and "decoder".
        classifier: "imagenet", a file with torchvision's keys, or "random" for an untrained network.
        seed: of the untrained classifier.
    """

    autoencoder: str
    classifier: str
    seed: int


def classifier(name: str, weights: str, seed: int) -> Greybox:
    """The classifier of a published cut such as ``invariances/alexnet-fc7``, cut there.

    Arguments:
        weights, seed: as in :class:`Experts`.

    Raises:
        ValueError: for a network that belongs to no classifier of torchvision, or ImageNet's weights where the
            published classifier has others.
    """
    *network, cut = _name(name)
    known = [word for word in network if word.startswith(("alexnet", "resnet"))]
    if not known:
        raise ValueError(
            f"{name}: expected a cut of a classifier, such as invariances/alexnet-fc7, or one of the small "
            "systems, invariances/digits and invariances/animalfaces"
        )
    classes = CLASSES.get(network[-1], 1000)
    if weights == IMAGENET and (network not in (["alexnet"], ["resnet50"]) or classes != 1000):
        raise ValueError(
            f"classifier: {name} was not trained with ImageNet's classifier of torchvision; expected classifier=FILE, "
            f"the weights of a {known[0]} of {classes} classes by torchvision's keys, {ORIGINS.get(known[0], NO_FILE)}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return greybox(known[0], cut, classes, None if weights == RANDOM else weights)


def system(context: Context, data: str) -> System:
    """The system around a published cut: its flow, and the experts it was trained with (or all random).

    Raises:
        ValueError: without a folder of images; FileNotFoundError if the folder ``out`` does not tell the experts.
    """
    network = context.network()
    if context.random:
        grey, dim = classifier(context.name, RANDOM, context.seed), network.graph.input_shapes["x"][0] or 0
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            described = registry.build("invariances/animalfaces-autoencoder", size=SIDE, latent=dim).eval()
    else:
        experts = _read(context)
        grey = classifier(context.name, experts.classifier, experts.seed)
        described = weights.load(experts.autoencoder)
    images, labels = _parts(data, described)["test"].tensors()
    layers = {_name(context.name)[-1]: Layer(grey.encode, network)}
    features = _Features(grey)
    return System(layers, grey.logits, SmallAutoencoder(described), features, images, labels)


def train(context: Context, data: str, experts: Experts, settings: Fit) -> None:
    """Trains the flow of a published cut; writes its weights and which experts it belongs to.

    Raises:
        ValueError: without images or an autoencoder, or for one with another latent; FileNotFoundError for no file.
    """
    if not experts.autoencoder:
        raise ValueError(
            f"train {context.name}: expected autoencoder=FILE, a safetensors file such as the one that "
            "zoo train invariances/animalfaces leaves"
        )
    grey = classifier(context.name, experts.classifier, experts.seed)
    described = weights.load(experts.autoencoder)
    parts = _parts(data, described)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        network = registry.build(context.name, **context.options)
    dim, latent = network.graph.input_shapes["x"], described.graph.output_shapes["latent"]
    if dim != latent:
        raise ValueError(f"dim: expected the autoencoder's {latent[0]} latent numbers (dim={latent[0]}), got {dim[0]}")
    batch = settings.batch * settings.accumulate * settings.devices
    experiment = InvarianceExperiment(network, _Encoder(described), _Encode(grey), batch)
    context.out.mkdir(parents=True, exist_ok=True)
    (context.out / FILE).write_text(json.dumps(asdict(experts), indent=2) + "\n", encoding="utf-8")
    folder = context.out / "training" / context.name
    found = fit(
        experiment,
        Data(parts["train"], parts["test"]),
        folder,
        settings,
        context.console,
        identity={"autoencoder": fingerprint(described), "classifier": fingerprint(grey)},
        restart=context.fresh,
    )
    file = save_weights(context.out, context.file(context.name).stem, network, {"history": found.history})
    context.console.print(f"weights: {file}", highlight=False)


class _Encode(nn.Module):
    """A greybox's representation as a module."""

    def __init__(self, grey: Greybox) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, images: Tensor) -> Tensor:
        return self.grey.encode(images)


class _Encoder(nn.Module):
    """An autoencoder's posterior as a module."""

    def __init__(self, network: BuiltGraph) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self.network.encoder(images)  # type: ignore[operator]
        return mean, deviation


class _Features:
    """Images -> the representation as a vector (B, F)."""

    def __init__(self, grey: Greybox) -> None:
        self.grey = grey

    def __call__(self, images: Tensor) -> Tensor:
        z = self.grey.encode(images)
        return z if z.ndim == 2 else z.mean((2, 3))


def _name(name: str) -> list[str]:
    """The words of a cut's name: its classifier's, and the paper's name of the layer at the end."""
    return name.rpartition("/")[2].split("-")


def _read(context: Context) -> Experts:
    path: Path = context.out / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"experts: no file {str(path)!r}, which names the fixed networks; zoo train {context.name} writes it"
        )
    return Experts(**json.loads(path.read_text(encoding="utf-8")))


def _parts(data: str, autoencoder: BuiltGraph) -> dict[str, folders.ImageFiles]:
    if not data:
        raise ValueError("data: expected data=FOLDER with images, or a sub-folder of them for each class")
    side = autoencoder.graph.input_shapes["image"][1] or SIDE
    return folders.split(folders.folder(data, side), SHARES)
