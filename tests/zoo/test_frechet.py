"""Fréchet distances agree with the recorded one and with the closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.metrics import frechet
from zoo.parity import Fixture

FIXTURE = Path(__file__).parents[1] / "parity/fixtures/invariances_fid.npz"


def test_the_distance_is_the_authors() -> None:
    fixture = Fixture(FIXTURE)
    first, second = (frechet.moments(fixture[f"in/act_{name}"]) for name in "ab")
    assert np.allclose(first.mean, fixture["out/mu_a"].numpy(), rtol=1e-6)
    assert np.allclose(first.covariance, fixture["out/sigma_a"].numpy(), rtol=1e-6)
    assert frechet.frechet_distance(first, second) == pytest.approx(float(fixture["out/fid"]), rel=1e-6)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    first = frechet.Moments(np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    second = frechet.Moments(np.array([3.0, 1.0]), np.diag([1.0, 1.0]))
    assert frechet.frechet_distance(first, second) == pytest.approx(9 + 1 + 4)
    assert frechet.frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_features_that_never_vary_have_a_finite_distance() -> None:
    first, second = torch.randn(30, 4), torch.zeros(30, 4)
    distance = frechet.frechet_distance(frechet.moments(first), frechet.moments(second))
    assert np.isfinite(distance) and distance > 0


def test_sets_have_a_mean_and_a_deviation() -> None:
    torch.manual_seed(0)
    reference, sets = torch.randn(50, 3), [torch.randn(40, 3) for _ in range(3)]
    known = frechet.moments(reference)
    single = [frechet.frechet_distance(known, frechet.moments(features)) for features in sets]
    found = frechet.frechet_spread(reference, sets)
    assert found.mean == pytest.approx(np.mean(single)) and found.std == pytest.approx(np.std(single, ddof=1))
    assert frechet.frechet_spread(reference, sets[:1]).std == 0
    with pytest.raises(ValueError, match="one value or more"):
        frechet.frechet_spread(reference, [])


def test_bad_features_are_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        frechet.moments(torch.randn(1, 3))
    with pytest.raises(ValueError, match="one width"):
        frechet.frechet_distance(frechet.moments(torch.randn(5, 3)), frechet.moments(torch.randn(5, 2)))


def test_inception_says_what_is_missing() -> None:
    pytest.importorskip("torchmetrics")
    try:
        features = frechet.inception()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        assert "torch-fidelity" in str(error)
    else:
        assert features(torch.zeros(2, 3, 64, 64)).shape == (2, 2048)


def test_the_inception_score_counts_classes_that_are_told_apart() -> None:
    pytest.importorskip("torchmetrics")
    logits = 100 * torch.eye(5).repeat(8, 1)
    assert frechet.inception_score(logits, splits=1).mean == pytest.approx(5, abs=1e-4), "sure, and all five alike"
    assert frechet.inception_score(torch.zeros(40, 5)).mean == pytest.approx(1), "unsure"
    assert frechet.inception_score(logits[:1].expand(40, -1)).mean == pytest.approx(1), "always the same"
    with pytest.raises(ValueError, match="10 or more"):
        frechet.inception_score(logits[:9])
