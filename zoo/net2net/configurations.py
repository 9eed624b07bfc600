"""What Net2Net's flows are trained between and on, and what its first-stage autoencoders are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.net2net.graph import SPATIAL

Kind = Literal["label", "attributes", "small", "warped", "sentence", "captioned", "layer", "hole", "classes"]
"""What expert one is: the number of a domain, CelebA's attributes, an autoencoder of the small or of the warped
picture, a sentence BERT of a caption, the same of what a captioner says of a generator's picture, a layer of a network,
also of a picture with a hole, the classes that a segmentation network tells."""
Sets = tuple[tuple[str, ...], ...]
BATCH_KEYS: dict[Kind, str] = {"label": "class", "attributes": "attributes", "sentence": "caption"}
"""What expert one reads of an example, if not "image"."""
SBERT_BASE, SBERT_LARGE = "bert-base-nli-stsb-mean-tokens", "bert-large-nli-stsb-mean-tokens"
RESNET, SEGMENTATION = "resnet50", "deeplabv3_resnet50"


@dataclass(frozen=True)
class Configuration:
    """What a flow is trained between.

    Arguments:
        kind: of expert one.
        target: expert two's registered name, without the paper's; empty where the authors released none.
        source: expert one, unless the command names another: a registered name without the paper's, a sentence BERT,
            or a network of torchvision.
        sets: the data sets, those of each domain for itself.
        cut: the layer of a network.
    """

    kind: Kind
    target: str
    source: str = ""
    sets: Sets = ()
    cut: str = ""

    @property
    def key(self) -> str:
        """What expert one reads of an example."""
        return BATCH_KEYS.get(self.kind, "image")

    @property
    def domains(self) -> int:
        """K of a flow between K domains, 0 for others."""
        return len(self.sets) if self.kind == "label" else 0

    @property
    def generates(self) -> bool:
        """Whether expert two is a generator, which encodes no pictures."""
        return self.kind == "captioned" or self.target == "bigbigan-generator"


CONFIGURATIONS: dict[str, Configuration] = {
    "superresolution-faces": Configuration("small", "ae-faces256", "ae-faces32", (("celebahq", "ffhq"),)),
    "anime-photography": Configuration("label", "ae-anime256", sets=(("ffhq", "celebahq"), ("anime",))),
    "portraits-photography": Configuration("label", "ae-portraits256", sets=(("ffhq",), ("portraits",))),
    "celeba-celebahq-ffhq": Configuration("label", "ae-faces256", sets=(("celeba",), ("celebahq",), ("ffhq",))),
    "sbert-to-coco-ae256": Configuration("sentence", "ae-coco256", SBERT_LARGE, (("coco",),)),
    "sbert-to-bigbigan": Configuration("sentence", "bigbigan-generator", SBERT_LARGE, (("coco",),)),
    "sbert-to-biggan256": Configuration("captioned", "biggan256", SBERT_BASE),
    "attributes-celeba": Configuration("attributes", "ae-faces256", sets=(("celeba",),)),
    "humans-animals": Configuration("label", "", sets=(("ffhq",), ("afhq",))),
    "shape-appearance": Configuration("warped", "ae-faces256", sets=(("celebahq", "ffhq"),)),
    "segmentation-argmax": Configuration("classes", "", SEGMENTATION, cut="classifier"),
    "segmentation-logits": Configuration("layer", "", SEGMENTATION, cut="classifier"),
    "edges-stylized-resnet50": Configuration("layer", "", RESNET, cut="layer3"),
    "inpainting-resnet50": Configuration("hole", "", RESNET, cut="layer3"),
    "layers-early": Configuration("layer", "", SEGMENTATION, cut="backbone.layer1"),
    "layers-middle": Configuration("layer", "", SEGMENTATION, cut="backbone.layer3"),
    "layers-last": Configuration("layer", "", SEGMENTATION, cut="classifier"),
}
"""Expert one's picture of BigGAN is described by ``source``'s sentence BERT and a captioner, see
:mod:`zoo.net2net.system`. Without sets any folder of images will do."""
AUTOENCODERS: dict[str, Sets] = {
    "ae-faces32": (("celebahq", "ffhq"),),
    "ae-faces256": (("celebahq", "ffhq"),),
    "ae-celeba-celebahq-ffhq256": (("celeba", "celebahq", "ffhq"),),
    "ae-anime256": (("ffhq", "celebahq", "anime"),),
    "ae-portraits256": (("ffhq", "portraits"),),
    "ae-coco256": (("coco",),),
}
"""Sets of the first-stage autoencoders."""
LAYERS = tuple(name for name in SPATIAL if name.startswith("layers-"))
"""The flows that one network is looked at with, from early to late."""


def configuration(name: str) -> Configuration | None:
    """That of a registered name, ``net2net/...``; None if it has none."""
    return CONFIGURATIONS.get(name.partition("/")[2])
