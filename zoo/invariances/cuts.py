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
from zoo.experts.classifiers import Greybox, greybox
from zoo.invariances.experiment import InvarianceExperiment
from zoo.invariances.system import Layer, SmallAutoencoder, System
from zoo.training.fit import Data, Fit, fingerprint, fit, save_weights
from zoo.verbs import Context

SIDE = 128  # pixels of the published systems' images
CLASSES = {"resnet101": 10, "animals149": 149}
SHARES = {"train": 0.9, "test": 0.1}
FILE, RANDOM = "experts.json", "random"


@dataclass(frozen=True)
class Experts:
    """Which weights the fixed networks have.

    Arguments:
        autoencoder: a safetensors file with a graph that has "encoder" (image -> mean, deviation) and "decoder".
        classifier: "imagenet", a file with torchvision's keys, or "random" for an untrained network.
    """

    autoencoder: str
    classifier: str


def classifier(context: Context, weights: str) -> Greybox:
    """The classifier of a published cut such as ``invariances/alexnet-fc7``, cut there.

    Raises:
        ValueError: for a network that belongs to no classifier of torchvision.
    """
    *network, cut = context.name.rpartition("/")[2].split("-")
    known = [word for word in network if word.startswith(("alexnet", "resnet"))]
    if not known:
        raise ValueError(
            f"{context.name}: expected a cut of a classifier, such as invariances/alexnet-fc7, or one of the small "
            "systems, invariances/digits and invariances/animalfaces"
        )
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        return greybox(known[0], cut, CLASSES.get(network[-1], 1000), None if weights == RANDOM else weights)


def system(context: Context, data: str) -> System:
    """The system around a published cut: its flow, and the experts it was trained with (or all random).

    Raises:
        ValueError: without a folder of images; FileNotFoundError if the folder ``out`` does not tell the experts.
    """
    network = context.network()
    if context.random:
        grey, dim = classifier(context, RANDOM), network.graph.input_shapes["x"][0] or 0
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            described = registry.build("invariances/animalfaces-autoencoder", size=SIDE, latent=dim).eval()
    else:
        experts = _read(context)
        grey, described = classifier(context, experts.classifier), weights.load(experts.autoencoder)
    images, labels = _parts(data, described)["test"].tensors()
    layers = {grey.cut: Layer(grey.encode, network)}
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
    grey, described = classifier(context, experts.classifier), weights.load(experts.autoencoder)
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
