"""The IIN's losses, dimension estimation and edits, against plain statements of what they are."""

import math
import subprocess
import sys

import pytest
import torch

from zoo.iin import dims, edits, losses


def test_factor_loss_is_the_gaussian_of_the_pair() -> None:
    """It differs from -log N(pair; 0, covariance) by constants of the sizes and rho alone."""
    torch.manual_seed(0)
    sizes, rho, factor = [2, 3], 0.9, torch.tensor([0, 1, 1, 0])
    first, second = ([torch.randn(4, n, dtype=torch.double) for n in sizes] for _ in range(2))
    nothing = torch.zeros(4, dtype=torch.double)
    exact = torch.zeros((), dtype=torch.double)
    for k, n in enumerate(sizes):
        for row in range(4):
            shared = rho if factor[row] == k else 0.0
            covariance = torch.eye(2 * n, dtype=torch.double)
            covariance[:n, n:] = covariance[n:, :n] = shared * torch.eye(n, dtype=torch.double)
            pair = torch.cat([first[k][row], second[k][row]])
            density = torch.distributions.MultivariateNormal(torch.zeros_like(pair), covariance)
            constant = math.log(2 * math.pi) * n + 0.5 * torch.logdet(covariance)
            exact += (-density.log_prob(pair) - constant) / 4
    assert losses.factor(first, second, nothing, nothing, factor, rho).loss == pytest.approx(float(exact), abs=1e-9)


def test_mask_rule() -> None:
    factor = torch.tensor([0, 1, 2, -1, -2])
    masks = torch.stack([losses.shared(factor, k) for k in range(3)], 1)
    assert masks.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 0]]


def test_losses_stand_alone() -> None:
    """They are importable without the zoo's graphs, training or data, as the invariances paper needs them."""
    code = (
        "import sys; from zoo.iin.losses import unsupervised, factor; "
        "assert not {'lightning', 'zoo.iin.graph', 'zoo.training', 'zoo.data'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dims_of_a_latent_that_two_factors_share_equally() -> None:
    """Pairs that agree in one half of the variance score 1/2; the residual takes what rounding leaves."""
    torch.manual_seed(0)
    first, second = torch.randn(20_000, 8), torch.randn(20_000, 8)
    factor = torch.arange(20_000) % 2
    second[factor == 0, :4], second[factor == 1, 4:] = first[factor == 0, :4], first[factor == 1, 4:]
    found = dims.estimate(first, second, factor, 3)
    assert found.scores.tolist() == pytest.approx([0.5, 0.5, 1.0], abs=0.02)
    assert found.sizes == [2, 2, 4]


def test_dims_refuse_a_factor_without_pairs() -> None:
    with pytest.raises(ValueError, match="factor 1, got none among 4"):
        dims.estimate(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4), 3)


def test_swapping_twice_and_crossing_there_and_back_restore() -> None:
    torch.manual_seed(0)
    first, second = ([torch.randn(5, n) for n in (2, 3, 4)] for _ in range(2))
    factor = torch.tensor([0, 1, 2, -1, -2])
    a, b = edits.swap(first, second, factor), edits.swap(second, first, factor)
    for found, wanted in zip(edits.swap(a, b, factor), first, strict=True):
        assert torch.equal(found, wanted)
    crossed = edits.cross(first, second, 1)
    assert torch.equal(crossed[1], second[1]) and torch.equal(crossed[2], first[2])
    with pytest.raises(ValueError, match="0 to 2, got 3"):
        edits.cross(first, second, 3)


def test_walk_stays_standard_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    path = torch.stack(list(edits.walk(torch.full((50, 4), 3.0), 400, 0.9, generator)))
    assert torch.equal(path[0], torch.full((50, 4), 3.0))
    late = path[100:].flatten()
    assert float(late.mean()) == pytest.approx(0, abs=0.03) and float(late.std()) == pytest.approx(1, abs=0.03)
    correlation = (path[101:] * path[100:-1]).mean()
    assert float(correlation) == pytest.approx(0.9, abs=0.05)


def test_interpolation_keeps_its_ends() -> None:
    line = edits.interpolate(torch.zeros(2, 3), torch.ones(2, 3), 5)
    assert line[:, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
