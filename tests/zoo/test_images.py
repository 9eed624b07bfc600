"""Resize, crop, dequantisation and pairs equal the numbers of the original code; their laws hold beside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import images, pairs, parity

FIXTURES = Path(__file__).parents[1] / "parity" / "fixtures"
PARITY: dict[str, Callable[..., parity.Results]] = {
    "net2net_preprocess": parity.net2net_preprocess,
    "iin_preprocess": parity.iin_preprocess,
    "iin_cmnist_pairs": parity.iin_cmnist_pairs,
    "iin_celeba_pairs": parity.iin_celeba_pairs,
    "invariances_preprocess_attack": parity.invariances_crops,
}


@pytest.mark.parametrize("name", PARITY)
def test_the_original_code_gives_exactly_the_same(name: str) -> None:
    with np.load(FIXTURES / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    results = PARITY[name](json.loads(str(arrays["config"])), arrays)
    outputs = {key.removeprefix("out/") for key in arrays if key.startswith("out/")}
    if name == "invariances_preprocess_attack":
        outputs &= {"crop_a", "crop_b", "x"}
    assert results.keys() == outputs
    for key, value in results.items():
        np.testing.assert_array_equal(value, arrays[f"out/{key}"], err_msg=key)


def noise(*shape: int, seed: int = 0) -> images.U8:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_resizing_is_bilinear_to_the_grey_level(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    image = noise(height, width, 3, seed=seed)
    resized = images.resize(image, rows, columns)
    exact = torch.nn.functional.interpolate(
        images.nchw(image).double()[None], (rows, columns), mode="bilinear", align_corners=False
    )[0]
    assert resized.shape == (rows, columns, 3) and resized.dtype == np.uint8
    assert np.abs(resized - exact.movedim(0, 2).numpy()).max() < 1.05
    np.testing.assert_array_equal(images.resize(image[..., 0], rows, columns), resized[..., 0])


def test_the_smaller_side_becomes_the_size_and_the_other_is_rounded() -> None:
    assert images.resize_smallest(noise(61, 83, 3), 32).shape == (32, 44, 3)
    assert images.resize_smallest(noise(83, 61), 128).shape == (174, 128)
    image = noise(28, 28)
    assert np.array_equal(images.resize_smallest(image, 28), image)


def test_crops_lie_in_the_middle_or_anywhere() -> None:
    image = np.arange(5 * 8, dtype=np.uint8).reshape(5, 8)
    assert np.array_equal(images.centre_crop(image, 2), image[1:3, 3:5])
    random = np.random.default_rng(0)
    corners = {int(images.random_crop(image, 4, random)[0, 0]) for _ in range(200)}
    assert corners == {8 * row + column for row in range(2) for column in range(5)}
    again = [images.random_crop(image, 4, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*again)
    with pytest.raises(ValueError, match=r"at least 6 x 6 pixels, got \(5, 8\)"):
        images.centre_crop(image, 6)


def test_celeba_is_cut_where_the_papers_cut_it() -> None:
    face = noise(218, 178, 3)
    assert np.array_equal(images.celeba(face, 160), face[29:189, 9:169])
    assert images.iin_celeba(face, 0.5).shape == (64, 64, 3)


def test_grey_levels_lose_one_in_95_of_256_and_dequantised_ones_stay_in_their_cell() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.count_nonzero(images.to_u8(images.to_float(levels)) != levels) == 95
    assert images.to_u8(np.array([-1.2, 1.2], np.float32)).tolist() == [0, 255]
    for share in (0.0, 0.3, 0.999):
        cell = (images.dequantise(levels, share).astype(np.float64) + 1) * 128
        np.testing.assert_allclose(cell, levels + share, atol=1e-4)


def test_the_condition_of_super_resolution_is_every_kth_pixel() -> None:
    x = torch.rand(2, 3, 24, 24)
    assert torch.equal(images.downsample(x, 3), x[..., ::8, ::8])


def test_what_is_no_image_is_named() -> None:
    with pytest.raises(ValueError, match="expected uint8, got float32"):
        images.to_float(np.zeros((2, 2), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(H, W, C\) or \(H, W\), got \(4,\)"):
        images.resize(noise(4), 2, 2)
    with pytest.raises(ValueError, match="at least 1, got 0 x 3"):
        images.resize(noise(4, 4), 0, 3)
    with pytest.raises(ValueError, match=r"at least 9, got \(8, 10\)"):
        images.downsample(torch.zeros(1, 3, 8, 10), 9)


def test_pairs_share_their_factor() -> None:
    labels = np.random.RandomState(0).randint(0, 4, 50)
    table, classes, random = pairs.coloured_test_pairs(labels), pairs.members(labels), np.random.RandomState(2)
    drawn = [pairs.coloured_pair(index, labels, classes, random) for index in range(50)]
    for given_pairs in ([table[index] for index in range(len(table))], drawn):
        assert {pair.factor for pair in given_pairs} == {0, 1}
        for pair in given_pairs:
            assert pair.colours is not None
            same_colour = np.array_equal(*pair.colours)
            assert same_colour if pair.factor == 1 else labels[pair.first] == labels[pair.second]
    assert any(labels[pair.first] != labels[pair.second] for pair in drawn if pair.factor == 1)
    assert any(not np.array_equal(*pair.colours) for pair in drawn if pair.factor == 0 and pair.colours)


def test_attribute_pairs_agree_in_the_attribute() -> None:
    attributes: Any = np.random.RandomState(0).choice([-1, 1], size=(60, 4)).astype(np.int8)
    table = pairs.attribute_test_pairs(attributes, count=200)
    agree = np.array([attributes[pair.first] == attributes[pair.second] for pair in (table[i] for i in range(200))])
    assert agree[np.arange(200), table.factor].all() and 0.4 < agree.mean() < 0.8
    with pytest.raises(ValueError, match="Hat unknown; CelebA has 5_o_Clock_Shadow"):
        pairs.attribute_columns(["Hat"])
