"""Invertible convolutions against the matrices that they are."""

import math

import pytest
import torch
from torch import Tensor

from flowkit import ops
from flowkit.bijections import (
    AutoregressiveConv,
    Bijection,
    Compose,
    EmergingConv,
    Inverse,
    InvertibleConv1x1,
    PeriodicConv,
    WoodburyTransform,
)
from flowkit.ops import masked_conv


@pytest.fixture(autouse=True)
def float64() -> None:
    torch.set_default_dtype(torch.float64)


def randomised(layer: Bijection, by: float = 0.2) -> Bijection:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return layer


def matrix_of(layer: Bijection, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear layer, from what it does to the unit vectors."""
    n = math.prod(shape)
    return layer(torch.eye(n).reshape(n, *shape))[0].detach().flatten(1).mT


LAYERS = [
    (lambda: AutoregressiveConv(3, 1), (3, 2, 3)),
    (lambda: AutoregressiveConv(2, [3, 7], dilation=[2, 1]), (2, 4, 3)),
    (lambda: AutoregressiveConv(2, 3, dilation=3, reverse=True), (2, 5, 6)),
    (lambda: AutoregressiveConv(2, [1, 5], reverse=True), (2, 3, 4)),
    (lambda: AutoregressiveConv(2, [5, 1]), (2, 6, 1)),
    (lambda: AutoregressiveConv(2, [3, 3, 5], reverse=True), (2, 3, 2, 3)),
    (lambda: EmergingConv(3, 5), (3, 4, 3)),
    (lambda: PeriodicConv(2, [5, 3]), (2, 5, 4)),
    (lambda: PeriodicConv(2, 3), (2, 3, 3)),
    (lambda: PeriodicConv(3, [1]), (3, 1)),
    (lambda: PeriodicConv(2, [3, 1, 3]), (2, 3, 2, 3)),
    (lambda: WoodburyTransform((3, 2, 4), 2, 3), (3, 2, 4)),
    (lambda: WoodburyTransform((3, 2, 2, 3), 4, 2, separate=True), (3, 2, 2, 3)),
    (lambda: WoodburyTransform((2, 5), 1, 2), (2, 5)),
]


@pytest.mark.parametrize("make, shape", LAYERS)
def test_inverse_and_logdet_are_those_of_the_dense_matrix(make, shape: tuple[int, ...]) -> None:
    layer = randomised(make())
    matrix = matrix_of(layer, shape)
    y = torch.randn(3, *shape)
    x, logdet = layer.inverse(y)
    torch.testing.assert_close(x.flatten(1).mT, torch.linalg.solve(matrix, y.flatten(1).mT))
    exact = torch.linalg.slogdet(matrix).logabsdet.expand(3)
    torch.testing.assert_close((logdet, layer(y)[1]), (-exact, exact))


@pytest.mark.parametrize("reverse", [False, True])
def test_an_autoregressive_convolution_is_triangular_and_as_dense_as_its_kernel(reverse: bool) -> None:
    shape = (2, 3, 4)
    layer = randomised(AutoregressiveConv(2, [3, 5], reverse=reverse))
    matrix = matrix_of(layer, shape).reshape(2, 12, 2, 12).permute(1, 0, 3, 2).reshape(24, 24)  # pixels outside
    assert torch.equal(matrix, matrix.triu() if reverse else matrix.tril())
    torch.testing.assert_close(matrix.diagonal(), layer.log_diagonal.detach().exp().repeat(12))
    for p in range(12):
        for q in range(12):
            near = abs(p // 4 - q // 4) <= 1 and abs(p % 4 - q % 4) <= 2
            block = matrix[2 * p : 2 * p + 2, 2 * q : 2 * q + 2]
            wanted = 0 if not near else 3 if p == q else 4 if (q > p) == reverse else 0
            assert int((block != 0).sum()) == wanted


def test_an_emerging_convolution_sees_both_sides() -> None:
    seen = (matrix_of(randomised(EmergingConv(1)), (1, 5, 5))[12] != 0).reshape(5, 5)
    assert seen[1:4, 1:4].all() and seen[2].all() and int(seen.sum()) == 13


SMALL = [
    (lambda: AutoregressiveConv(2, 3, reverse=True), (2, 2, 2)),
    (lambda: EmergingConv(2, [3], dilation=2), (2, 4)),
    (lambda: PeriodicConv(2, 3), (2, 3, 4)),
    (lambda: WoodburyTransform((3, 2, 2), 2, 3), (3, 2, 2)),
    (lambda: WoodburyTransform((2, 3, 2), 1, 1, separate=True), (2, 3, 2)),
]


@pytest.mark.parametrize("make, shape", SMALL)
def test_gradients_of_the_parameters_in_both_directions(make, shape: tuple[int, ...]) -> None:
    layer = randomised(make())
    x = torch.randn(2, *shape)
    names = [name for name, _ in layer.named_parameters()]
    values = tuple(p.detach().requires_grad_() for p in layer.parameters())

    def forward(*values: Tensor) -> tuple[Tensor, ...]:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    def inverse(*values: Tensor) -> tuple[Tensor, ...]:
        tensors = dict(zip(["bijection." + name for name in names], values, strict=True))
        return torch.func.functional_call(Inverse(layer), tensors, (x,))

    for direction in (forward, inverse):
        assert torch.autograd.gradcheck(direction, values, fast_mode=True)
        assert torch.autograd.gradgradcheck(direction, values, fast_mode=True)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 17, 33, 70, 150])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_solves_of_any_width(
    channels: int, reverse: bool, channels_last: bool, dtype: torch.dtype, tolerance: float
) -> None:
    layer = AutoregressiveConv(channels, reverse=reverse)
    with torch.no_grad():
        layer.log_diagonal.uniform_(-0.5, 0.5)
    weight = layer.masked_weight().detach().to(dtype)
    y = torch.randn(2, channels, 3, 4).to(dtype)
    y = y.to(memory_format=torch.channels_last) if channels_last else y
    arguments = [t.clone().requires_grad_() for t in (y, weight)]
    x = ops.masked_conv_solve(*arguments, reverse=reverse)
    (exact,) = masked_conv.reference(y.double(), weight.double(), (1, 1), reverse)
    torch.testing.assert_close(x.double(), exact, atol=tolerance, rtol=tolerance)
    seed = torch.randn(x.shape).to(dtype)
    got = torch.autograd.grad(x, arguments, seed)
    wide = masked_conv.backward_reference(seed.double(), exact, weight.double(), (1, 1), reverse)
    for a, b in zip(got, wide, strict=True):
        torch.testing.assert_close(a.double(), b, atol=5 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("batch", [1, 5, 29])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (9, 1), (2, 70), (70, 2), (13, 11)])
def test_solves_of_any_size_undo_the_convolution(sizes: tuple[int, int], batch: int) -> None:
    layer = randomised(AutoregressiveConv(5, [3, 5], dilation=[2, 3]), 0.1)
    x = torch.randn(batch, 5, *sizes)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, atol=1e-9, rtol=1e-9)


def test_a_solve_reads_the_weight_only_where_it_counts() -> None:
    for reverse in (False, True):
        layer = AutoregressiveConv(3, reverse=reverse)
        weight = layer.masked_weight().detach()
        spoilt = torch.where(layer.mask, weight, torch.nan)
        y = torch.randn(2, 3, 4, 5)
        assert torch.equal(
            ops.masked_conv_solve(y, spoilt, reverse=reverse), ops.masked_conv_solve(y, weight, reverse=reverse)
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_solves_are_the_same_whatever_the_batch_and_the_threads(threads: int) -> None:
    layer = AutoregressiveConv(20).float()
    y = torch.randn(7, 20, 6, 5, dtype=torch.float32)
    torch.set_num_threads(threads)
    together = layer.inverse(y)[0]
    assert all(torch.equal(layer.inverse(y[i : i + 1])[0], together[i : i + 1]) for i in range(7))


def test_logdets_are_exact() -> None:
    layer = EmergingConv(2).float()
    with torch.no_grad():
        layer["before"].log_diagonal.copy_(torch.tensor([0.5, -0.25]))
        layer["after"].log_diagonal.copy_(torch.tensor([1.0, 2.0]))
    assert layer(torch.randn(1, 2, 8, 4, dtype=torch.float32))[1].item() == 32 * 3.25


@pytest.mark.parametrize(
    "make", [lambda: EmergingConv(4), lambda: PeriodicConv(4), lambda: WoodburyTransform((4, 6, 5))]
)
def test_autocast_leaves_them_in_float32(make) -> None:
    layer = make().float()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float32)
    expected = layer(x), layer.inverse(x)
    with torch.autocast("cpu"):
        torch.testing.assert_close((layer(x), layer.inverse(x)), expected, rtol=0, atol=0)


def test_they_begin_as_well_conditioned_maps() -> None:
    for make, shape in LAYERS:
        values = torch.linalg.svdvals(matrix_of(make(), shape))
        assert 0.6 < values[-1] and values[0] < 1.6


def test_a_whole_step_of_the_paper_inverts_in_float32() -> None:
    flow = Compose(InvertibleConv1x1(12, parameterization="qr"), EmergingConv(12), PeriodicConv(12, 5)).float()
    x = torch.randn(2, 12, 16, 16, dtype=torch.float32)
    y, logdet = flow(x)
    back, inverse_logdet = flow.inverse(y)
    torch.testing.assert_close((back, inverse_logdet), (x, -logdet), atol=1e-4, rtol=1e-4)


def test_compile_in_both_directions() -> None:
    flow = Compose(EmergingConv(2), PeriodicConv(2), WoodburyTransform((2, 4, 3), 1, 2))
    x = torch.randn(3, 2, 4, 3)
    y, logdet = flow(x)
    for direction, given, expected in ((flow, x, (y, logdet)), (Inverse(flow), y.detach(), (x, -logdet))):
        compiled = torch.compile(direction, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(given), expected)


def test_loaded_diagonals_must_be_finite_numbers() -> None:
    layer = AutoregressiveConv(2).float()
    state = {**layer.state_dict(), "log_diagonal": torch.tensor([0.0, 200.0])}
    with pytest.raises(ValueError, match="log_diagonal: expected logarithms of positive finite torch.float32 numbers"):
        layer.load_state_dict(state)
