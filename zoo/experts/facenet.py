"""FaceNet's Inception-ResNet v1 (arXiv 1503.03832, 1602.07261) with the layer names of its published torch weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.downloads import Source
from zoo.experts.classifiers import Greybox, load

VGGFACE2 = Source(
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    "facenet/20180402-114759-vggface2.pt",
)
SIDE = 160
MEAN, STD = (0.5,) * 3, (128 / 255,) * 3
"""Of images in [0, 1]: bytes are mapped by (u - 127.5) / 128."""
HOOKS = {"conv4a": "conv2d_4a", "mixed6a": "mixed_6a", "avgpool1a": "avgpool_1a", "embedding": "normalize"}
"""The paper's names of layers, beside "input"."""
Kernel = int | tuple[int, int]


def facenet(cut: str = "embedding", weights: str | Path | None = None) -> Greybox:
    """The face recogniser cut at a layer; its answer is the embedding (B, 512), of length 1.

    Arguments:
        cut: "input", a name of ``HOOKS``, or the name of a module.
        weights: a torch file with the published keys (``zoo.downloads.fetch(VGGFACE2)``); None for random ones.

    Raises:
        ValueError: for an unknown cut, or a file that does not fit; FileNotFoundError if there is no such file.
    """
    network = InceptionResnetV1()
    if weights is not None:
        load(network, weights, without=("logits.",))
    return Greybox(network, HOOKS.get(cut, cut), SIDE, MEAN, STD, softmax=False)


class InceptionResnetV1(nn.Module):
    """Faces (B, 3, H, W), 160 x 160 in training -> embeddings (B, 512) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = _conv(3, 32, 3, stride=2)
        self.conv2d_2a = _conv(32, 32, 3)
        self.conv2d_2b = _conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _conv(64, 80, 1)
        self.conv2d_4a = _conv(80, 192, 3)
        self.conv2d_4b = _conv(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*[_block35(0.17) for _ in range(5)])
        self.mixed_6a = _reduction_a()
        self.repeat_2 = nn.Sequential(*[_block17(0.10) for _ in range(10)])
        self.mixed_7a = _reduction_b()
        self.repeat_3 = nn.Sequential(*[_block8(0.20) for _ in range(5)])
        self.block8 = _block8(1.0, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.6)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> (B, 512)."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x))))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        x = self.dropout(self.avgpool_1a(x)).flatten(1)
        return F.normalize(self.last_bn(self.last_linear(x)), dim=1)


class Branches(nn.Module):
    """Branches beside one another, "branch0", "branch1" ..., joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.count = len(branches)
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, sum of the branches' channels, H', W')."""
        return torch.cat([self.get_submodule(f"branch{i}")(x) for i in range(self.count)], 1)


class ResidualBranches(Branches):
    """``relu(x + scale * conv(branches(x)))`` (arXiv 1602.07261, section 3.3), the last block without the relu."""

    def __init__(self, joined: int, out: int, scale: float, relu: bool, *branches: nn.Module) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(joined, out, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y = x + self.scale * self.conv2d(super().forward(x))
        return F.relu(y) if self.relu else y


def _block35(scale: float) -> nn.Module:
    second = nn.Sequential(_conv(256, 32, 1), _conv(32, 32, 3, padding=1))
    third = nn.Sequential(_conv(256, 32, 1), _conv(32, 32, 3, padding=1), _conv(32, 32, 3, padding=1))
    return ResidualBranches(96, 256, scale, True, _conv(256, 32, 1), second, third)


def _block17(scale: float) -> nn.Module:
    second = nn.Sequential(
        _conv(896, 128, 1), _conv(128, 128, (1, 7), padding=(0, 3)), _conv(128, 128, (7, 1), padding=(3, 0))
    )
    return ResidualBranches(256, 896, scale, True, _conv(896, 128, 1), second)


def _block8(scale: float, relu: bool = True) -> nn.Module:
    second = nn.Sequential(
        _conv(1792, 192, 1), _conv(192, 192, (1, 3), padding=(0, 1)), _conv(192, 192, (3, 1), padding=(1, 0))
    )
    return ResidualBranches(384, 1792, scale, relu, _conv(1792, 192, 1), second)


def _reduction_a() -> nn.Module:
    second = nn.Sequential(_conv(256, 192, 1), _conv(192, 192, 3, padding=1), _conv(192, 256, 3, stride=2))
    return Branches(_conv(256, 384, 3, stride=2), second, nn.MaxPool2d(3, 2))


def _reduction_b() -> nn.Module:
    first = nn.Sequential(_conv(896, 256, 1), _conv(256, 384, 3, stride=2))
    second = nn.Sequential(_conv(896, 256, 1), _conv(256, 256, 3, stride=2))
    third = nn.Sequential(_conv(896, 256, 1), _conv(256, 256, 3, padding=1), _conv(256, 256, 3, stride=2))
    return Branches(first, second, third, nn.MaxPool2d(3, 2))


def _conv(channels: int, out: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> nn.Module:
    layers: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(channels, out, kernel, stride, padding, bias=False)),
        ("bn", nn.BatchNorm2d(out, eps=1e-3)),
        ("relu", nn.ReLU()),
    ]
    return nn.Sequential(OrderedDict(layers))
