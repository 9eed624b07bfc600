"""What experiments are conditioned on or trained with: warps, latents of BigGAN, labels, small images."""

import numpy as np
import pytest
import torch

from zoo.data import zcodes
from zoo.data.images import downsample
from zoo.data.warp import control_grid, offsets, random_tps, spline, warp


def test_a_spline_goes_through_its_points_and_keeps_affine_maps() -> None:
    points = control_grid().double()
    values = torch.randn(2, 16, 2, dtype=torch.float64)
    torch.testing.assert_close(spline(points, values, points), values, atol=1e-9, rtol=0)
    linear, elsewhere = torch.randn(2, 2, dtype=torch.float64), torch.rand(50, 2, dtype=torch.float64)
    found = spline(points, (points @ linear + 0.3)[None], elsewhere)
    torch.testing.assert_close(found[0], elsewhere @ linear + 0.3, atol=1e-9, rtol=0)


def test_no_displacement_changes_nothing_and_the_border_stays() -> None:
    images = torch.rand(2, 3, 17, 13)
    torch.testing.assert_close(warp(images, torch.zeros(2, 16, 2)), images, atol=1e-5, rtol=0)
    moved = offsets(5, strength=2.0, generator=torch.Generator().manual_seed(0)).reshape(5, 4, 4, 2)
    assert moved[:, 0].abs().max() == moved[:, -1].abs().max() == moved[:, :, 0].abs().max() == 0
    assert 0.2 < moved[:, 1:3, 1:3].abs().max() <= 0.5
    warped = random_tps(images, generator=torch.Generator().manual_seed(0))
    assert (warped - images).abs().max() > 0.1
    for corner in (0, -1):
        torch.testing.assert_close(warped[..., corner, corner], images[..., corner, corner], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="square K"):
        warp(images, torch.zeros(2, 15, 2))


def test_a_displacement_to_the_right_fetches_what_is_right() -> None:
    images = torch.linspace(-1, 1, 33).expand(1, 1, 33, 33)
    displacements = torch.zeros(1, 4, 4, 2)
    displacements[..., 1:3, 1:3, 0] = 0.2
    assert float(warp(images, displacements.reshape(1, 16, 2))[0, 0, 16, 16]) > 0.15


def test_codes_are_truncated_and_reproducible() -> None:
    z, classes = zcodes.restricted_test_samples(300)
    assert z.shape == (300, 140) and np.abs(z).max() <= 2.5 and set(classes) <= set(zcodes.COCO)
    assert len(zcodes.COCO) == len(set(zcodes.COCO)) == 114
    assert abs(z.std() - 0.9546) < 0.01, "the deviation of N(0, 1) between -2.5 and 2.5"
    samples = zcodes.Training()
    first, again = (samples.draw(7, np.random.RandomState(3)) for _ in range(2))
    assert first["z"].shape == (140,) and np.array_equal(first["z"], again["z"]) and first["class"] in zcodes.COCO
    with pytest.raises(ValueError, match="positive"):
        zcodes.codes(np.random.RandomState(0), 3, truncation=0.0)


def test_the_condition_of_superresolution_is_every_eighth_pixel() -> None:
    x = torch.rand(2, 3, 256, 256)
    assert torch.equal(downsample(x, 32), x[..., ::8, ::8])
