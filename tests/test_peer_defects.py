"""Defects found in other libraries of normalizing flows, each as a test that flowkit does not have it."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from flowkit import nets, reversible
from flowkit.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    EmergingConv,
    Haar,
    InvertibleLinear,
    LeakyReLU,
    Squeeze,
)
from flowkit.ops import rational_quadratic
from tests.bijections.cases import CASES, Case

NET = nets.mlp(hidden=8, depth=1)


def initialised(layer: Bijection) -> Bijection:
    """The layer with parameters off their initial values, its actnorms done with their first batch."""
    for module in layer.modules():
        if isinstance(module, ActNorm):
            module.initialized.fill_(True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return layer


def test_the_inverse_of_haar_leaves_its_input_alone() -> None:
    """FrEIA: HaarDownsampling in reverse scales its input in place."""
    y = torch.randn(2, 8, 3, 3)
    before = y.clone()
    Haar(rebalance=0.5).inverse(y)
    assert torch.equal(y, before)


def test_a_hard_permutation_may_be_held_as_householder_reflections() -> None:
    """FrEIA (git): AllInOneBlock with a hard permutation and Householder reflections raises UnboundLocalError."""
    permutation = torch.eye(4)[[2, 0, 3, 1]]
    layer = InvertibleLinear(4, parameterization="qr", weight=permutation)
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x)[0], x[:, [2, 0, 3, 1]])
    torch.testing.assert_close(layer.inverse(x)[0][:, [2, 0, 3, 1]], x)


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 2, 6), (4, 2, 1, 2)])
@pytest.mark.parametrize(
    "make", [LeakyReLU, lambda: ActNorm(4), lambda: AffineCoupling(4, NET), lambda: InvertibleLinear(4)]
)
def test_logdets_of_images_are_a_number_a_sample(make, shape: tuple[int, ...]) -> None:
    """FrEIA: InvertibleSigmoid's log-det keeps the pixels, Haar's is a float; normflows: some are ()."""
    layer = initialised(make())
    x = torch.randn(3, *shape)
    assert layer(x)[1].shape == layer.inverse(x)[1].shape == (3,)


@pytest.mark.parametrize("log_scale", [True, False])
def test_the_logdet_of_an_elementwise_scaling_changes_sign_with_the_direction(log_scale: bool) -> None:
    """FrEIA: LearnedElementwiseScaling gives the forward log-det in both directions."""
    layer = ActNorm(2, log_scale=log_scale).eval()
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([3.0, 0.5]).log() if log_scale else torch.tensor([3.0, 0.5]))
    x = torch.randn(2, 2, 5)
    expected = torch.full((2,), 5 * math.log(1.5))
    torch.testing.assert_close((layer(x)[1], layer.inverse(x)[1]), (expected, -expected))


@pytest.mark.parametrize("order", ["channel", "space"])
@pytest.mark.parametrize("factor, sizes", [(3, (6, 9)), (3, (6,)), (5, (5, 10)), (3, (3, 6, 3))])
def test_any_factor_squeezes_and_unsqueezes(factor: int, sizes: tuple[int, ...], order: str) -> None:
    """nflows: the inverse squeeze asks for a multiple of 4 channels whatever the factor."""
    layer = Squeeze(factor, order)
    x = torch.randn(2, 1, *sizes)
    y, _ = layer(x)
    assert y.shape[1] == factor ** len(sizes)
    assert torch.equal(layer.inverse(y)[0], x)


def test_a_dense_linear_map_works() -> None:
    """nflows: NaiveLinear calls functions of torch that are gone."""
    layer = InvertibleLinear(5, parameterization="dense", bias=True).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    y, logdet = layer(x)
    back, inverse_logdet = layer.inverse(y)
    torch.testing.assert_close((back, inverse_logdet), (x, -logdet))


BINS = 8


def spline(x: Tensor, preset: str, tails: str, scale: float = 0.8, **options: Any) -> tuple[Any, Any]:
    """Both directions of random splines, one for each element of x (B, C)."""
    options |= {"begin": 0, "bins": BINS, "preset": preset, "tails": tails}
    params = scale * torch.randn(len(x), x.shape[1] * rational_quadratic.parameters(BINS, preset, tails))
    return (
        lambda v: rational_quadratic.rational_quadratic_coupling(v, params, **options),
        lambda v: rational_quadratic.rational_quadratic_coupling_inverse(v, params, **options),
    )


SPLINES = [("nflows", "identity"), ("nflows", "interval"), ("zuko", "identity"), ("nflows", "circular")]


@pytest.mark.parametrize("preset, tails", SPLINES)
def test_splines_take_back_values_at_their_border(preset: str, tails: str) -> None:
    """nflows: a value at the border raises InputOutsideDomain once rounding has moved it, after a round trip."""
    bound = 3.0
    edge = torch.tensor([-bound, bound])
    near = torch.cat([edge, torch.nextafter(edge, torch.zeros(2)), torch.nextafter(edge, 9 * edge)])
    x = near[torch.randint(6, (256, 4))]
    forward, inverse = spline(x, preset, tails, bound=bound)
    y, _ = forward(x)
    for moved in (y, torch.nextafter(y, 9 * y)):
        assert inverse(moved)[0].isfinite().all() and inverse(moved)[1].isfinite().all()
    error = (inverse(y)[0] - x).abs()
    error = torch.minimum(error, (2 * bound - error).abs()) if tails == "circular" else error  # both ends are one point
    assert error.max() < 1e-4


def test_the_inverse_of_a_spline_looks_at_its_range() -> None:
    """nflows: the inverse compares its input with left and right, not with bottom and top."""
    x = 2 * torch.rand(64, 3) - 1
    forward, inverse = spline(x, "nflows", "interval", bound=(-1.0, 1.0, 20.0, 60.0))
    y, _ = forward(x)
    assert y.min() >= 20 and y.max() <= 60
    torch.testing.assert_close(inverse(y)[0], x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", ["nflows", "zuko"])
def test_linear_tails_keep_what_lies_outside(preset: str) -> None:
    """normflows: with a list of tails, out-of-range values of the linear dimensions become zero."""
    x = torch.tensor([[-1e6, -7.0, 7.0, 1e6]]).repeat(8, 1)
    for direction in spline(x, preset, "identity"):
        y, logdet = direction(x)
        assert torch.equal(y, x) and torch.equal(logdet, torch.zeros(8))


@pytest.mark.parametrize("preset, tails", [*SPLINES, ("freia", "affine"), ("freia_identity", "identity")])
def test_splines_invert_in_float32_with_uneven_parameters(preset: str, tails: str) -> None:
    """nflows: round trips are off by 0.05 to 0.17 with raw parameters of deviation 0.8; FrEIA: identity tails do not
    invert in practice."""
    x = 2 * torch.randn(512, 8)
    forward, inverse = spline(x, preset, tails)
    torch.testing.assert_close(inverse(forward(x)[0])[0], x, atol=2e-3, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_layers_allocate_on_the_device_of_their_input(case: Case) -> None:
    """normflows: LinearCache and composites allocate on the CPU; nflows: LeakyReLU's mask is a CPU tensor."""
    layer = initialised(case.make()).eval().to("meta")
    condition = None if case.condition is None else torch.empty(2, *case.condition, device="meta")
    x = torch.empty(2, *case.shapes[-1], device="meta")
    y, logdet = layer(x, condition)
    back, inverse_logdet = layer.inverse(y, condition)
    assert all(t.is_meta for t in (y, logdet, back, inverse_logdet)) and back.shape == x.shape


def test_reversible_layers_know_autograd_grad_and_any_number_of_backward_passes() -> None:
    """MemCNN: no log-det, torch.autograd.grad is refused, and the number of backward passes is declared beforehand."""

    layer = initialised(Compose(ActNorm(4), AffineCoupling(4, NET, permutation="swap"), EmergingConv(4, [3])))
    walked, x = reversible(copy.deepcopy(layer)), torch.randn(3, 4, 5)

    def gradients(module: Bijection) -> tuple[Tensor, ...]:
        leaf = x.clone().requires_grad_()
        y, logdet = module(leaf)
        return torch.autograd.grad(y.square().sum() + logdet.sum(), [leaf, *module.parameters()])

    for _ in range(3):
        torch.testing.assert_close(gradients(walked), gradients(layer), rtol=1e-4, atol=1e-4)


def test_the_inverse_of_a_convolution_takes_any_image_and_keeps_no_patches() -> None:
    """FInCFlow: square images only, no gradient of the inverse; Inverse-Flow: its backward unfolds every patch."""
    layer = EmergingConv(4)
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.data_ptr()] = t.numel()
        return t

    y = torch.randn(2, 4, 7, 12).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        x, _ = layer.inverse(y)
    assert sum(kept.values()) < 4 * y.numel()  # two solutions, and small weights; patches would be 9 times as many
    (grad,) = torch.autograd.grad(x.square().sum(), y)
    step = torch.randn_like(y)
    slope = (layer.inverse(y + 1e-3 * step)[0].square().sum() - layer.inverse(y - 1e-3 * step)[0].square().sum()) / 2e-3
    torch.testing.assert_close((grad * step).sum(), slope, rtol=1e-2, atol=1e-1)
