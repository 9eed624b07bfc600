"""Classifiers as greyboxes: torchvision's networks cut in two at a layer, with their preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks.image_kinds import IMAGENET as IMAGENET_MOMENTS
from zoo.experts.cut import halves
from zoo.extras import require
from zoo.published import read_checkpoint, tensors
from zoo.weights import mismatches

MEAN, STD = IMAGENET_MOMENTS
IMAGENET, SOFTMAX = "imagenet", "softmax"
CLASSES = 1000
SIDES = {"alexnet": 227}
SIDE = 224
HOOKS: dict[str, dict[str, str]] = {
    "alexnet": {"conv5": "features.11", "fc6": "classifier.2", "fc7": "classifier.5", "fc8": "classifier.6"},
    "vgg16": {"conv5": "features.29", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
    "squeezenet1_0": {"fire9": "features.12", "conv10": "classifier.2"},
    "squeezenet1_1": {"fire9": "features.12", "conv10": "classifier.2"},
}
"""The papers' names of layers, activation included; a ResNet's are its modules' (conv1, maxpool, layer1, fc ...)."""
PREFIXES = ("module.", "model.")
"""That the keys of checkpoints of classifiers may have: of data-parallel training, and of the invariances' files."""


class Greybox(nn.Module):
    """A fixed network f = decode . encode, cut at a layer whose output is the representation z.

    Always in evaluation mode, with frozen parameters; gradients with respect to images and representations flow.

    Arguments:
        network: normalised images (B, C, side, side) -> logits (B, K), or another answer if ``softmax`` is off.
        cut: where: "input" (the normalised image), the name of a module, or "softmax", the end; see
            :func:`zoo.experts.cut.halves`.
        side: the network's input size.
        mean, std: by which images in [0, 1] are normalised, a number for each channel.
        softmax: whether the answer is class probabilities.

    Raises:
        ValueError: for a cut that does not exist or is no bottleneck.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        cut: str,
        side: int = SIDE,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        softmax: bool = True,
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.side, self.cut, self._softmax = side, cut, softmax and cut != SOFTMAX
        self._again = partial(Greybox, network, side=side, mean=mean, std=std, softmax=softmax)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1), persistent=False)
        # a tuple, so that the state dict holds the network once
        self._halves: tuple[nn.Module, nn.Module]
        if cut == SOFTMAX and softmax:
            self._halves = (nn.Sequential(network, nn.Softmax(dim=1)), nn.Identity())
        else:
            self._halves = halves(network, cut)
        with torch.no_grad():
            self._carried = self._halves[0](torch.zeros(1, len(mean), side, side)).shape[1:]

    def at(self, cut: str) -> Greybox:
        """The same network, cut elsewhere."""
        return self._again(cut)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of z, without the batch: (K,), or (K, H, W) for a feature map of more than one pixel."""
        channels, *pixels = self._carried
        return (channels, *pixels) if max(pixels, default=1) > 1 else (channels,)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> the network's input, see :func:`network_input`."""
        return network_input(images, self.side, self.mean, self.std)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> z (B, *shape)."""
        z: Tensor = self._halves[0](self.preprocess(images))
        return z.reshape(-1, *self.shape)

    def decode(self, z: Tensor) -> Tensor:
        """z (B, *shape) -> the answer: class probabilities (B, K); decode(encode(x)) == forward(x) at every cut."""
        answer: Tensor = self._halves[1](z.reshape(-1, *self._carried))
        return answer.softmax(1) if self._softmax else answer

    def logits(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> what the network says before any softmax (B, K), whatever the cut."""
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> the answer, as :meth:`decode` gives it."""
        return self.decode(self.encode(images))

    def train(self, mode: bool = True) -> Greybox:
        """Stays in evaluation mode."""
        return super().train(False)


class Hooked(nn.Module):
    """What one layer of a network that need not be a chain gives, such as of a segmentation network; fixed.

    Arguments:
        network: normalised images (B, 3, H, W) -> anything, traceable by torch.fx.
        layer: the name of a module, such as "backbone.layer1".

    Raises:
        ValueError: if there is no such layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        require("torchvision")
        from torchvision.models.feature_extraction import create_feature_extractor

        try:
            self.network = create_feature_extractor(network.eval(), {layer: "z"}).requires_grad_(False)
        except ValueError as error:
            raise ValueError(f"layer: {layer!r} is none of the network's ({error})") from error
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], as large as they are -> z (B, K, H', W')."""
        z: Tensor = self.network(network_input(images, images.shape[-1], self.mean, self.std))["z"]
        return z


def network_input(images: Tensor, side: int, mean: Tensor, std: Tensor) -> Tensor:
    """Images (B, C, H, W) in [-1, 1] -> (B, C, side, side), normalised once.

    Resized bilinearly, without antialiasing, as the authors' networks see them.

    Arguments:
        mean, std: of images in [0, 1], (C, 1, 1).

    Raises:
        ValueError: for another shape.
    """
    if images.ndim != 4 or images.shape[1] != len(mean):
        raise ValueError(f"images: expected (B, {len(mean)}, H, W), got {tuple(images.shape)}")
    resized = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    return (0.5 * (resized + 1) - mean) / std


def greybox(name: str, cut: str, classes: int = CLASSES, weights: str | Path | None = None) -> Greybox:
    """A classifier cut at a layer.

    Arguments:
        name: of a classifier of torchvision, such as alexnet, resnet50, resnet101, vgg16, squeezenet1_1.
        cut: "input", a name of ``HOOKS``, the name of a module or function, or "softmax".
        classes, weights: as :func:`classifier`.

    Raises:
        ValueError: for an unknown network, cut or file; FileNotFoundError if there is no such file.
    """
    where = HOOKS.get(name, {}).get(cut, cut)
    return Greybox(classifier(name, classes, weights), where, SIDES.get(name, SIDE))


def classifier(name: str, classes: int = CLASSES, weights: str | Path | None = None) -> nn.Module:
    """A classifier or a segmentation network of torchvision with a head of its own.

    Arguments:
        classes: of the head; with ImageNet's weights and another number than 1000 the head is a fresh one.
        weights: "imagenet" for torchvision's (downloaded by torchvision); a torch file with torchvision's keys,
            perhaps below ``state_dict`` and with one of ``PREFIXES``; None for random ones.

    Raises:
        ValueError: for an unknown network, or a file that does not fit: every missing, unexpected, misshapen tensor.
        FileNotFoundError: if there is no such file, or no network connection to download it.
    """
    require("torchvision")
    from torchvision import models

    maps = name in models.list_models(models.segmentation)
    if not maps and name not in models.list_models(models):
        raise ValueError(f"classifier: expected a network of torchvision, such as alexnet or resnet101, got {name!r}")
    if maps and weights == IMAGENET:
        raise ValueError(f"classifier: no {name} was trained on ImageNet; expected a file, or None for random")
    without = {"weights_backbone": None} if maps else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **without)
    if weights == IMAGENET:
        theirs = _imagenet(models.get_model_weights(name).IMAGENET1K_V1)
        own = network.state_dict()
        network.load_state_dict({key: v if v.shape == own[key].shape else own[key] for key, v in theirs.items()})
    elif weights is not None:
        load(network, weights, without=("aux_classifier.",) if maps else ())
    return network.eval()


def _imagenet(weights: Any) -> Mapping[str, Tensor]:
    """Weights of torchvision, downloaded once by torch.hub; it checks the digits of the hash in the name."""
    try:
        theirs: Mapping[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
        return theirs
    except OSError as error:
        target = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        raise FileNotFoundError(
            f"classifier: {str(target)!r} is not there and could not be downloaded ({error})\n"
            f"  by hand: download {weights.url}\n  and save it as {target}"
        ) from error


def load(network: nn.Module, path: str | Path, without: tuple[str, ...] = ()) -> None:
    """Fills a classifier from a torch file; see :func:`classifier`.

    Arguments:
        without: prefixes of keys that are left aside, such as those of a head that the network does not have.
    """
    state = {key: value for key, value in tensors(read_checkpoint(path)).items() if not key.startswith(without)}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    faults = mismatches(network.state_dict(), state)
    if faults:
        raise ValueError(f"weights: {str(path)!r} does not fit the network\n  " + "\n  ".join(faults))
    network.load_state_dict(state)
