"""The authors' files for the IIN: where they are, what they hold, and their key names (sheet: section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.blocks import flow
from zoo.blocks.autoencoder import autoencoder_rules, classifier_rules
from zoo.downloads import Source
from zoo.layouts import Rule
from zoo.published import Published

LOGS = "logs"
FILES: dict[str, Source] = {
    LOGS: Source("https://heibox.uni-heidelberg.de/f/0c76b38bf4274448b8e9/?dl=1", "iin/logs.tar.gz"),
}
"""One archive of about 2.2 GB with all runs."""


def _of(run: str, step: str, *results: str) -> Published:
    """A checkpoint in the archive, by the pattern of its run's folder."""
    return Published(LOGS, member=f"logs/{run}/train/checkpoints/model-{step}.ckpt", results=results)


PUBLISHED: dict[str, Published] = {
    "iin/mnist-ae": _of("2020-04-23T00-17-34_mnist_ae", "120000"),
    "iin/fashionmnist-ae": _of("2020-04-23T00-17-38_fashionmnist_ae", "120000"),
    "iin/cifar-ae": _of("2020-04-24T09-47-43_cifar_ae", "534000"),
    "iin/celeba-ae": _of("2020-04-23T23-43-25_celeba_ae", "572968"),
    "iin/cmnist-ae": _of("2020-04-27T22-55-44_cmnist_ae", "120000", "dimensions 13, 17, 34 (readme)"),
    "iin/cmnist-classifier": _of("2020-07-23T13-19-33_cmnist_clf", "120000", "dimensions 22, 11, 31 (readme)"),
    "iin/mnist": _of("*_mnist_iin", "105600", "FID of samples 6.4 +- 0.1 (paper), 5.252 (readme)"),
    "iin/fashionmnist": _of("*_fashionmnist_iin", "110400", "FID of samples 16.0 +- 0.1 (paper), 9.663 (readme)"),
    "iin/cifar": _of("*_cifar_iin", "32000", "FID of samples 45.7 +- 0.3 (paper), 38.697 (readme)"),
    "iin/celeba": _of("*_celeba_iin", "84643", "FID of samples 20.2 +- 0.5 (paper), 19.839 (readme)"),
    "iin/cmnist-factors": _of("2020-04-28T10-12-18_cmnist_diin", "45600"),
    "iin/celeba-factors": _of("*_celeba_diin", "*"),
    "iin/cmnist-classifier-factors": _of(
        "2020-07-*_cmnist_diin", "*", "sigma of a 7's class: digit 2.74, colour 0.19, residual 0.0 (project page)"
    ),
    **dict.fromkeys(("iin/tiny", "iin/tiny-factors"), Published()),
}
"""Names of runs with a star are not known; the archive has one that fits."""

FLOW = flow.block_rules(r"flow\.(\d+)\.", r"realnvp.flow.\1.", ("flow.0", "flow.1", "flow.2"))
"""Of both transformers."""


def rules(name: str, options: Mapping[str, Any]) -> list[Rule]:
    """The authors' key names for a network of this paper with these options."""
    if name.endswith("-ae"):
        return autoencoder_rules(options["norm"])
    return classifier_rules(options["norm"]) if name.endswith("-classifier") else FLOW
