"""The experts of Network Fusion, opened from files: BigGAN, dequantiser, and what describes images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.experts.biggan import BigGAN
from zoo.experts.classifiers import greybox
from zoo.experts.sentences import SentenceEncoder
from zoo.net2net import memory
from zoo.net2net.experts import Dequantiser, Features
from zoo.net2net.words import captioner
from zoo.training.batches import seeded
from zoo.verbs import Context

FLOWS = ("fusion/bert-to-biggan256", "fusion/sketch-to-biggan", "fusion/tiny")
SENTENCES, SKETCHES, TINY = FLOWS
SPREAD = 6.0  # of the class embeddings of a random BigGAN, as a multiple of fresh ones
PIXELS = 8  # of a side of what the small expert looks at
DESCRIBERS = {SENTENCES: ("captioner", "words", "bert"), SKETCHES: ("resnet",), TINY: ()}
"""Which files expert one of a flow is of."""


@dataclass(frozen=True)
class Files:
    """Where the experts' weights are; what is not named is that of the training, or else the published one.

    Arguments:
        biggan, dequantiser: files as :func:`zoo.load` takes them.
        captioner, words: the authors' captioner and its word map.
        bert: folder, see :meth:`zoo.experts.sentences.SentenceEncoder.from_folder`.
        resnet: a file with torchvision's keys, such as that of a ResNet-50 trained on stylised ImageNet, or "imagenet".
    """

    biggan: str = ""
    dequantiser: str = ""
    captioner: str = ""
    words: str = ""
    bert: str = ""
    resnet: str = ""

    def absolute(self) -> Files:
        """The same from whatever folder a later command is given in."""
        return Files(**{key: memory.absolute(path) for key, path in asdict(self).items()})


def check(context: Context, **counts: int) -> None:
    """ValueError for another name than a flow's, or a count below 1."""
    if context.name not in FLOWS:
        raise ValueError(f"{context.name}: expected one of {', '.join(FLOWS)}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")


def refuse_others(context: Context, files: Files) -> None:
    """ValueError for a file of an expert one that the flow does not have."""
    known = DESCRIBERS[context.name]
    others = [f"{key}=" for key in sum(DESCRIBERS.values(), ()) if getattr(files, key) and key not in known]
    if others:
        raise ValueError(f"{context.name}: no expert of it is read from {' and '.join(others)}; leave it out")


def generator(context: Context, files: Files) -> BigGAN:
    """The second expert: of a file, else the published one; of "tiny" or with ``--random``, a fixed random one.

    The class embeddings of the random one are larger than fresh ones, so that the class decides what an image looks
    like, as it does with a trained BigGAN.
    """
    tiny = context.name.startswith(TINY)
    name = f"{TINY}-biggan" if tiny else "fusion/biggan256"
    if files.biggan or not (tiny or context.random):
        return BigGAN(registry.load(name, files.biggan or None))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = registry.build(name).eval()
    network.get_parameter("embed.weight").data.mul_(SPREAD)
    return BigGAN(network)


def dequantiser_name(context: Context) -> str:
    """The registered name of the dequantiser that belongs to a network."""
    return f"{TINY}-dequantiser" if context.name.startswith(TINY) else "fusion/dequantiser"


def dequantiser(context: Context, files: Files) -> Dequantiser:
    """What makes class embeddings continuous: of a file, else trained in the folder, else the published one.

    Raises:
        FileNotFoundError: for "tiny", of which there is no published one, if it is not trained.
    """
    name = dequantiser_name(context)
    if files.dequantiser:
        return Dequantiser(registry.load(name, files.dequantiser))
    if context.random or context.name == TINY or context.file(name).is_file():
        return Dequantiser(context.network(name))
    return Dequantiser(registry.load(name))


def describer(context: Context, files: Files, dim: int) -> nn.Module:
    """Expert one: images (B, 3, S, S) in [-1, 1] -> representations (B, C).

    Arguments:
        dim: C, which the flow is conditioned on.

    Raises:
        ValueError: if a file that is needed is not named, or one that is not needed is; ValueError or FileNotFoundError
            if one does not fit.
    """
    refuse_others(context, files)
    if context.name == TINY:
        return Small(dim)
    if context.name == SKETCHES:
        if not files.resnet and not context.random:
            raise ValueError(
                f"{context.name}: expected resnet=FILE, a ResNet-50 such as that of stylised ImageNet, "
                "resnet=imagenet for torchvision's, or --random"
            )
        with torch.random.fork_rng():
            torch.manual_seed(0)  # whatever the seed: a flow belongs to it
            return Features(greybox("resnet50", "avgpool", weights=files.resnet or None))
    said = reader(context, files, dim)
    assert isinstance(said, SentenceEncoder)
    return nn.Sequential(captioner(files.captioner, files.words), said)


def reader(context: Context, files: Files, dim: int) -> SentenceEncoder | Letters:
    """Texts -> representations (B, C), in the space of :func:`describer`.

    Arguments:
        dim: C, which the flow is conditioned on.

    Raises:
        ValueError: for a flow that is conditioned on images alone, without a folder, or for a BERT of another width.
    """
    if context.name == SKETCHES:
        raise ValueError(f"text2img: {context.name} is conditioned on images; use sketch2img")
    refuse_others(context, files)
    if context.name == TINY:
        return Letters(dim)
    if not files.bert:
        raise ValueError(f"{context.name}: expected bert=FOLDER, a BERT of {dim} numbers")
    found = SentenceEncoder.from_folder(files.bert)
    if found.dim != dim:
        raise ValueError(f"bert: {context.name} expects a BERT of {dim} numbers, {files.bert!r} has {found.dim}")
    return found


class Small(nn.Module):
    """A stand-in that runs in a moment: a fixed random projection of 8 x 8 pixels.

    Arguments:
        dim: of the representation.
    """

    pixels: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("pixels", torch.randn(3 * PIXELS**2, dim, generator=seeded(0, 1)) / (PIXELS * 3**0.5))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] -> (B, dim)."""
        return nn.functional.adaptive_avg_pool2d(images, PIXELS).flatten(1) @ self.pixels


class Letters:
    """A stand-in for a reader: the mean over letters of fixed random vectors. It knows nothing of what they mean."""

    def __init__(self, dim: int) -> None:
        self.letters = torch.randn(128, dim, generator=seeded(0, 2))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, dim)."""
        return torch.stack([self.letters[[ord(c) % 128 for c in text]].mean(0) for text in texts])
