"""InvertibleLinear: one matrix in four parameterisations."""

import pytest
import torch

from flowkit.bijections import Inverse, InvertibleConv1x1, InvertibleLinear

FORMS = ["dense", "lu", "qr", "soft_permutation"]
every_form = pytest.mark.parametrize("form", FORMS)


def matrix_of(layer: InvertibleLinear) -> torch.Tensor:
    """W, from what the layer does to the unit vectors."""
    return layer(torch.eye(layer.channels, dtype=torch.float64))[0].mT


@every_form
@pytest.mark.parametrize("channels", [1, 2, 7])
def test_starts_as_a_random_rotation(form: str, channels: int) -> None:
    layer = InvertibleLinear(channels, parameterization=form).double()
    weight = matrix_of(layer)
    torch.testing.assert_close(weight @ weight.mT, torch.eye(channels, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(layer(torch.zeros(1, channels))[1], torch.zeros(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS[:3])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_takes_any_invertible_weight(form: str, channels: int) -> None:
    weight = torch.randn(channels, channels, dtype=torch.float64)
    for given in (weight, -torch.eye(channels, dtype=torch.float64), torch.eye(channels, dtype=torch.float64).flip(0)):
        layer = InvertibleConv1x1(channels, parameterization=form, weight=given)
        torch.testing.assert_close(matrix_of(layer), given, atol=1e-12, rtol=0)
        x = torch.randn(2, channels, 3, 5, dtype=torch.float64)
        y, logdet = layer(x)
        torch.testing.assert_close(y, torch.einsum("ij,bjhw->bihw", given, x))
        torch.testing.assert_close(logdet, (15 * torch.linalg.slogdet(given).logabsdet).expand(2))


def test_takes_an_orthogonal_weight_as_soft_permutation() -> None:
    weight = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    layer = InvertibleLinear(5, parameterization="soft_permutation", weight=weight)
    torch.testing.assert_close(matrix_of(layer), weight)
    assert not list(layer.parameters())


@every_form
def test_gradients_of_the_parameters_in_both_directions(form: str) -> None:
    layer = InvertibleLinear(3, parameterization=form, bias=True).double()
    x = torch.randn(2, 3, 2, dtype=torch.float64)
    named = {name: p + 0.1 * torch.randn_like(p) for name, p in layer.named_parameters()}
    values = tuple(p.detach().requires_grad_() for p in named.values())

    def forward(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.func.functional_call(layer, dict(zip(named, values, strict=True)), (x,))

    def inverse(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = dict(zip(["bijection." + name for name in named], values, strict=True))
        return torch.func.functional_call(Inverse(layer), tensors, (x,))

    for direction in (forward, inverse):
        assert torch.autograd.gradcheck(direction, values, fast_mode=True)
        assert torch.autograd.gradgradcheck(direction, values, fast_mode=True)


@every_form
def test_float32_round_trip_of_an_ill_conditioned_matrix_is_as_good_as_float32_allows(form: str) -> None:
    if form == "soft_permutation":
        weight = torch.linalg.qr(torch.randn(16, 16)).Q
    else:
        u, v = (torch.linalg.qr(torch.randn(16, 16)).Q for _ in range(2))
        weight = u @ torch.logspace(0, -2, 16).diag() @ v
    layer = InvertibleLinear(16, parameterization=form, weight=weight)
    x = torch.randn(64, 16)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, atol=2e-4, rtol=0)


def test_lu_and_qr_keep_what_glow_keeps_fixed() -> None:
    def fixed(form: str) -> set[str]:
        layer = InvertibleLinear(3, parameterization=form)
        return layer.state_dict().keys() - dict(layer.named_parameters()).keys()

    assert fixed("lu") == {"matrix.rows", "matrix.sign"}
    assert fixed("qr") == {"matrix.sign"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_soft_permutation_that_is_orthogonal_only_to_rounding_is_exact_all_the_same(dtype: torch.dtype) -> None:
    weight = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    stored = InvertibleLinear(8, parameterization="soft_permutation", weight=weight).to(dtype).double()
    bent = InvertibleLinear(8, parameterization="soft_permutation", weight=weight * (1 + 1e-3))
    x = torch.randn(4, 8, 3, dtype=torch.float64)
    for layer in (stored, bent):
        y, logdet = layer(x)
        back, inverse_logdet = layer.inverse(y)
        torch.testing.assert_close(back, x, atol=1e-12, rtol=0)
        expected = 3 * torch.linalg.slogdet(matrix_of(layer)).logabsdet
        torch.testing.assert_close(logdet, expected.expand(4), atol=1e-12, rtol=0)
        torch.testing.assert_close(inverse_logdet, -logdet)
    torch.testing.assert_close(bent(x)[1], (24 * torch.tensor(1.001, dtype=torch.float64).log()).expand(4))
    fresh = InvertibleLinear(8, parameterization="soft_permutation").double()
    fresh.load_state_dict(stored.state_dict())
    torch.testing.assert_close(fresh(x), stored(x))
