"""Variance explained, sampling statistics and similarities agree with what is known in closed form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.invariances import analysis


@pytest.mark.parametrize("draws", [2, 5, 50])
def test_samples_that_do_not_depend_on_z_are_explained_by_v(draws: int) -> None:
    torch.manual_seed(0)
    explained = analysis.variance_explained(torch.randn(draws, 4000, 3))
    assert explained.by_z == pytest.approx(0, abs=0.02)


def test_samples_that_z_determines_are_explained_by_z() -> None:
    torch.manual_seed(0)
    explained = analysis.variance_explained(torch.randn(1, 50, 3).expand(4, -1, -1))
    assert explained.by_z == pytest.approx(1, abs=1e-12)


def test_the_share_of_z_is_that_of_its_variance() -> None:
    torch.manual_seed(0)
    z, v = torch.randn(1, 20_000, 2), torch.randn(3, 20_000, 2)
    assert analysis.variance_explained(3 * z + v).by_z == pytest.approx(0.9, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(2, 9), st.integers(1, 4), st.floats(0, 10))
def test_the_shares_add_up(draws: int, images: int, dim: int, weight: float) -> None:
    generator = torch.Generator().manual_seed(draws * 100 + images)
    samples = torch.randn(draws, images, dim, generator=generator)
    samples += weight * torch.randn(1, images, dim, generator=generator)
    explained = analysis.variance_explained(samples)
    assert explained.by_z + explained.by_v == pytest.approx(1, abs=1e-12)
    assert explained.by_v >= 0


def test_the_estimate_is_the_textbook_ratio_for_many_samples() -> None:
    torch.manual_seed(0)
    samples = torch.randn(400, 30, 5) + torch.randn(1, 30, 5)
    within = samples.var(0, correction=0).mean(0).sum()
    total = samples.flatten(0, 1).var(0, correction=0).sum()
    assert analysis.variance_explained(samples).by_v == pytest.approx(float(within / total), rel=0.03)


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        analysis.variance_explained(torch.randn(1, 5, 3))
    with pytest.raises(ValueError, match="some variance"):
        analysis.variance_explained(torch.ones(3, 5, 3))


def test_statistics_of_known_samples() -> None:
    images = torch.stack([torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)])
    found = analysis.statistics(images)
    assert torch.equal(found.mean, torch.full((2, 3, 4, 4), 0.5))
    assert found.spread == pytest.approx(0.5)


def test_pairwise_distance_is_the_mean_over_pairs() -> None:
    images = torch.tensor([0.0, 1.0, 3.0])[:, None, None, None, None]
    assert analysis.pairwise_distance(images) == pytest.approx((1 + 3 + 2) / 3)


def test_similarity_of_copies_is_one_and_random_pairs_are_pairs_of_different_images() -> None:
    z = torch.eye(6)
    found = analysis.similarity(*analysis.cosines(z, 2 * z[None].expand(3, -1, -1)))
    assert found.samples.mean == pytest.approx(1)
    assert found.samples.std == pytest.approx(0, abs=1e-6)
    assert found.random_pairs.mean == pytest.approx(0)
    with pytest.raises(ValueError, match="two images"):
        analysis.cosines(z[:1], z[None, :1])
