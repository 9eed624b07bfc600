"""What the image arithmetic gives on the inputs of a fixture file, by the names of its outputs.

One function for each of the files ``net2net_preprocess``, ``iin_preprocess``, ``iin_cmnist_pairs``,
``iin_celeba_pairs`` and the crops of ``invariances_preprocess_attack``. Outputs agree exactly, images included.

Arguments of all:
    config: of the file.
    given: its arrays by key, ``in/...``.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    return {
        "image_pm1": images.smallest_centre(given["in/image"], params["size"]),
        "celeba_uint8": images.celeba(given["in/image"], params["celeba_size"], params["celeba_crop"]),
        "cond": images.downsample(torch.from_numpy(given["in/x"]), params["cond_size"]).numpy(),
    }


def iin_preprocess(config: Mapping[str, Any], given: Arrays) -> Results:
    """``uint8_roundtrip``, ``mnist_<i>`` and ``celeba_<i>``; the noise is used up in this order."""
    noise = iter(given["in/noise"])
    digits = [
        images.iin_image(image[..., None], next(noise), config["mnist_size"]) for image in given["in/mnist_uint8"]
    ]
    faces = [
        images.iin_celeba(image, next(noise), config["celeba_size"], config["celeba_crop"])
        for image in given["in/celeba_uint8"]
    ]
    return {
        "uint8_roundtrip": images.to_u8(images.to_float(given["in/gray"])),
        **{f"mnist_{index}": image for index, image in enumerate(digits)},
        **{f"celeba_{index}": image for index, image in enumerate(faces)},
    }


def iin_cmnist_pairs(config: Mapping[str, Any], given: Arrays) -> Results:
    """The table of pairs, and the coloured images and factor of each index asked for."""
    table = pairs.coloured_test_pairs(given["in/class"], config["seed"])
    row = {int(place): index for index, place in enumerate(given["in/image_rows"])}
    noise = iter(given["in/noise"])
    results: Results = {
        "factor": table.factor,
        "same_idx": table.same,
        "other_idx": table.other,
        "color": table.colour,
    }
    for index, asked in enumerate(given["in/indices"]):
        pair = table[int(asked)]
        assert pair.colours is not None
        for side, (place, colour) in enumerate(zip((pair.first, pair.second), pair.colours, strict=True), 1):
            grey = given["in/images_uint8"][row[place]][..., None]
            image = images.iin_image(grey, next(noise), config["spatial_size"])
            results[f"ex{index}_image{side}"] = pairs.coloured(image, colour)
        results[f"ex{index}_factor"] = np.array(pair.factor)
    return results


def iin_celeba_pairs(config: Mapping[str, Any], given: Arrays, first: int = 400) -> Results:
    """The beginning of the table of pairs: ``subset_idx_first400``, ``factor_first400``, ``i2_first400``."""
    columns = pairs.attribute_columns(config.get("attributes", pairs.CELEBA_ATTRIBUTES))
    table = pairs.attribute_test_pairs(given["in/attributes"][:, columns], config.get("subset"), config["seed"])
    return {
        f"subset_idx_first{first}": table.subset[:first],
        f"factor_first{first}": table.factor[:first],
        f"i2_first{first}": table.second[:first],
        "attribute_indices": np.array(columns),
        "n_factors": np.array(len(columns) + 1),
        "residual_index": np.array(len(columns)),
    }


def invariances_crops(config: Mapping[str, Any], given: Arrays) -> Results:
    """``crop_<name>`` (uint8) of each ``in/raw_<name>``, and all of them as a batch ``x`` (B, 3, H, W) in [-1, 1]."""
    raw = {key.removeprefix("in/raw_"): value for key, value in given.items() if key.startswith("in/raw_")}
    size = config["size"]
    crops = {
        f"crop_{name}": images.centre_crop(images.resize_smallest(image, size), size) for name, image in raw.items()
    }
    batch = torch.stack([images.nchw(images.smallest_centre(image, size)) for image in raw.values()])
    return {**crops, "x": batch.numpy()}
