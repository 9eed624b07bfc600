"""Grids of images and curves as PNG files."""

import pytest
import torch
from matplotlib.image import imread

from zoo import pictures


def test_grid_shows_every_pixel_scaled(tmp_path):
    images = torch.rand(2, 3, 3, 4, 5) * 2 - 1
    pictures.grid(images, tmp_path / "new" / "grid.png", scale=2)
    drawn = torch.tensor(imread(tmp_path / "new" / "grid.png"))[..., :3]
    corner = drawn[12 + 8 + 4 : 12 + 8 + 4 + 8, 12 : 12 + 10][::2, ::2]  # the first image of the second row
    assert torch.allclose(corner.permute(2, 0, 1), (images[1, 0] + 1) / 2, atol=1 / 255)


def test_grid_takes_labels_grey_images_and_rows_of_unequal_length(tmp_path):
    rows = [[torch.zeros(1, 8, 8)] * 2, [torch.zeros(3, 8, 8)]]
    pictures.grid(rows, tmp_path / "a.png", rows=["a", "b"], columns=["c", "d"], title="t")
    assert imread(tmp_path / "a.png").shape[1] > 2 * 64


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(0, 1, 3, 4, 4), None, "at least one"),
        (torch.zeros(1, 1, 2, 4, 4), None, "expected \\(1 or 3"),
        (torch.full((1, 1, 1, 4, 4), float("nan")), None, "finite"),
        (torch.zeros(1, 1, 1, 4, 4), ["a", "b"], "expected 1 labels, got 2"),
    ],
)
def test_grid_refuses_what_it_cannot_draw(images, labels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pictures.grid(images, tmp_path / "a.png", rows=labels)


def test_curve(tmp_path):
    pictures.curve({"train": [3.0, 2.0], "validation": [(2.0, 2.5)]}, tmp_path / "c.png", levels={"Gaussian": 2.2})
    assert (tmp_path / "c.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="at least one value"):
        pictures.curve({"train": []}, tmp_path / "d.png")
