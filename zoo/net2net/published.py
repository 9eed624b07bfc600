"""The authors' files for Net2Net: where they are, what they hold, and their key names (sheet: section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.blocks import autoencoder, biggan, biggan_deep, biggan_layouts, embedders, flow
from zoo.downloads import Source
from zoo.layouts import Rule
from zoo.net2net import cost
from zoo.net2net.graph import OURS, RELEASED, SPATIAL
from zoo.published import Published

HEIBOX, SHORT = "https://heibox.uni-heidelberg.de/{}/?dl=1", "https://k00.fr/{}"
HUGGING_FACE = "https://s3.amazonaws.com/models.huggingface.co/biggan/{}-pytorch_model.bin"
"""The port of BigGAN-deep to torch."""
_LOGS = """
ae-faces32 heibox f/b0b103af8406467abe48 2020-10-16T17-11-42_FacesFQ32x32 last.ckpt
ae-faces256 short 94lw2vlg 2020-09-16T16-23-39_FacesXL256z128 last.ckpt
ae-anime256 heibox f/315c628c8b0e40238132 2020-09-30T21-40-22_AnimeAndFHQ epoch=000007.ckpt
ae-portraits256 heibox f/4f9449418a2e4025bb5f 2020-09-29T23-47-10_PortraitsAndFFHQ epoch=000004.ckpt
ae-coco256 short fbti4058 2020-12-18T22-49-43_coco256 last.ckpt
celeba-celebahq-ffhq short lro927bu 2020-11-30T23-32-28_celeba_celebahq_ffhq_256 last.ckpt
anime-photography heibox d/075e81e16de948aea7a1 2020-12-02T13-58-19_anime_photography_256 epoch=000004.ckpt
portraits-photography short y3rvnl3j 2020-12-02T16-19-39_portraits_photography_256 epoch=000003.ckpt
"""
"""Key, host, place there, the authors' log folder, file name. No hashes were published."""
_PARTS = """
biggan-128 56ed256209fd40968864 a2148cf64807444113fac5eede060d28 biggan-128.pth
biggan-256 437b501944874bcc92a4 e23db3caa34ac4c4ae922a75258dcb8d biggan-256.pth
dequant-vae e7c8959b50a64f40826e 5c2a6fe765142cbdd9f10f15d65a68b6 dequantvae-20000.ckpt
lpips-vgg 607503859c864bc1b30b d507d7349b931f0638a25a48a722f98a vgg.pth
captioner b03aae864a0f42f1a2c3 db185e0f6791e60d27c00de0f40c376c captioning_model_pt16.ckpt
"""
"""Key, place at the first host, md5, file name."""


def _files() -> dict[str, Source]:
    files = {}
    for key, host, place, folder, name in map(str.split, _LOGS.strip().split("\n")):
        url = (HEIBOX if host == "heibox" else SHORT).format(place)
        files[key] = Source(url, f"net2net/{folder}/checkpoints/{name}")
    for key, place, md5, name in map(str.split, _PARTS.strip().split("\n")):
        files[key] = Source(HEIBOX.format(f"f/{place}"), f"net2net/{name}", md5)
    files["captioner-words"] = Source(HEIBOX.format("f/1518aa8461d94e0cb3eb"), "net2net/captioner-words.json")
    for size in biggan_deep.CHANNELS:
        name = f"biggan-deep-{size}"
        files[name] = Source(HUGGING_FACE.format(name), f"net2net/{name}-pytorch_model.bin")
    return files


FILES: dict[str, Source] = _files()
"""All that the authors offered. No flow of super-resolution or of text to image is among it."""
FLOW_EXTRAS = ("first_stage_model.", "cond_stage_model.", "to_c_model.", "dequantizer.", "loss.")
"""What else the checkpoint of a flow holds: the experts, and the losses of an autoencoder that is one."""
_CONDITIONAL = (*RELEASED, *OURS, *SPATIAL, "conditional-flow", "tiny-conditional-flow")
_UNCONDITIONAL = ("unconditional", "pure-affine", "tiny-unconditional")
RESULTS = {
    "sbert-to-biggan256": [
        "text to image, COCO: IS {IS}, FID {FID} (table 1, which does not name the network)".format_map(
            cost.TEXT_TO_IMAGE["ours"]
        )
    ],
    "attributes-celeba": [
        f"FID after the flip of {name}: {row['ours']}, StarGAN {row['StarGAN']} (figure 6)"
        for name, row in cost.ATTRIBUTES.items()
    ],
    **{
        f"layers-{name}": [f"FID from the {name} layer: {row['cINN']}, an MLP {row['MLP']} (figure 12)"]
        for name, row in cost.LAYERS.items()
    },
}
PUBLISHED: dict[str, Published] = {
    f"net2net/{name}": Published(
        name if name in FILES else None,
        prefix="flow.",
        beside=FLOW_EXTRAS,
        options={"exact_logdet": False} if name in _CONDITIONAL else {"exact_inverse": False},
        results=RESULTS.get(name, ()),
    )
    for name in (*_CONDITIONAL, *_UNCONDITIONAL)
}
"""What their code did is switched on: it shows with a leaky ReLU, and with an odd number of channels."""
PUBLISHED |= {
    f"net2net/{name}": Published(file, spare=biggan_layouts.SPARE)
    for name, file in (
        ("biggan128", "biggan-128"),
        ("biggan256", "biggan-256"),
        ("tiny-biggan", None),
        ("bigbigan-generator", None),
        ("tiny-bigbigan-generator", None),
    )
}
PUBLISHED |= {
    f"net2net/{name}": Published(
        name if name in FILES else None,
        prefix="first_stage_model.",
        beside=("loss.", "flow.", "cond_stage_model."),
        spare=biggan_layouts.SPARE,
        options={"normalised": 2},
    )
    for name in ("ae-faces256", "ae-celeba-celebahq-ffhq256", "ae-anime256", "ae-portraits256", "ae-coco256")
}
PUBLISHED |= {
    f"net2net/{name}": Published(name if name in FILES else None, options={"exchanged": True})
    for name in ("tiny-biggan-deep", *(f"biggan-deep-{size}" for size in biggan_deep.CHANNELS))
}
PUBLISHED["net2net/ae-faces32"] = Published("ae-faces32", prefix="autoencoder.", beside=("loss.",))
PUBLISHED["net2net/dequantiser"] = Published("dequant-vae", beside=("loss.",))
PUBLISHED["net2net/dequantiser-tiny"] = Published(beside=("loss.",))


def rules(name: str, options: Mapping[str, Any]) -> list[Rule]:
    """The authors' key names for a network of this paper with these options."""
    if "exchanged" in options:
        blocks = len(biggan_deep.published_layers(options["size"]))
        return biggan_deep.generator_rules(blocks, biggan_deep.ATTENTION)
    if "unit" in options:
        torch = options["unit"] == "clamp"
        return biggan_layouts.torch_rules(options["size"]) if torch else biggan.generator_rules()
    if "normalised" in options:
        return biggan.autoencoder_rules()
    if "embedder_layers" in options:
        return translator_rules(options["embedder_layers"], options["embedder_norm"])
    if name == "net2net/ae-faces32":
        return autoencoder.autoencoder_rules(options["norm"])
    if name.startswith("net2net/dequantiser"):
        return autoencoder.dequantiser_rules(options["layers"])
    if "down" in options:
        return [*flow.flow_rules(), *embedders.spatial_rules("embedder.", "embedder.")]
    return flow.flow_rules()


def translator_rules(embedder_layers: int, embedder_norm: flow.Norm) -> list[Rule]:
    """For :func:`zoo.net2net.graph.translator`."""
    embedder = flow.fully_connected_rules(embedder_layers, embedder_norm, "embedder.", "embedder.main.")
    return [*flow.flow_rules(), *embedder]
