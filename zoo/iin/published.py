"""The authors' files for the IIN: where they are, what they hold, and their key names (sheet: section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.blocks import flow
from zoo.downloads import Source
from zoo.layouts import Rule
from zoo.published import Published

FILES: dict[str, Source] = {}

PUBLISHED: dict[str, Published] = dict.fromkeys(
    (
        "iin/mnist",
        "iin/fashionmnist",
        "iin/cifar",
        "iin/celeba",
        "iin/tiny",
        "iin/cmnist-factors",
        "iin/celeba-factors",
        "iin/cmnist-classifier-factors",
        "iin/tiny-factors",
    ),
    Published(),
)


def rules(name: str, options: Mapping[str, Any]) -> list[Rule]:
    """The authors' key names for a network of this paper with these options."""
    return FLOW


FLOW = flow.block_rules(r"flow\.(\d+)\.", r"realnvp.flow.\1.", ("flow.0", "flow.1", "flow.2"))
"""Of both transformers."""
