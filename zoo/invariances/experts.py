"""The fixed networks around a published cut: which ones, where their weights are, and loading them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from flowkit.graph import BuiltGraph
from zoo import downloads, registry, weights
from zoo.experts import facenet
from zoo.experts.classifiers import CLASSES, HOOKS, IMAGENET, Greybox, greybox
from zoo.invariances.autoencoders import Autoencoder, adapted
from zoo.invariances.published import FILES
from zoo.training.batches import mixed
from zoo.training.fit import fingerprint

PUBLISHED, RANDOM = "published", "random"
NOTE, NETWORK, LATENTS, REPRESENTATIONS = "experts", "network", "latents", "representations"
"""The keys of a weight file's notes: its experts, its name, the hashes of the autoencoder and of the classifier."""
IMAGES = "images"
"""Another: the hash of the names of the images that were trained with."""
AUTOENCODERS = {"alexnet": "bigae-animals", "resnet101": "bigae-animalfaces", "resnet50": "biggan-256",
                "stylized": "biggan-256"}  # fmt: skip
"""That of the published flows, by the first word of their name. Of faces none was published."""
ANIMALS = {"resnet101": ("resnet101_animalfaces_10", 10), "animals149": ("resnet101_animalfaces_shared", 149)}
"""The published ResNets-101: their file, and their classes."""
FACENET, CONCEPTS = "facenet", "concepts"
"""First words of names: of cuts without classes, and of what is no cut."""


@dataclass(frozen=True)
class Experts:
    """Which autoencoder and which classifier a flow belongs to.

    Arguments:
        autoencoder: a registered name (its published weights), ``NAME:FILE``, ``NAME:random``, a safetensors file of
            ours, or an authors' file of the network that the published flow has; that one itself for "published".
        classifier: "published", a file with the keys of torchvision (or FaceNet's), or "random".
        seed: of what is random.
    """

    autoencoder: str = PUBLISHED
    classifier: str = PUBLISHED
    seed: int = 0

    def notes(self, described: Autoencoder) -> dict[str, str]:
        """As notes of a weight file: with whole paths, and what tells the autoencoder's weights from others."""
        located = replace(self, autoencoder=_located(self.autoencoder), classifier=_located(self.classifier))
        return {NOTE: json.dumps(asdict(located)), LATENTS: fingerprint(described)}

    def untrained(self) -> Experts:
        """These, with random weights for those that no file is named of."""
        spec = self.autoencoder or RANDOM
        spec = f"{spec}:{RANDOM}" if _registered(spec) else spec
        return replace(self, autoencoder=spec, classifier=self.classifier or RANDOM)

    def or_else(self, other: Experts) -> Experts:
        """These, and of the other what is empty here."""
        return replace(self, autoencoder=self.autoencoder or other.autoencoder,
                       classifier=self.classifier or other.classifier)  # fmt: skip


def of_file(path: Path, chosen: Experts) -> Experts:
    """The experts of a flow in a file: those chosen, else those in its notes, else, for authors' files, the published.

    Raises:
        ValueError: for a file of ours, not converted from theirs, that does not tell them, or not all of them.
    """
    if path.suffix != ".safetensors":
        return chosen.or_else(Experts())
    notes = weights.notes(path)
    if "converted from" in notes:
        return chosen.or_else(Experts())
    if NOTE not in notes:
        if chosen.autoencoder and chosen.classifier:
            return chosen
        raise ValueError(
            f"experts: {str(path)!r} does not tell which autoencoder and classifier it was trained with (it is older "
            "than such notes); give autoencoder= and classifier=, or train it again"
        )
    found = _read(notes[NOTE], path)
    return replace(chosen.or_else(found), seed=found.seed)


def _read(note: str, path: Path) -> Experts:
    """A note of experts; ValueError unless it is one."""
    try:
        found = json.loads(note)
    except json.JSONDecodeError:
        found = None
    wanted = {field.name: type(field.default) for field in fields(Experts)}
    if not isinstance(found, dict) or {key: type(value) for key, value in found.items()} != wanted:
        raise ValueError(
            f"experts: expected {', '.join(sorted(wanted))} in the note of {str(path)!r}, got {note!r}; train it again"
        )
    return Experts(**found)


def noted(path: Path) -> bool:
    """Whether a file tells the experts of the flow in it, as ``zoo train`` leaves it."""
    return path.suffix == ".safetensors" and NOTE in weights.notes(path)


def check_latents(file: Path, described: Autoencoder) -> None:
    """Raises ValueError if the flow in a file was trained, as its notes tell, on another autoencoder's latents."""
    if differs(file, LATENTS, lambda: fingerprint(described)):
        raise ValueError(
            f"autoencoder: the flow in {str(file)!r} was trained on latents of one with other weights; expected that "
            f"of its notes: {weights.notes(file).get(NOTE)}"
        )


def check_cut(file: Path, name: str, grey: Greybox) -> None:
    """Raises ValueError if the flow in a file belongs, as its notes tell, to another cut or another classifier."""
    if differs(file, NETWORK, lambda: name):
        raise ValueError(f"weights: {str(file)!r} holds the flow of {weights.notes(file)[NETWORK]}, expected {name}")
    if differs(file, REPRESENTATIONS, lambda: fingerprint(grey)):
        raise ValueError(
            f"classifier: the flow in {str(file)!r} was trained on representations of one with other weights; expected "
            f"that of its notes: {weights.notes(file).get(NOTE)}"
        )


def differs(file: Path, key: str, found: Callable[[], str]) -> bool:
    """Whether a file's notes tell something else; those of the authors' files tell nothing."""
    known = weights.notes(file).get(key) if file.suffix == ".safetensors" else None
    return known is not None and known != found()


def words(name: str) -> list[str]:
    """The words of a cut's name: its classifier's, and the paper's name of the layer at the end."""
    return name.rpartition("/")[2].split("-")


def kind(name: str) -> str:
    """The first word of a network's name, which tells its classifier."""
    return words(name)[0]


def autoencoder(name: str, experts: Experts) -> Autoencoder:
    """The autoencoder of a cut.

    Arguments:
        name: of the cut, such as ``invariances/alexnet-fc7``.

    Raises:
        ValueError: where there is none by default, or for a network that is none; FileNotFoundError for no file.
    """
    if kind(name) != CONCEPTS:
        _network(name)
    network, source = _source(name, experts.autoencoder)
    if source not in (PUBLISHED, RANDOM):
        if not Path(source).is_file():
            raise FileNotFoundError(
                f"autoencoder: {source!r} is neither a file nor a registered network, such as bigae-animals"
            )
        if source.endswith(".safetensors"):
            return _frozen(adapted(weights.load(source)))
    if not network:
        raise ValueError(
            f"{name}: expected autoencoder=FILE, a safetensors file such as the one that zoo train "
            "invariances/animalfaces leaves, or autoencoder=NAME[:FILE] such as bigae-animals; none was published"
        )
    if source == RANDOM:
        with torch.random.fork_rng():
            torch.manual_seed(experts.seed)
            return _frozen(adapted(registry.build(network)))
    return _frozen(adapted(registry.load(network, None if source == PUBLISHED else source)))


def dequantiser(spec: str, seed: int) -> BuiltGraph:
    """The VAE that makes BigGAN's class embeddings continuous: "published", "random", or a file, ours or theirs."""
    name = "invariances/dequantiser"
    if spec == RANDOM:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return registry.build(name).eval().requires_grad_(False)
    return registry.load(name, None if spec == PUBLISHED else spec).requires_grad_(False)


def classifier(name: str, experts: Experts) -> Greybox:
    """The classifier of a cut such as ``invariances/alexnet-fc7``, cut there.

    Raises:
        ValueError: for a network that belongs to no classifier, or where its published weights are unknown.
        FileNotFoundError: if there is no such file, and no network connection to fetch it.
    """
    *network, cut = words(name)
    known = _network(name)
    file = _classifier_file(name, experts.classifier)
    with torch.random.fork_rng():
        torch.manual_seed(mixed(experts.seed, *"-".join(network).encode()))  # so that two of one kind differ
        if known == FACENET:
            return facenet.facenet(cut, file)
        return greybox(known, cut, classes(name), file)


def classes(name: str) -> int:
    """How many the classifier of a cut tells apart."""
    return ANIMALS.get(words(name)[-2], ("", CLASSES))[1]


def _network(name: str) -> str:
    """The word of a cut's name that tells the network; ValueError if there is none."""
    for word in words(name)[:-1]:
        if word.startswith(("alexnet", "resnet", FACENET)):
            return word
    raise ValueError(
        f"{name}: expected a cut of a classifier, such as invariances/alexnet-fc7, invariances/concepts, or one of the "
        "small systems, invariances/digits and invariances/animalfaces"
    )


def recut(grey: Greybox, name: str) -> Greybox:
    """The classifier of :func:`classifier` at the cut of another name."""
    first, *_, cut = words(name)
    hooks = facenet.HOOKS if first == FACENET else HOOKS.get(first, {})
    return grey.at(hooks.get(cut, cut))


def _source(name: str, spec: str) -> tuple[str, str]:
    """The registered name of an autoencoder (or ""), and where its weights are: "published", "random" or a file."""
    usual = AUTOENCODERS.get(kind(name), "")
    usual = usual and f"invariances/{usual}"
    if spec in (PUBLISHED, RANDOM):
        return usual, spec
    word, _, rest = spec.partition(":")
    full = _registered(word)
    return (full, rest or PUBLISHED) if full else (usual, spec)


def _registered(word: str) -> str:
    """The registered network that a word names, with or without the paper; empty if it names none."""
    full = word if "/" in word else f"invariances/{word}"
    return full if full in registry.list() else ""


def _located(spec: str) -> str:
    """The same with the whole path of its file, if there is one."""
    name, colon, file = spec.rpartition(":")
    return f"{name}{colon}{Path(file).resolve()}" if Path(file).is_file() else spec


def _classifier_file(name: str, spec: str) -> str | Path | None:
    """Where a classifier's weights are: a file, torchvision's ("imagenet"), or None for random ones."""
    network = words(name)[:-1]
    if spec == RANDOM:
        return None
    if spec != PUBLISHED:
        return spec
    if network in (["alexnet"], ["resnet50"]):
        return IMAGENET
    if network[-1] in ANIMALS:
        return downloads.fetch(FILES[ANIMALS[network[-1]][0]])
    if network == [FACENET]:
        return downloads.fetch(facenet.VGGFACE2)
    raise ValueError(
        f"classifier: {name} was trained with a ResNet-50 of stylized ImageNet, which is none of the published files "
        "that this project fetches (Geirhos et al., resnet50_train_60_epochs-c8e5653e.pth.tar); expected "
        "classifier=FILE (rival_classifier=FILE beside another)"
    )


def _frozen(found: Autoencoder) -> Autoencoder:
    return found.eval().requires_grad_(False)
