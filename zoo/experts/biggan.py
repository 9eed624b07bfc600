"""BigGAN as an expert: images of codes and classes, or of class embeddings; its weights in the layouts of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks import biggan, biggan_layouts
from zoo.layouts import Layout


class BigGAN(nn.Module):
    """A generator of :func:`zoo.blocks.biggan.generator`, such as ``zoo.load("net2net/biggan256")``.

    Raises:
        ValueError: for a network of another kind.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        parts = dict(net.named_children())
        if not {"embed", "painter"} <= parts.keys():
            raise ValueError(f"generator: expected parts 'embed' and 'painter', got {', '.join(parts) or 'none'}")
        self.net: Any = net

    @property
    def classes(self) -> int:
        """How many there are."""
        count: Any = self.net.embed.in_features
        return int(count)

    def embed(self, labels: Tensor) -> Tensor:
        """Class numbers (B,) -> class embeddings (B, 128), which can be mixed.

        Raises:
            ValueError: for numbers that are no classes.
        """
        if labels.dtype.is_floating_point or labels.ndim != 1:
            raise ValueError(f"labels: expected class numbers (B,), got {labels.dtype} {tuple(labels.shape)}")
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise ValueError(
                f"labels: expected 0 to {self.classes - 1}, got {int(labels.min())} to {int(labels.max())}"
            )
        found: Tensor = self.net.embed(
            F.one_hot(labels.long(), self.classes).to(next(self.net.embed.parameters()).dtype)
        )
        return found

    def generate(self, z: Tensor, labels: Tensor) -> Tensor:
        """Codes (B, Z) ~ N(0, 1) and class numbers (B,) -> images (B, 3, S, S) in [-1, 1]; errors as :meth:`embed`."""
        return self.generate_from_embedding(z, self.embed(labels))

    def generate_from_embedding(self, z: Tensor, embedding: Tensor) -> Tensor:
        """Codes (B, Z) and class embeddings (B, 128) -> images (B, 3, S, S) in [-1, 1]."""
        found: Tensor = self.net.painter(latent=z, embedding=embedding)
        return found


Other = Literal["torch", "hub"]


def write(net: nn.Module, layout: Other = "torch") -> dict[str, Tensor]:
    """A generator's weights in another layout, see :mod:`zoo.blocks.biggan_layouts`; exactly undone by :func:`read`.

    "torch", its authors' port, is to be run with their normalisation (``unit="clamp"``) and last eps (1e-5);
    as shipped, both differ from Net2Net's.
    """
    return _layout(net, layout).write(net.state_dict())


def read(net: nn.Module, theirs: Mapping[str, Tensor | np.ndarray[Any, Any]], layout: Other = "torch") -> None:
    """Fills a generator with weights in another layout.

    Arguments:
        theirs: by their names; variables of TensorFlow may be below "module/", end with ":0" and have further axes of
            length 1.

    Raises:
        ValueError: one message with every missing, unexpected and misshapen tensor.
    """
    known = _layout(net, layout)
    wanted = known.entries
    found = {_plain(name): torch.as_tensor(value) for name, value in theirs.items()}
    squeezed = {
        name: value.reshape(wanted[name].shape) if name in wanted and _same(value, wanted[name]) else value
        for name, value in found.items()
    }
    known.load(net, squeezed)


def _layout(net: nn.Module, layout: Other) -> Layout:
    blocks = {key.split(".")[1] for key in net.state_dict() if key.startswith("painter.block_")}
    size = {len(widths) - 1: side for side, widths in biggan.WIDTHS.items()}.get(len(blocks))
    if size is None:
        raise ValueError(f"generator: expected 5 or 6 blocks below 'painter', got {len(blocks)}")
    rules = biggan_layouts.torch_rules(size) if layout == "torch" else biggan_layouts.hub_rules(size)
    return Layout(net, rules, biggan_layouts.UNUSED, biggan_layouts.SPARE)


def _plain(name: str) -> str:
    return name.removeprefix("module/").removesuffix(":0")


def _same(value: Tensor, wanted: Tensor) -> bool:
    return [n for n in value.shape if n > 1] == [n for n in wanted.shape if n > 1]
