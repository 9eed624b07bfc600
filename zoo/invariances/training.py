"""``zoo train`` of a published network: the flow of a cut, of a texture-bias cut, or to concepts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.graph import BuiltGraph
from zoo import registry
from zoo.data import zcodes
from zoo.data.folders import Crop
from zoo.experts.classifiers import Greybox
from zoo.invariances import cuts, pairs
from zoo.invariances import experts as fixed
from zoo.invariances.autoencoders import Generator
from zoo.invariances.experiment import ConceptExperiment, InvarianceExperiment, TextureExperiment
from zoo.invariances.experts import Experts
from zoo.training.fit import Data, Fit, fingerprint, fit, save_weights
from zoo.verbs import Context

PASS, HELD_OUT = 100_000, 4  # images of BigGAN that make a pass, batches of them to validate with

CROPS: dict[str, Crop] = {"alexnet": "random"}  # of training images; all others are cropped at the centre


def train(context: Context, data: str, dequantiser: str, settings: Fit, chosen: Experts) -> None:
    """Trains a published network; writes its weights, which tell the experts that they belong to.

    Arguments:
        data: a folder of images; for the flow to concepts, one sub-folder a class, or that of CelebA.
        dequantiser: of a texture-bias cut, as an autoencoder of :class:`~zoo.invariances.experts.Experts`.

    Raises:
        ValueError: without images or an autoencoder, for one with another latent, or for options that do not go with
            it; FileNotFoundError for no file.
    """
    experts = chosen.untrained() if context.random else chosen.or_else(Experts())
    described = fixed.autoencoder(context.name, experts)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        network = registry.build(context.name, **context.options)
    cuts.Flow(context.name, network, None).check(described)
    batch = settings.batch * settings.accumulate * settings.devices
    notes = {**experts.notes(described), fixed.NETWORK: context.name}
    identity = {"autoencoder": notes[fixed.LATENTS]}
    if fixed.kind(context.name) == fixed.CONCEPTS:
        examples = pairs.of(data, described.size, cuts.names(network))
        if isinstance(examples.train, pairs.ClassPairs):
            identity["images"] = notes[fixed.IMAGES] = pairs.told(examples.train.files)
        _fit(context, network, ConceptExperiment(network, described, batch), examples, settings, identity, notes)
        return
    grey = fixed.classifier(context.name, experts)
    identity["classifier"] = notes[fixed.REPRESENTATIONS] = fingerprint(grey)
    experiment: InvarianceExperiment | TextureExperiment
    idle = ("data", data) if isinstance(described, Generator) else ("dequantiser", dequantiser)
    if idle[1]:
        raise ValueError(
            f"{context.name}: expected no {idle[0]}, got {idle[1]!r}; images are those of data=FOLDER, or BigGAN's own "
            "with class embeddings that the dequantiser makes continuous"
        )
    if isinstance(described, Generator):
        smooth = fixed.dequantiser(dequantiser or (fixed.RANDOM if context.random else fixed.PUBLISHED), context.seed)
        identity["dequantiser"] = fingerprint(smooth)
        drawn = partial(zcodes.Training, size=described.code, classes=tuple(range(described.generator.classes)))
        examples = Data(drawn(PASS), drawn(HELD_OUT * settings.batch))
        experiment = TextureExperiment(network, described, smooth, Encode(grey), batch)
    else:
        parts = cuts.parts(data, described)
        moved = parts["train"].subset(range(len(parts["train"])), CROPS.get(fixed.kind(context.name), "centre"))
        examples = Data(moved, parts["test"])
        identity["images"] = notes[fixed.IMAGES] = pairs.told(moved)
        experiment = InvarianceExperiment(network, described, Encode(grey), batch)
    _fit(context, network, experiment, examples, settings, identity, notes)


class Encode(nn.Module):
    """A greybox's representation as a module."""

    def __init__(self, grey: Greybox) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> z."""
        return self.grey.encode(images)


def _fit(
    context: Context, network: BuiltGraph, experiment: Any, examples: Data, settings: Fit, identity: Mapping[str, str],
    notes: Mapping[str, str],
) -> None:  # fmt: skip
    folder: Path = context.out / "training" / context.name
    found = fit(experiment, examples, folder, settings, context.console, identity=identity, restart=context.fresh)
    file = save_weights(context.out, context.file(context.name).stem, network, {"history": found.history, **notes})
    context.console.print(f"weights: {file}", highlight=False)
