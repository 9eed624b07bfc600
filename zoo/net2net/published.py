"""The authors' files for Net2Net: where they are, what they hold, and their key names (sheet: section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.blocks import flow
from zoo.downloads import Source
from zoo.layouts import Rule
from zoo.published import Published

FILES: dict[str, Source] = {}

FLOW = Published(
    prefix="flow.", beside=("first_stage_model.", "cond_stage_model.", "to_c_model.", "dequantizer.", "loss.")
)
PUBLISHED: dict[str, Published] = dict.fromkeys(
    (
        "net2net/superresolution-faces",
        "net2net/anime-photography",
        "net2net/portraits-photography",
        "net2net/celeba-celebahq-ffhq",
        "net2net/sbert-to-coco-ae256",
        "net2net/sbert-to-bigbigan",
        "net2net/sbert-to-biggan256",
        "net2net/tiny",
    ),
    FLOW,
)


def rules(name: str, options: Mapping[str, Any]) -> list[Rule]:
    """The authors' key names for a network of this paper with these options."""
    return translator_rules(options["embedder_layers"], options["embedder_norm"])


def translator_rules(embedder_layers: int, embedder_norm: flow.Norm) -> list[Rule]:
    """For :func:`zoo.net2net.graph.translator`."""
    embedder = flow.fully_connected_rules(embedder_layers, embedder_norm, "embedder.", "embedder.main.")
    return [*flow.flow_rules(), *embedder]
