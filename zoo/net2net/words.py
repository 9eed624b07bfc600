"""Experts as a command line names them: files, registered networks, the published ones where nothing is named."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from flowkit.graph import BuiltGraph
from zoo import published, registry, weights
from zoo.downloads import cache
from zoo.experts.captioner import Captioner
from zoo.experts.classifiers import CLASSES, IMAGENET, Hooked, classifier
from zoo.experts.sentences import SentenceEncoder
from zoo.net2net import memory
from zoo.net2net.configurations import SEGMENTATION, Configuration
from zoo.net2net.experts import Classes, Features, Inpainting
from zoo.net2net.graph import STUFF

RANDOM = "random"
DEQUANTISER = "dequantiser="
OPTION = re.compile(r"(\w+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Given:
    """What a command says of experts and data; empty: the published experts, or stand-ins with ``--random``.

    Arguments:
        source, target: words for an expert each, see :class:`Words`. A captioned configuration also reads
            ``captioner=FILE words=FILE`` in ``source``, after the folder of the sentence BERT, and
            ``dequantiser=FILE`` in ``target``.
        data: a folder, see :func:`zoo.net2net.data.examples`.
    """

    source: str = ""
    target: str = ""
    data: str = ""

    def absolute(self) -> Given:
        """The same from whatever folder a later command is given in."""
        return Given(absolute(self.source), absolute(self.target), memory.absolute(self.data))


@dataclass(frozen=True)
class Words:
    """An expert as a command line names it: ``[NAME] [FILE] [key=value ...]`` in one quoted text.

    Arguments:
        name: a registered network, or another name that the expert's kind knows.
        file: of its weights, or its folder.
        options: of the network, or further files, as text.
    """

    name: str
    file: str
    options: Mapping[str, str]

    @classmethod
    def of(cls, text: str, names: Callable[[str], bool], default: str = "") -> Words:
        """ValueError for a second name or file."""
        name, file, options = "", "", {}
        for word in shlex.split(text):
            option = OPTION.fullmatch(word)
            if option and not Path(word).exists():
                options[option[1]] = option[2]
            elif names(word) and not name:
                name = word
            elif not file:
                file = word
            else:
                raise ValueError(f"expert: expected [NAME] [FILE] [key=value ...], got {text!r}")
        return cls(name or default, file, options)

    def refuse_others(self, option: str, *known: str) -> None:
        """ValueError for keys other than these in the words of an option of the command line."""
        strangers = sorted(self.options.keys() - {*known})
        if strangers:
            raise ValueError(f"{option}: expected {' and '.join(known) or 'no'} options, got {', '.join(strangers)}")


def absolute(text: str) -> str:
    """The same words from whatever folder a later command is given in: files that exist by their whole path."""
    found = []
    for word in shlex.split(text):
        key, equals, rest = (
            word.partition("=") if OPTION.fullmatch(word) and not Path(word).exists() else ("", "", word)
        )
        if " " in rest and not Path(rest).exists():  # the words of a further expert
            rest = absolute(rest)
        else:
            rest = memory.absolute(rest)
        found.append(f"{key}{equals}{rest}")
    return shlex.join(found)


def network(name: str, text: str, default: str, option: str) -> BuiltGraph:
    """A registered network of an expert's words; without a file, the published one.

    Arguments:
        name: of the flow.
        default: its name if the words have none; empty if none was released.
        option: what the words are called on the command line.

    Raises:
        ValueError: for words without a name or a file; FileNotFoundError for no file.
    """
    words = Words.of(text, lambda word: word in registry.list(), f"net2net/{default}" if default else "")
    if not words.name and not words.file:
        raise ValueError(
            f"{option}: {name} has no published network there; expected {option}=FILE, one of ours, or "
            f"{option}='NAME FILE' with a registered name"
        )
    if not words.name:
        words.refuse_others(option)  # the file has its own
        return weights.load(words.file)
    entry = registry.entry(words.name)
    options = registry.read_options(entry.make, words.options)
    if words.file and not Path(words.file).is_file():
        raise FileNotFoundError(f"{option}: no file {words.file!r}")
    return registry.load(words.name, words.file or None, **options)


def autoencoder(net: BuiltGraph) -> BuiltGraph:
    """The network itself; ValueError if it is no autoencoder of this paper's kind."""
    if not {"image", "noise"} <= net.graph.input_shapes.keys() or "moments" not in net.graph.output_shapes:
        raise ValueError(
            "autoencoder: expected a network of image and noise with the output moments, such as net2net/ae-faces32, "
            f"got inputs {', '.join(net.graph.input_shapes)} and outputs {', '.join(net.graph.output_shapes)}"
        )
    return net


def layer(configuration: Configuration, text: str, shape: tuple[int, ...]) -> nn.Module:
    """A layer of a network of torchvision as expert one.

    Arguments:
        text: ``[NAME] FILE [classes=K] [cut=LAYER]``; the file has torchvision's keys, or is "imagenet" or "random",
            which is the same network whatever the seed: a flow belongs to it.
        shape: (K, S, S) of the condition.

    Raises:
        ValueError: without a file, or for another option; FileNotFoundError if the file is not there.
    """
    known = lambda word: not Path(word).exists() and word not in (IMAGENET, RANDOM)  # noqa: E731
    words = Words.of(text, known, configuration.source)
    words.refuse_others("source", "classes", "cut")
    if not words.file:
        raise ValueError(
            f"source: expected source='[NAME] FILE', weights by torchvision's keys of a network such as "
            f"{configuration.source}, or source=imagenet, or source=random for an untrained one"
        )
    cut = words.options.get("cut", configuration.cut)
    head = cut == "classifier"
    default = shape[0] if head else STUFF if configuration.source == SEGMENTATION else CLASSES
    classes = words.options.get("classes", str(default))
    if not classes.isdecimal() or not int(classes):
        raise ValueError(f"source: classes expects an integer, at least 1, got {classes!r}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        file = None if words.file == RANDOM else words.file
        net = classifier(words.name, int(classes), file)
    made = {"layer": Features, "hole": Inpainting, "classes": Classes}[configuration.kind]
    return made(Hooked(net, cut), shape[-1])


def sentences(model: str, text: str) -> SentenceEncoder:
    """A sentence BERT in a folder; without one, in the zoo's cache.

    Raises:
        FileNotFoundError: if it is not there; says what to put where.
    """
    folder = Path(text) if text else cache() / "net2net" / model
    if not folder.is_dir():
        raise FileNotFoundError(
            f"source: no folder {str(folder)!r}; download the model sentence-transformers/{model} of the Hugging Face "
            f"Hub, its tokenizer and config included, and save it as {cache() / 'net2net' / model}, or give its folder"
        )
    return SentenceEncoder.from_folder(folder)


def generator(configuration: Configuration, text: str) -> tuple[BuiltGraph, BuiltGraph]:
    """BigGAN and its dequantiser: ``[FILE] [key=value ...] [dequantiser=FILE]``; what is not named is published."""
    rest = shlex.split(text)
    blurred = next((word for word in rest if word.startswith(DEQUANTISER)), DEQUANTISER)
    own = shlex.join(word for word in rest if word != blurred)
    return (
        network("net2net/sbert-to-biggan256", own, configuration.target, "target"),
        network("net2net/sbert-to-biggan256", blurred.removeprefix(DEQUANTISER), "dequantiser", "target: dequantiser"),
    )


def describers(configuration: Configuration, text: str) -> tuple[Captioner, SentenceEncoder]:
    """Captioner and sentence BERT; what the words do not name is the published, or in the cache."""
    words = Words.of(text, lambda word: False)
    words.refuse_others("source", "captioner", "words")
    speaker = captioner(words.options.get("captioner", ""), words.options.get("words", ""))
    return speaker, sentences(configuration.source, words.file)


def captioner(file: str, words: str) -> Captioner:
    """The authors' captioner, which says ``<start>`` and ``<end>``; of the published files where none is named."""
    fetch = functools.partial(published.fetch, "net2net/sbert-to-biggan256")
    return Captioner.from_files(file or fetch("captioner"), words or fetch("captioner-words"), legacy=True)
