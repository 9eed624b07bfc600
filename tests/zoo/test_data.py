"""The digits are split once and for all by the seed, every class alike."""

import pytest
import torch

from zoo.data.digits import augment, digits
from zoo.training.batches import Batches, mixed


def test_the_split_is_fixed_by_the_seed_and_covers_every_image_once() -> None:
    parts, again, other = digits(3), digits(3), digits(4)
    assert sorted(len(part) for part in parts.values()) == [179, 359, 1259]
    for name, part in parts.items():
        assert torch.equal(part.images, again[name].images) and torch.equal(part.labels, again[name].labels)
    assert not torch.equal(parts["test"].images, other["test"].images)
    ours, theirs = (torch.cat([part.images for part in split.values()]).flatten(1) for split in (parts, other))
    assert torch.equal(ours.unique(dim=0), theirs.unique(dim=0))
    assert -1 == ours.min() and ours.max() == 1


@pytest.mark.parametrize("name, share", [("train", 0.7), ("validation", 0.1), ("test", 0.2)])
def test_every_class_has_its_share_in_every_part(name: str, share: float) -> None:
    parts = digits()
    counts = {part: torch.bincount(split.labels, minlength=10) for part, split in parts.items()}
    torch.testing.assert_close(counts[name] / sum(counts.values()), torch.full((10,), share), atol=0.01, rtol=0)


def test_augmentation_keeps_range_and_ink_and_does_nothing_at_strength_zero() -> None:
    images = digits()["validation"].images
    changed = augment(images, 1.0, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and changed.abs().max() <= 1
    assert 0 < (changed - images).abs().mean() < 0.2
    torch.testing.assert_close(changed.mean(), images.mean(), atol=0.02, rtol=0)
    assert augment(images, 0.0) is images


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    numbers = torch.arange(10)
    batches = Batches(numbers, numbers * 2, size=3, seed=1)
    first = list(batches)
    assert len(batches) == len(first) == 3
    assert all(torch.equal(b, 2 * a) for a, b in first)
    batches.epoch = 1
    second = list(batches)
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    batches.epoch = 0
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, batches, strict=True))
    with pytest.raises(ValueError, match="size: expected 1 to 10"):
        Batches(numbers, size=11, seed=0)
    assert len({mixed(a, b) for a in range(20) for b in range(20)}) == 400
