"""The published cuts of classifiers with their autoencoders: the system that verbs work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowkit.graph import BuiltGraph
from zoo import published, registry, weights
from zoo.data import folders, zcodes
from zoo.experts.classifiers import Greybox
from zoo.invariances import experts as fixed
from zoo.invariances import pairs
from zoo.invariances.autoencoders import Autoencoder, Generator
from zoo.invariances.experts import Experts
from zoo.invariances.system import Images, Layer, System, Unread
from zoo.invariances.tasks import alternating
from zoo.training.batches import mixed
from zoo.verbs import Context

CHUNK = 64  # images that a classifier sees at once
DRAWN = 16  # images that BigGAN draws where no folder is given
_BIASED = ("invariances/resnet50-avgpool", "invariances/stylized-resnet50-avgpool")
RIVALS = dict(zip(_BIASED, reversed(_BIASED), strict=True))
"""The published cuts with which textures are compared with shapes."""


@dataclass(frozen=True)
class Choice:
    """What the user says of the system around a published cut, beside its name; empty for what goes by itself.

    Arguments:
        data: a folder of images.
        autoencoder, classifier: as in :class:`~zoo.invariances.experts.Experts`.
        others: further cuts of the same classifier, ``NAME`` or ``NAME:FILE``, with commas between them.
        concepts_from: a safetensors file with the flow to concepts.
        rival, rival_classifier: a cut of another classifier, ``NAME`` or ``NAME:FILE``, and that classifier's weights.
    """

    data: str = ""
    autoencoder: str = ""
    classifier: str = ""
    others: str = ""
    concepts_from: str = ""
    rival: str = ""
    rival_classifier: str = ""


def system(context: Context, choice: Choice) -> System:
    """The system around a published cut, or around a flow to concepts (no cut then).

    The flow is that of ``--weights``, of the folder ``out``, or random; its experts those that it was trained with, the
    published ones for authors' files, or random.

    Raises:
        ValueError: without images, or for pieces that do not fit; FileNotFoundError for a file that is not there.
    """
    own = Flow(context.name, context.network(), _own_file(context))
    experts = own.experts(Experts(choice.autoencoder, choice.classifier, context.seed))
    described = fixed.autoencoder(context.name, experts)
    own.check(described)
    images, labels, classes = _images(context, choice.data, described, own)
    if fixed.kind(context.name) == fixed.CONCEPTS:
        return _of_concepts(own.network, described, images)
    grey = fixed.classifier(context.name, experts)
    own.check_cut(grey)
    layers = {}
    for other in _others(context, choice.others, described):
        other.check_cut(grey)
        layers[other.cut] = Layer(fixed.recut(grey, other.name).encode, other.network)
    layers[own.cut] = Layer(grey.encode, own.network)
    biases: dict[str, Layer] = {}
    if choice.rival:
        rival = _named(context, choice.rival)
        rival.check(described)
        second = fixed.classifier(rival.name, rival.experts(Experts("", choice.rival_classifier, context.seed)))
        rival.check_cut(second)
        biases = {own.classifier: layers[own.cut], rival.classifier: Layer(second.encode, rival.network)}
    concepts = _concepts(choice.concepts_from, described)
    logits = None if fixed.kind(context.name) == fixed.FACENET else grey.logits
    known = labels if classes == fixed.classes(context.name) else None
    return System(layers, logits, described, Features(grey), images, known, biases, concepts, names(concepts))


class Features:
    """Images -> the representation as a vector (B, F)."""

    def __init__(self, grey: Greybox) -> None:
        self.grey = grey

    def __call__(self, images: Tensor) -> Tensor:
        z = torch.cat([self.grey.encode(chunk) for chunk in images.split(CHUNK)])
        return z if z.ndim == 2 else z.mean((2, 3))


def names(concepts: BuiltGraph | None) -> tuple[str, ...]:
    """Of a flow's concepts."""
    return () if concepts is None else tuple(concepts.graph.output_shapes)


def parts(data: str, described: Autoencoder) -> dict[str, folders.ImageFiles]:
    """The images of a folder, those to train with and those held out; ValueError without a folder."""
    return folders.split(_folder(data, described), pairs.SHARES)


def _folder(data: str, described: Autoencoder) -> folders.ImageFiles:
    if not data:
        raise ValueError("data: expected data=FOLDER with images, or a sub-folder of them for each class")
    return folders.folder(data, described.size)


def _images(context: Context, data: str, described: Autoencoder, own: Flow) -> tuple[Images, Tensor, int]:
    """Images, labels, how many classes: a folder's (those held out if the flow was trained here), or what BigGAN draws.

    Of CelebA the test part, without classes, unless the flow's own part of a folder is held out. One of each class
    after the other, so that the first few are different.
    """
    if pairs.is_celeba(data) and (fixed.kind(context.name) == fixed.CONCEPTS or not own.trained_on_a_folder):
        faces = pairs.held_out_faces(data, described.size)
        return faces, torch.zeros(len(faces), dtype=torch.int64), 0
    if data or not isinstance(described, Generator):
        held_out = own.trained_on_a_folder and not isinstance(described, Generator)
        found = _held_out(context, own, parts(data, described)) if held_out else _folder(data, described)
        found = found.subset(alternating(found.labels))
        return Unread(len(found), lambda place: found[place]["image"]), torch.tensor(found.labels), len(found.classes)
    with torch.no_grad():
        latents, classes = _drawn(described, mixed(context.seed, *b"drawn"))
        images = torch.cat([described.decode(latent[None]) for latent in latents])
    return images, classes, described.generator.classes


def _held_out(context: Context, own: Flow, split: dict[str, folders.ImageFiles]) -> folders.ImageFiles:
    """The part of a folder that is held out; says so if it is another folder, or has changed, since the training."""
    if own.file is not None and fixed.differs(own.file, fixed.IMAGES, lambda: pairs.told(split["train"])):
        context.console.print(
            f"data: {own.name} was trained on other images than this folder's; "
            "a tenth of these is shown, maybe some that it was trained on",
            highlight=False,
        )
    return split["test"]


def _drawn(described: Generator, seed: int) -> tuple[Tensor, Tensor]:
    """Latents of BigGAN's own images (N, D), and their classes."""
    random = np.random.RandomState(seed % 2**32)
    code = torch.from_numpy(zcodes.codes(random, DRAWN, described.code))
    classes = torch.from_numpy(random.choice(described.generator.classes, DRAWN))
    return torch.cat([code, described.generator.embed(classes)], 1), classes


@dataclass(frozen=True)
class Flow:
    """A flow, and the file that it came from; None if it is random."""

    name: str
    network: BuiltGraph
    file: Path | None

    @property
    def cut(self) -> str:
        """The layer that it belongs to."""
        return fixed.words(self.name)[-1]

    @property
    def classifier(self) -> str:
        """The name of the network that it belongs to."""
        return "-".join(fixed.words(self.name)[:-1])

    @property
    def trained_on_a_folder(self) -> bool:
        """Whether ``zoo train`` made it, so that part of its folder is held out."""
        return self.file is not None and fixed.noted(self.file)

    def experts(self, chosen: Experts) -> Experts:
        """What it belongs to, see :func:`zoo.invariances.experts.of_file`."""
        return chosen.untrained() if self.file is None else fixed.of_file(self.file, chosen)

    def check(self, described: Autoencoder) -> None:
        """Raises ValueError unless it takes an autoencoder's latents, and was trained on no other's."""
        dim = self.network.graph.input_shapes["x"][0]
        if dim != described.latent:
            raise ValueError(
                f"dim: expected the autoencoder's {described.latent} latent numbers (dim={described.latent}), "
                f"{self.name} has {dim}"
            )
        if self.file is not None:
            fixed.check_latents(self.file, described)

    def check_cut(self, grey: Greybox) -> None:
        """Raises ValueError for the flow of another cut, or one that was trained on another classifier."""
        if self.file is not None:
            fixed.check_cut(self.file, self.name, grey)


def _own_file(context: Context) -> Path | None:
    if context.random:
        return None
    return context.file(context.name) if context.weights is None else Path(context.weights)


def _named(context: Context, spec: str) -> Flow:
    """A further flow, ``NAME`` or ``NAME:FILE``: in the folder ``out`` if it was trained there, else the published."""
    word, _, file = spec.partition(":")
    name = word if "/" in word else f"invariances/{word}"
    if name == context.name:
        raise ValueError(f"others, rival: expected another network than {name} itself")
    if context.random and not file:
        with torch.random.fork_rng():
            torch.manual_seed(mixed(context.seed, *name.encode()))
            return Flow(name, registry.build(name, **context.options).eval(), None)
    if not file and context.file(name).is_file():
        file = str(context.file(name))
    path = Path(file) if file else published.fetch(name)
    options = {} if path.suffix == ".safetensors" else context.options
    return Flow(name, registry.load(name, path, **options), path)


def _others(context: Context, specs: str, described: Autoencoder) -> list[Flow]:
    """Further cuts of the same classifier."""
    found = [_named(context, spec) for spec in specs.split(",") if spec]
    for other in found:
        other.check(described)
        if fixed.words(other.name)[:-1] != fixed.words(context.name)[:-1]:
            raise ValueError(f"others: expected cuts of the classifier of {context.name}, got {other.name}")
    return found


def _concepts(file: str, described: Autoencoder) -> BuiltGraph | None:
    """The flow to concepts in a file of ours, if one is named."""
    if not file:
        return None
    flow = Flow("concepts_from", weights.load(file), Path(file))
    flow.check(described)
    return flow.network


def _of_concepts(concepts: BuiltGraph, described: Autoencoder, images: Images) -> System:
    """What edits need: no cut, and the latent's mean as features."""
    return System({}, None, described, lambda x: described.posterior(x)[0], images, None, {}, concepts, names(concepts))
