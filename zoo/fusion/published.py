"""The authors' networks that Network Fusion needs; Net2Net's, as no flow and no code of its own was released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.blocks import autoencoder, biggan, biggan_layouts
from zoo.layouts import Rule
from zoo.net2net import published as net2net
from zoo.published import Published

FILES = {key: net2net.FILES[key] for key in ("biggan-256", "dequant-vae")}
FLOWS = ("bert-to-biggan256", "sketch-to-biggan", "tiny")
PUBLISHED: dict[str, Published] = {
    **{f"fusion/{name}": Published(prefix="flow.", beside=net2net.FLOW_EXTRAS) for name in FLOWS},
    "fusion/biggan256": Published("biggan-256", spare=biggan_layouts.SPARE),
    "fusion/tiny-biggan": Published(spare=biggan_layouts.SPARE),
    "fusion/dequantiser": Published("dequant-vae"),
    "fusion/tiny-dequantiser": Published(),
}
LAYERS = 2
"""Hidden layers of the embedder in all configurations."""


def rules(name: str, options: Mapping[str, Any]) -> list[Rule]:
    """The authors' key names for a network of this paper with these options."""
    if name.endswith("biggan256") and "classes" in options or name.endswith("tiny-biggan"):
        return biggan.generator_rules()
    if name.endswith("dequantiser"):
        return autoencoder.dequantiser_rules()
    return net2net.translator_rules(LAYERS, options["embedder_norm"])
