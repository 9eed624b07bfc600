"""A flow between its experts: those that a command names, the published ones, or stand-ins for them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo import published
from zoo.data import zcodes
from zoo.data.folders import ImageFiles
from zoo.experts.biggan import BigGAN
from zoo.experts.labels import Labelator
from zoo.net2net import data, experts, stand_ins, words
from zoo.net2net.autoencoder_experiment import GaussianAutoencoder
from zoo.net2net.configurations import Configuration
from zoo.net2net.experiment import FlowExperiment, Net2BigGANFlow, Net2NetFlow, latents
from zoo.net2net.words import Given
from zoo.training.draws import Data
from zoo.verbs import Context

EXPERT_TWO = "first_stage_model."
"""Keys of the second expert in the authors' file of a flow."""
EMBEDDING = 128  # numbers of BigGAN's class embedding


@dataclass(frozen=True)
class System:
    """A flow between its experts.

    Arguments:
        experiment: its Lightning module, with flow and experts.
        decode: expert two's latents (B, D) -> pictures (B, 3, S, S) in [-1, 1].
        size: pixels of a side of the pictures that the experts are given; 0 if they are given none.
        read: texts -> conditions (N, K), where expert one reads texts.
        small: pictures (B, 3, S, S) -> what expert one sees of them, where that is a small picture.
        examples: training and test part; None where a command needs none and names none.
    """

    configuration: Configuration
    experiment: FlowExperiment
    decode: Callable[[Tensor], Tensor]
    size: int = 0
    read: Callable[[list[str]], Tensor] | None = None
    small: Callable[[Tensor], Tensor] | None = None
    examples: Data | None = None

    @property
    def flow(self) -> BuiltGraph:
        return self.experiment.flow

    @property
    def data(self) -> Data:
        """The examples; ValueError if there are none."""
        if self.examples is None:
            sets = ", ".join(name for group in self.configuration.sets for name in group)
            what = f"the folders {sets}" if sets else "images"
            raise ValueError(f"data: expected data=FOLDER with {what}, or --random for made-up examples")
        return self.examples

    def shape(self, key: str) -> tuple[int, ...]:
        """Of the flow's "x" or "condition"."""
        return tuple(size or 0 for size in self.flow.graph.input_shapes[key])


def system(
    context: Context, configuration: Configuration, flow: BuiltGraph, given: Given, rate: float, mean: bool
) -> System:
    """The experts that a command names, around a flow; with ``--random``, stand-ins for those that it does not.

    Arguments:
        rate: the learning rate.
        mean: whether latents are the posteriors' means; in training they are samples of them, as published.

    Raises:
        ValueError, FileNotFoundError: for an expert that is missing or does not fit, with what was expected.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if configuration.kind == "captioned":
            made = _captioned(context, configuration, flow, given, rate)
        else:
            made = _translation(context, configuration, flow, given, rate, mean)
    if made.examples is not None:
        _check(made)
        _say_labels(context, made)
    return made


def _say_labels(context: Context, made: System) -> None:
    """Which of one's own folders is which label: the authors' networks have an order of their own."""
    if made.configuration.domains and isinstance(made.data.train, ImageFiles):
        published = [" and ".join(group) for group in made.configuration.sets]
        said = [f"{k} {own} (published: {theirs})" for k, (own, theirs) in
                enumerate(zip(made.data.train.classes, published, strict=True))]  # fmt: skip
        context.console.print(f"labels, by the names of the folders: {', '.join(said)}", highlight=False)


def _translation(
    context: Context, configuration: Configuration, flow: BuiltGraph, given: Given, rate: float, mean: bool
) -> System:
    target, size = _target(context, configuration, flow, given.target, mean)
    source = _source(context, configuration, flow, given.source, target, mean)
    key = "latent" if isinstance(target, experts.OwnLatents) else "image"
    return System(
        configuration,
        Net2NetFlow(flow, target, source, rate, key, configuration.key),
        target.decode,
        size,
        source if configuration.kind == "sentence" else None,
        source.reduced if isinstance(source, experts.SmallImages) else None,
        _examples(context, configuration, flow.graph.input_shapes["x"][0] or 0, given.data, size),
    )


def _examples(context: Context, configuration: Configuration, dim: int, root: str, size: int) -> Data | None:
    if not root:
        return stand_ins.examples(configuration.domains, dim, size, context.seed) if context.random else None
    if not size:
        return data.coded_captions(root, dim)
    return data.examples(configuration.sets, root, size, configuration.key)


def _target(context: Context, configuration: Configuration, flow: BuiltGraph, text: str, mean: bool) -> tuple[Any, int]:
    """Expert two, and pixels of a side of the pictures that it encodes, 0 if it encodes none."""
    dim, stand_in = flow.graph.input_shapes["x"][0] or 0, context.random and not text
    load = lambda text: words.network(context.name, text, configuration.target, "target")  # noqa: E731
    if configuration.generates:
        return experts.OwnLatents(stand_ins.bigbigan(dim) if stand_in else load(text)), 0
    net = stand_ins.autoencoder(dim) if stand_in else words.autoencoder(load(target_words(context, text)))
    return GaussianAutoencoder(net, mean), net.graph.input_shapes["image"][1] or 0


def target_words(context: Context, text: str) -> str:
    """Expert two's words; if they name none, with the authors' file of the flow if that holds expert two as well."""
    silent = all(words.OPTION.fullmatch(word) for word in shlex.split(text))
    if not silent or context.weights is None or Path(context.weights).suffix == ".safetensors":
        return text
    file = Path(context.weights)
    file = file if file.is_file() else published.fetch(context.name, context.weights)
    held = any(key.startswith(EXPERT_TWO) for key in published.tensors(published.read_checkpoint(file)))
    return f"{shlex.quote(str(file))} {text}" if held else text


def _source(
    context: Context, configuration: Configuration, flow: BuiltGraph, text: str, target: nn.Module, mean: bool
) -> Any:
    """Expert one."""
    shape = tuple(size or 0 for size in flow.graph.input_shapes["condition"])
    kind, stand_in = configuration.kind, context.random and not text
    if kind in ("label", "attributes", "warped"):
        if text:
            raise ValueError(f"source: expert one of {context.name} has no weights of its own; leave source= out")
        if kind == "warped":
            return experts.Warped(target)
        return Labelator(shape[0]) if kind == "label" else experts.Attributes()
    if kind == "small":
        net = stand_ins.autoencoder(shape[0]) if stand_in else words.autoencoder(
            words.network(context.name, text, configuration.source, "source"))  # fmt: skip
        return experts.SmallImages(GaussianAutoencoder(net, mean), net.graph.input_shapes["image"][1] or 0)
    if kind == "sentence":
        return stand_ins.Texts(shape[0]) if stand_in else words.sentences(configuration.source, text)
    return stand_ins.Projected(shape) if stand_in else words.layer(configuration, text, shape)


def _captioned(context: Context, configuration: Configuration, flow: BuiltGraph, given: Given, rate: float) -> System:
    """BigGAN with its dequantiser, and a captioner with a sentence BERT; ValueError for a folder of data."""
    if given.data:
        raise ValueError(f"data: {context.name} draws codes of BigGAN; leave data= out")
    dim, condition = (flow.graph.input_shapes[key][0] or 0 for key in ("x", "condition"))
    if context.random and not given.target:
        generator, blurred = stand_ins.biggan(dim - EMBEDDING), stand_ins.dequantiser()
    else:
        generator, blurred = words.generator(configuration, given.target)
    captioner: nn.Module
    reader: Any
    if context.random and not given.source:
        captioner, reader = stand_ins.Captions(), stand_ins.Texts(condition)
    else:
        captioner, reader = words.describers(configuration, given.source)
    expert = BigGAN(generator)
    experiment = Net2BigGANFlow(flow, expert, captioner, reader, experts.Dequantiser(blurred), rate)
    size = generator.graph.input_shapes["latent"][0] or 0
    paint = lambda x: expert.generate_from_embedding(*latents(x, (size, EMBEDDING)))  # noqa: E731
    codes = data.biggan_codes(size, expert.classes, stand_ins.EXAMPLES["validation"] if context.random else zcodes.TEST)
    return System(configuration, experiment, paint, read=reader, examples=codes)


@torch.no_grad()
def _check(made: System) -> None:
    """ValueError if the experts' numbers are not the flow's."""
    found = made.experiment.encodings(data.batch(made.data.train, 1, 0))
    for key, option, numbers in zip(("x", "condition"), ("target", "source"), found, strict=True):
        if numbers.shape[1:] != made.shape(key):
            raise ValueError(
                f"{option}: expected an expert of {made.shape(key)} numbers, as the flow's {key!r} has, got "
                f"{tuple(numbers.shape[1:])}; options of the flow ({_sizes(made, key)}) change what it expects"
            )


def _sizes(made: System, key: str) -> str:
    return "dim=" if key == "x" else "channels=, size=" if len(made.shape(key)) > 1 else "condition="
