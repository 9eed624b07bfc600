"""What the image arithmetic gives on the inputs of a fixture file, by the names of its outputs.

One function for each of the files ``net2net_preprocess``, ``iin_preprocess``, ``iin_cmnist_pairs``,
``iin_celeba_pairs`` and the crops of ``invariances_preprocess_attack``. Outputs agree exactly, images included.

Arguments of all:
    config: of the file.
    given: its arrays by key, ``in/...``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data import images, pairs

Arrays = Mapping[str, NDArray[Any]]
Results = dict[str, NDArray[Any]]


def net2net_preprocess(config: Mapping[str, Any], given: Arrays) -> Results:
    """``image_pm1`` (H, W, 3), ``celeba_uint8`` (without noise) and ``cond`` (B, 3, h, w)."""
    params = config["params"]
    results: Results = {}
    if "size" in params:
        results["image_pm1"] = images.smallest_centre(given["in/image"], params["size"])
    if "celeba_size" in params:
        results["celeba_uint8"] = images.celeba(given["in/image"], params["celeba_size"], params["celeba_crop"])
    if "cond_size" in params:
        results["cond"] = images.downsample(torch.from_numpy(given["in/x"]), params["cond_size"]).numpy()
    return results


def iin_preprocess(config: Mapping[str, Any], given: Arrays) -> Results:
    """``uint8_roundtrip``, ``mnist_<i>`` and ``celeba_<i>``; the noise is used up in this order."""
    noise = _noise(given)
    results: Results = {}
    for index, image in enumerate(given.get("in/mnist_uint8", ())):
        results[f"mnist_{index}"] = images.iin_image(image[..., None], next(noise), config["mnist_size"])
    for index, image in enumerate(given.get("in/celeba_uint8", ())):
        size, crop = config["celeba_size"], config["celeba_crop"]
        results[f"celeba_{index}"] = images.iin_celeba(image, next(noise), size, crop)
    if "in/gray" in given:
        results["uint8_roundtrip"] = images.to_u8(images.to_float(given["in/gray"]))
    return results


def _noise(given: Arrays) -> Iterator[Any]:
    """The numbers that dequantise one image after the other; ValueError if there are fewer than images."""
    drawn = given.get("in/noise", np.zeros(0))
    yield from drawn
    raise ValueError(f"in/noise: expected a number for each image, got {len(drawn)}")


def iin_cmnist_pairs(config: Mapping[str, Any], given: Arrays) -> Results:
    """The table of pairs, and the coloured images and factor of each index asked for."""
    table = pairs.coloured_test_pairs(given["in/class"], config.get("seed", pairs.TEST_SEED))
    row = {int(place): index for index, place in enumerate(given.get("in/image_rows", ()))}
    noise = _noise(given)
    results: Results = {
        "factor": table.factor,
        "same_idx": table.same,
        "other_idx": table.other,
        "color": table.colour,
    }
    for index, asked in enumerate(given.get("in/indices", ())):
        pair = table[int(asked)]
        assert pair.colours is not None
        for side, (place, colour) in enumerate(zip((pair.first, pair.second), pair.colours, strict=True), 1):
            grey = given["in/images_uint8"][row[place]][..., None]
            image = images.iin_image(grey, next(noise), config.get("spatial_size", 32))
            results[f"ex{index}_image{side}"] = pairs.coloured(image, colour)
        results[f"ex{index}_factor"] = np.array(pair.factor)
    return results


def iin_celeba_pairs(config: Mapping[str, Any], given: Arrays) -> Results:
    """The table of pairs or its beginning, such as ``subset_idx_first400``, ``factor_first400``, ``i2_first400``."""
    names = config.get("attributes") or config.get("CelebAFactors", {}).get("attributes") or pairs.CELEBA_ATTRIBUTES
    columns, count = pairs.attribute_columns(names), config.get("subset", pairs.CELEBA_TEST)
    seed = config.get("seed", pairs.TEST_SEED)
    table = pairs.attribute_test_pairs(given["in/attributes"][:, columns], count, seed)
    results: Results = {
        "attribute_indices": np.array(columns),
        "n_factors": np.array(len(columns) + 1),
        "residual_index": np.array(len(columns)),
    }
    for key, column in (("subset_idx", table.subset), ("factor", table.factor), ("i2", table.second)):
        for asked in filter(None, (re.fullmatch(rf"out/({key}(?:_first(\d+))?)", name) for name in given)):
            results[asked[1]] = column[: int(asked[2]) if asked[2] else None]
    return results


def invariances_crops(config: Mapping[str, Any], given: Arrays) -> Results:
    """``crop_<name>`` (uint8) of each ``in/raw_<name>``, and all of them as a batch ``x`` (B, 3, H, W) in [-1, 1]."""
    raw = {key.removeprefix("in/raw_"): value for key, value in given.items() if key.startswith("in/raw_")}
    size = config["size"]
    crops = {
        f"crop_{name}": images.centre_crop(images.resize_smallest(image, size), size) for name, image in raw.items()
    }
    batch = torch.stack([images.nchw(images.smallest_centre(image, size)) for image in raw.values()])
    return {**crops, "x": batch.numpy()}
