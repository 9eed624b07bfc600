"""Splines and mixtures of logistics at their limits: knots, edges, far outside, extreme parameters, float32."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flowkit import ops
from flowkit.ops.rational_quadratic import PRESETS, parameters

INF, NAN = math.inf, math.nan
Coupling = Callable[..., tuple[Tensor, Tensor]]


def spline(inverse: bool, x: Tensor, params: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """One channel of splines and its log-derivatives, an element a sample."""
    call: Coupling = ops.rational_quadratic_coupling_inverse if inverse else ops.rational_quadratic_coupling
    return call(x.reshape(-1, 1), params.expand(x.numel(), -1), begin=0, **options)


def mixture(inverse: bool, x: Tensor, params: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    call: Coupling = ops.mixture_logistic_coupling_inverse if inverse else ops.mixture_logistic_coupling
    return call(x.reshape(-1, 1), params.expand(x.numel(), -1), begin=0, **options)


def each_preset() -> list[tuple[str, str]]:
    return [(preset, tails) for preset, chosen in PRESETS.items() for tails in chosen.tails]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("preset", "tails"), each_preset())
def test_every_input_has_a_result_and_finite_gradients(preset: str, tails: str, inverse: bool) -> None:
    bins = 8
    g = torch.Generator().manual_seed(0)
    count = parameters(bins, preset, tails)
    bound = PRESETS[preset].bound
    ordinary = torch.linspace(-1.5 * bound, 1.5 * bound, 40)
    special = torch.tensor([0.0, bound, -bound, math.nextafter(bound, 9), 1e4, -1e4, 1e18, -1e18])
    x = torch.cat([ordinary, special])
    for size in (1.0, 30.0, 1e4, 1e30):
        params = (size * torch.randn(len(x), count, generator=g)).requires_grad_()
        live = x.clone().requires_grad_()
        y, logdet = spline(inverse, live, params, bins=bins, preset=preset, tails=tails)
        assert torch.isfinite(y).all() and torch.isfinite(logdet).all()
        for grad in torch.autograd.grad(y.sum() + logdet.sum(), (live, params)):
            assert torch.isfinite(grad).all()
    y, logdet = spline(inverse, torch.tensor([INF, -INF]), torch.zeros(count), bins=bins, preset=preset, tails=tails)
    assert y.flatten().tolist() == [INF, -INF] and torch.isfinite(logdet).all()


def test_nan_and_infinite_parameters_stay_in_their_element() -> None:
    count = parameters(8)
    x, params = torch.zeros(6), torch.zeros(6, count)
    params[1, 3], params[2, 9], params[3, 20], params[4, 0] = INF, -INF, INF, NAN
    x[5] = NAN
    for inverse in (False, True):
        y, logdet = spline(inverse, x, params, bins=8)
        assert torch.isfinite(y[:4]).all() and torch.isfinite(logdet[:4]).all()
        assert torch.isnan(y[4:]).all() and torch.isnan(logdet[4:]).all()


@pytest.mark.parametrize("bins", [8, 32])
@pytest.mark.parametrize(("preset", "tails"), each_preset())
def test_round_trip_in_float32(preset: str, tails: str, bins: int) -> None:
    """Raw parameters of deviation 0.8 lose no more than the slope of the inverse makes of one rounding."""
    g = torch.Generator().manual_seed(1)
    x = 2.5 * torch.randn(4000, generator=g)
    params = 0.8 * torch.randn(4000, parameters(bins, preset, tails), generator=g)
    y, logdet = spline(False, x, params, bins=bins, preset=preset, tails=tails)
    back, logdet_back = spline(True, y, params, bins=bins, preset=preset, tails=tails)
    # An error of y is stretched by the slope of the inverse.
    stretch = torch.exp(-logdet).clamp(min=1)
    assert ((back.flatten() - x).abs() / stretch).max() < 4e-6
    assert (back.flatten() - x).abs().max() < 5e-4
    assert (logdet + logdet_back).abs().median() < 1e-6


def test_slopes_continue_over_knots_and_edges() -> None:
    params = torch.randn(parameters(5, tails="interval"), dtype=torch.float64)
    options: dict[str, object] = {"bins": 5, "tails": "interval", "bound": (-1.0, 2.0, 0.0, 4.0)}
    x = torch.linspace(-2, 3, 20001, dtype=torch.float64)
    y, logdet = spline(False, x, params, **options)
    slopes = torch.diff(y.flatten()) / torch.diff(x)
    middle = torch.exp(0.5 * (logdet[1:] + logdet[:-1]))
    torch.testing.assert_close(slopes, middle, rtol=1e-2, atol=1e-3)
    assert (torch.diff(y.flatten()) > 0).all()
    edges, _ = spline(False, torch.tensor([-1.0, 2.0], dtype=torch.float64), params, **options)
    torch.testing.assert_close(edges.flatten(), torch.tensor([0.0, 4.0], dtype=torch.float64))


def test_identity_outside_of_the_box_is_exact() -> None:
    x = torch.tensor([-7.3, 3.1, 1e4, -1e4])
    for inverse in (False, True):
        y, logdet = spline(inverse, x, torch.randn(parameters(8)), bins=8)
        assert torch.equal(y.flatten(), x) and (logdet == 0).all()


def test_circular_splines_commute_with_whole_turns() -> None:
    params = torch.randn(parameters(6, tails="circular"), dtype=torch.float64)
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    options: dict[str, object] = {"bins": 6, "tails": "circular", "bound": math.pi}
    for inverse in (False, True):
        y, logdet = spline(inverse, x, params, **options)
        z, logdet_z = spline(inverse, x + 4 * math.pi, params, **options)
        torch.testing.assert_close(z - 4 * math.pi, y)
        torch.testing.assert_close(logdet_z, logdet)


def test_zero_parameters_are_the_identity() -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    for preset in ("nflows_identity", "zuko", "freia", "freia_identity"):
        y, logdet = spline(False, x, torch.zeros(parameters(8, preset), dtype=torch.float64), bins=8, preset=preset)
        torch.testing.assert_close(y.flatten(), x, rtol=0, atol=1e-5)
        torch.testing.assert_close(logdet, torch.zeros_like(logdet), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "tfp"}, "preset must be"),
        ({"tails": "affine"}, "tails of preset"),
        ({"bound": (1.0, 0.0, 0.0, 1.0)}, "bound must be"),
        ({"bins": 0}, "bins must be"),
        ({"min_size": 0.2}, "min_size must be"),
        ({"min_slope": 0.0}, "min_slope must be"),
        ({"bins": 9}, "params must be"),
    ],
)
def test_spline_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.rational_quadratic_coupling(torch.zeros(2, 4), torch.zeros(2, 46), begin=2, **{"bins": 8, **options})


@pytest.mark.parametrize("components", [1, 4])
def test_mixtures_invert_their_own_values_in_float32(components: int) -> None:
    g = torch.Generator().manual_seed(2)
    x = 3 * torch.randn(4000, generator=g)
    params = torch.randn(4000, 3 * components + 2, generator=g)
    y, logdet = mixture(False, x, params, components=components, bound=2.0)
    back, logdet_back = mixture(True, y, params, components=components, bound=2.0)
    again, _ = mixture(False, back.flatten(), params, components=components, bound=2.0)
    scale = torch.exp(-logdet).clamp(min=1) * y.flatten().abs().clamp(min=1)
    assert ((back.flatten() - x).abs() / scale).max() < 1e-5
    assert ((again - y).abs() / y.abs().clamp(min=1)).max() < 1e-5
    assert (logdet + logdet_back).abs().median() < 1e-6


@pytest.mark.parametrize("inverse", [False, True])
def test_mixtures_are_defined_far_in_their_tails(inverse: bool) -> None:
    x = torch.tensor([0.0, 30.0, -30.0, 1e4, -1e4, 1e17, -1e17, INF, -INF])
    g = torch.Generator().manual_seed(3)
    for size in (1.0, 30.0, 1e4):
        params = (size * torch.randn(len(x), 14, generator=g)).requires_grad_()
        live = x.clone().requires_grad_()
        y, logdet = mixture(inverse, live, params, components=4, bound=1.0)
        assert torch.isfinite(y).all() and torch.isfinite(logdet).all()
        for grad in torch.autograd.grad(y.sum() + logdet.sum(), (live, params)):
            assert torch.isfinite(grad).all()
    y, logdet = mixture(inverse, torch.tensor([0.0, NAN]), torch.zeros(14), components=4)
    assert torch.isfinite(y[0]).all() and torch.isnan(y[1]).all() and torch.isnan(logdet[1])


def test_one_logistic_is_an_affine_map() -> None:
    """logit(sigmoid((x - mu) / s)) exp(a) + b, also where the sigmoid is 0 or 1 to the last digit."""
    a, b, mu, log_s = 0.3, -1.0, 0.7, -0.4
    x = torch.tensor([-1e3, -40.0, -1.0, 0.0, 2.0, 60.0, 1e3], dtype=torch.float64)
    params = torch.tensor([a, b, 5.0, mu, log_s], dtype=torch.float64)
    y, logdet = mixture(False, x, params, components=1)
    torch.testing.assert_close(y.flatten(), (x - mu) * math.exp(a - log_s) + b)
    torch.testing.assert_close(logdet, torch.full_like(logdet, a - log_s))


def test_narrow_and_wide_components_together_are_inverted() -> None:
    """Newton's method alone would run away between a step of width 1e-3 and a plateau."""
    params = torch.tensor([0.0, 0.0, 0.0, 0.0, -5.0, 5.0, -7.0, -7.0], dtype=torch.float64)
    y = torch.linspace(-8, 8, 201, dtype=torch.float64)
    x, logdet = mixture(True, y, params, components=2)
    again, logdet_again = mixture(False, x.flatten(), params, components=2)
    torch.testing.assert_close(again.flatten(), y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logdet_again, -logdet)


@pytest.mark.parametrize("preset, box", [("nflows", (-1.0, 1.0, 0.0, 3.0)), ("freia_identity", (-1.0, 1.0, 0.0, 2.0))])
def test_identity_tails_refuse_a_box_that_they_do_not_meet(preset: str, box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="bound must be a box"):
        ops.rational_quadratic_coupling(
            torch.zeros(2, 1), torch.zeros(2, 11), begin=0, bins=4, preset=preset, bound=box
        )
