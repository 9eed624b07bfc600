"""The published tables: costs can be worked out again, runs fill the others, a set has no distance from itself."""

import pytest
import torch

from zoo.metrics.frechet import frechet_distance, moments
from zoo.net2net import cost


def test_the_cost_table_is_recomputed_to_the_cent() -> None:
    assert cost.cost_table() == cost.PRINTED


def test_runs_fill_the_tables() -> None:
    filled = cost.beside(cost.ATTRIBUTES, "ours", {"age": 12.5})
    assert filled["age"] == {"ours": 10.77, "measured": 12.5} and filled["hair"]["measured"] is None
    assert cost.beside(cost.LAYERS, "cINN", {})["last"] == {"cINN": 27.6, "measured": None}
    for column, measured in (("ours", {"nose": 1.0}), ("IS", {})):
        with pytest.raises(ValueError, match="expected rows among hair"):
            cost.beside(cost.ATTRIBUTES, column, measured)


def test_the_distance_of_a_set_to_itself_is_nought() -> None:
    features = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    assert abs(frechet_distance(moments(features), moments(features))) < 1e-6
    assert frechet_distance(moments(features), moments(features + 0.5)) == pytest.approx(4.0, abs=1e-5)
