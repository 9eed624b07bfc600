"""The published tables: costs can be worked out again, runs fill the others, a set has no distance from itself."""

import pytest
import torch

from zoo.metrics.frechet import frechet_distance, moments
from zoo.net2net import cost


def test_the_cost_table_is_recomputed_to_the_cent() -> None:
    assert cost.cost_table() == cost.PRINTED


def test_a_table_takes_further_columns() -> None:
    filled = cost.beside(cost.ATTRIBUTES, {"age": {"here": 12.5}})
    assert filled["age"] == {"ours": 10.77, "StarGAN": 21.77, "here": 12.5} and filled["hair"]["here"] is None
    assert cost.beside(cost.LAYERS, {})["last"] == {"cINN": 27.6, "MLP": 264.0}
    for measured in ({"nose": {"here": 1.0}}, {"age": {"ours": 1.0}}):
        with pytest.raises(ValueError, match="expected rows among hair"):
            cost.beside(cost.ATTRIBUTES, measured)


def test_the_distance_of_a_set_to_itself_is_nought() -> None:
    features = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    assert abs(frechet_distance(moments(features), moments(features))) < 1e-6
    assert frechet_distance(moments(features), moments(features + 0.5)) == pytest.approx(4.0, abs=1e-5)
