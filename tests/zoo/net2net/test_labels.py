"""Labels as conditions."""

import pytest
import torch

from zoo.experts.labels import Labelator, flipped


def test_one_hot_vectors_and_other_labels() -> None:
    labelator, labels = Labelator(3), torch.tensor([0, 2, 1])
    assert labelator(labels).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    many = torch.arange(3).repeat(400)
    others = labelator.other(many, torch.Generator().manual_seed(0))
    assert not (others == many).any()
    counts = torch.bincount(3 * many + others, minlength=9).reshape(3, 3)
    assert counts[~torch.eye(3, dtype=torch.bool)].min() > 150, "all others are equally likely"
    for wrong in (torch.tensor([3]), torch.tensor([-1]), torch.tensor([0.5])):
        with pytest.raises(ValueError, match=r"integers in 0\.\.2"):
            labelator(wrong)


def test_flipping_turns_over_one_attribute() -> None:
    attributes = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    assert flipped(attributes, 0).tolist() == [[1, 1], [0, 1]] and attributes[0, 0] == 0
    with pytest.raises(ValueError, match=r"0\.\.1, got 2"):
        flipped(attributes, 2)
