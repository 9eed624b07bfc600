"""The authors' files for the invariances: where they are, what they hold, and their key names (sheet: section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.blocks import autoencoder, biggan, embedders, flow
from zoo.blocks.biggan_layouts import SPARE
from zoo.downloads import Source
from zoo.iin.published import FLOW
from zoo.layouts import Rule
from zoo.published import Published

HOST = "https://heibox.uni-heidelberg.de/f/{}/?dl=1"
_TABLE = """
cinn_alexnet_aae_conv5 62b0e29d8c544f51b79c ae9367e3cf7486218375c2b328d1273a conv5.ckpt
cinn_alexnet_aae_fc6 5d07dc071dd1450eb0a5 e7128567ee0686d362ed83cfda9fabc1 fc6.ckpt
cinn_alexnet_aae_fc7 050d4d76f3cf4eeeb9b6 342ab8f9280ed83f30150e586c7df13b fc7.ckpt
cinn_alexnet_aae_fc8 cb9c93497aae4e97890c ce6b5bfc316a855693b7e1808d6f3a46 fc8.ckpt
cinn_alexnet_aae_softmax 5a30088c51b44cc58bbe 15fbdd0d8d51ba0031fbc07ebf0ba2f6 softmax.ckpt
cinn_stylizedresnet_avgpool 7a54929dee4544248020 0dd3f262a8179920d77db7404a599e35 avgpool.ckpt
cinn_resnet_avgpool d31717bb225b4692bbb3 c956206cadc928febfa7c940425f2edd avgpool.ckpt
resnet101_animalfaces_shared a2c36d628f574ed8aa68 784b6b52eb30341484b5fb69e3b9ae60 animalfaces149_modelub_16908.ckpt
resnet101_animalfaces_10 314926cb0d754cd9bb02 473cd4c25e7dedf87967489992498f06 animalfaces10_modelub_6118.ckpt
cinn_resnet_animalfaces10_ae_input abe885bdaf1c46139020 fdabc84090536cb86cc7c26ac1882602 input_model-7000.ckpt
cinn_resnet_animalfaces10_ae_maxpool 30dc2640dfd54b339f93 bc6ef45423b44920a21f5b99b637a77e maxpool_model-7000.ckpt
cinn_resnet_animalfaces10_ae_layer1 00687f7bc1d6409aa680 22bc960b6b17e7ba20a835610c900546 layer1_model-7000.ckpt
cinn_resnet_animalfaces10_ae_layer2 51795cdc045246c49cdc 36708e3cde454bf76c37300abf90a7e8 layer2_model-7000.ckpt
cinn_resnet_animalfaces10_ae_layer3 860cfa3327f3426db1f6 57001f54ba533af446702bf960644e9f layer3_model-7000.ckpt
cinn_resnet_animalfaces10_ae_layer4 1a2058efb9564cb7bcf7 94e9a044fbca68fe8e994e7521be3f2d layer4_model-7000.ckpt
cinn_resnet_animalfaces10_ae_avgpool 859c201776ee4b5f8b15 0993b79c3d0e7be4be8f99bda82db934 avgpool_model-7000.ckpt
cinn_resnet_animalfaces10_ae_fc b0a485885ab44e4daa44 1fc381a48c9a2a9001609ad1b8a2f941 fc_model-7000.ckpt
cinn_resnet_animalfaces10_ae_softmax 19c56eff387c40f3bd44 37303f1d9e2ef71ae75bc765415bbb0e softmax_model-7000.ckpt
bigae_animals f0adb4d509ea4132b9ea 6213882571854935226a041b8dcaecdd animals-1672855.ckpt
bigae_animalfaces 3c0bf40a85a84e2a986e 7f379d6ebcbc03a710ef0605806f0b51 animalfaces-631606.ckpt
biggan_128 56ed256209fd40968864 a2148cf64807444113fac5eede060d28 biggan-128.pth
biggan_256 437b501944874bcc92a4 e23db3caa34ac4c4ae922a75258dcb8d biggan-256.pth
dequant_vae e7c8959b50a64f40826e 5c2a6fe765142cbdd9f10f15d65a68b6 dequantvae-20000.ckpt
"""
"""Key, identifier at the host, md5, the authors' file name (one occurs twice, so each is kept in a folder)."""

FILES: dict[str, Source] = {
    key: Source(HOST.format(place), f"invariances/{key}/{name}", md5)
    for key, place, md5, name in map(str.split, _TABLE.split("\n")[1:-1])
}

CLASSIFIERS: dict[str, tuple[str, int]] = {
    "resnet101_animalfaces_shared": ("resnet101", 149),
    "resnet101_animalfaces_10": ("resnet101", 10),
}
"""Files that hold a classifier, torchvision's keys below "model.": which one, and its classes."""

_ANIMALS10 = ("input", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc", "softmax")
_CUTS = {
    **{f"alexnet-{cut}": f"cinn_alexnet_aae_{cut}" for cut in ("conv5", "fc6", "fc7", "fc8", "softmax")},
    "resnet50-avgpool": "cinn_resnet_avgpool",
    "stylized-resnet50-avgpool": "cinn_stylizedresnet_avgpool",
    **{f"resnet101-{cut}": f"cinn_resnet_animalfaces10_ae_{cut}" for cut in _ANIMALS10},
}
_FID = {"conv5": "23.6 ± 0.5", "fc6": "24.3 ± 0.7", "fc7": "24.9 ± 0.4", "fc8": "26.4 ± 0.4", "softmax": "27.4 ± 0.3"}
RESULTS = {f"alexnet-{cut}": (f"FID of decoded samples {value} (Table 1)",) for cut, value in _FID.items()}

PUBLISHED: dict[str, Published] = {
    **{f"invariances/{name}": Published(file, results=RESULTS.get(name, ())) for name, file in _CUTS.items()},
    "invariances/tiny": Published(),
    "invariances/tiny-spatial": Published(),
    "invariances/concepts": Published(),
    "invariances/concepts-tiny": Published(),
    "invariances/dequantiser": Published("dequant_vae"),
    "invariances/dequantiser-tiny": Published(),
    "invariances/biggan-128": Published("biggan_128", spare=SPARE),
    "invariances/biggan-256": Published("biggan_256", spare=SPARE),
    "invariances/biggan-tiny": Published(spare=SPARE),
    "invariances/bigae-animals": Published("bigae_animals", options={"normalised": 2}),
    "invariances/bigae-animalfaces": Published("bigae_animalfaces", options={"normalised": 2}),
    "invariances/bigae-tiny": Published(options={"normalised": 2}),
}


def rules(name: str, options: Mapping[str, Any]) -> list[Rule]:
    """The authors' key names for a network of this paper with these options."""
    if "concepts" in options:
        return FLOW
    if name.startswith("invariances/biggan"):
        return biggan.generator_rules()
    if name.startswith("invariances/bigae"):
        return biggan.autoencoder_rules()
    if name.startswith("invariances/dequantiser"):
        return autoencoder.dequantiser_rules(options["layers"])
    return cinn_rules(options["size"], len(options["embedder_dims"]) or options["embedder_depth"])


def cinn_rules(size: int, embedder_depth: int) -> list[Rule]:
    """For :func:`zoo.invariances.graph.cinn`; the depth counts the widths, input and output included."""
    if size > 1:
        return [*flow.flow_rules("flow."), *embedders.spatial_rules("embedder.", "embedder.")]
    return [*flow.flow_rules("flow."), *embedders.dense_rules(embedder_depth - 1, "embedder.", "embedder.net.")]
