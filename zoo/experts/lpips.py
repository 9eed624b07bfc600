"""LPIPS, a perceptual distance of images (arXiv 1801.03924): version 0.1 on VGG16, published linear weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.downloads import Source, fetch
from zoo.layouts import CHANNELS, Form, Layout, Rule
from zoo.published import read_checkpoint, tensors

WEIGHTS = Source(
    "https://heibox.uni-heidelberg.de/f/607503859c864bc1b30b/?dl=1", "lpips-vgg.pth", "d507d7349b931f0638a25a48a722f98a"
)
"""The linear weights, as Net2Net's code downloads them."""
VGG16 = Source("https://download.pytorch.org/models/vgg16-397923af.pth", "vgg16-397923af.pth", size=553433881)
"""Torchvision's, trained on ImageNet; of its sha256 only the first digits are published, in the name."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SLICES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))
"""Layers of torchvision's VGG16 up to relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""
WIDTHS = (64, 128, 256, 512, 512)
STABLE = 1e-10
BATCHED = Form(lambda t: t[None], lambda t: t[0])
"""Theirs have an axis for the batch in front."""


class LPIPS(nn.Module):
    """Distance (B, 1, 1, 1) of images (B, 3 or 1, H, W) in [-1, 1]; 0 for equal ones.

    Always in evaluation mode, and without gradients of its own weights; those of the images flow. A single channel is
    repeated to three.

    Raises:
        ValueError: images of different shapes, or of another number of channels.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg16

        self.features = vgg16(weights=None).features[: SLICES[-1][1]]
        self.linear = nn.ParameterList(torch.full((width,), 1 / width) for width in WIDTHS)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> LPIPS:
        """Stays in evaluation mode."""
        return self

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 1, 1, 1), at least 0 with the published weights."""
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(
                f"images: expected two of one shape (B, 3 or 1, H, W), got {tuple(x.shape)}, {tuple(y.shape)}"
            )
        a, b = ((image.expand(-1, 3, -1, -1) - self.shift) / self.scale for image in (x, y))
        total = x.new_zeros(len(x), 1, 1, 1)
        for (start, end), weight in zip(SLICES, self.linear, strict=True):
            a, b = self.features[start:end](a), self.features[start:end](b)
            apart = (_unit(a) - _unit(b)).square()
            total = total + (apart * weight[:, None, None]).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        return total


def published(linear: Path | None = None) -> LPIPS:
    """LPIPS with torchvision's weights of VGG16 and the published linear weights, both downloaded once.

    Arguments:
        linear: the file of the linear weights, if it is at hand.

    Raises:
        FileNotFoundError: without a network connection; it says which file to put where.
        ValueError: for a file that does not fit.
    """
    model = LPIPS()
    given = tensors(read_checkpoint(fetch(WEIGHTS) if linear is None else linear))
    whole = tensors(read_checkpoint(fetch(VGG16)))
    own = {key: value for key, value in whole.items() if key in model.state_dict()}
    if own.keys() != {key for key in model.state_dict() if key.startswith("features.")}:
        raise ValueError(f"lpips: expected torchvision's VGG16 in {str(fetch(VGG16))!r}, it lacks layers of it")
    layout = Layout({k: v for k, v in model.state_dict().items() if k.startswith("linear.")}, rules())
    model.load_state_dict({**model.state_dict(), **own, **layout.read(given)})
    return model


def rules(theirs: str = "") -> list[Rule]:
    """The authors' key names."""
    found = [
        Rule(rf"features\.({'|'.join(map(str, range(*part)))})\.(weight|bias)", rf"net.slice{i + 1}.\1.\2")
        for i, part in enumerate(SLICES)
    ]
    found += [Rule(rf"linear\.{i}", f"lin{i}.model.1.weight", CHANNELS) for i in range(len(WIDTHS))]
    found += [Rule(name, f"scaling_layer.{name}", BATCHED) for name in ("shift", "scale")]
    return [rule.under(theirs=theirs) for rule in found]


def _unit(features: Tensor) -> Tensor:
    """Features (B, C, H, W) of length 1 at every pixel."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + STABLE)
