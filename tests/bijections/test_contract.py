"""What every bijection promises, checked for every layer of the list in cases.py."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flowkit import ops
from flowkit.bijections import ActNorm, Bijection

from .cases import CASES, Case

EVERY = [(case, shape) for case in CASES for shape in case.shapes]
every_layer = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
every_shape = pytest.mark.parametrize(
    "case, shape", EVERY, ids=[f"{case.name}-{'x'.join(map(str, shape))}" for case, shape in EVERY]
)


@pytest.fixture(autouse=True)
def float64() -> None:
    torch.set_default_dtype(torch.float64)


def randomised(case: Case) -> Bijection:
    """The layer, with every trainable number moved away from its initial value."""
    layer = case.make()
    for module in layer.modules():
        if isinstance(module, ActNorm):
            module.initialized.fill_(True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return layer


def inputs(case: Case, shape: tuple[int, ...], batch: int = 3) -> tuple[Tensor, Tensor | None]:
    return torch.randn(batch, *shape), None if case.condition is None else torch.randn(batch, *case.condition)


def assert_inverts(layer: Bijection, x: Tensor, condition: Tensor | None, tolerance: float) -> None:
    y, logdet = layer(x, condition)
    back, inverse_logdet = layer.inverse(y, condition)
    torch.testing.assert_close(back, x, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(inverse_logdet, -logdet, atol=tolerance, rtol=tolerance)
    assert logdet.shape == inverse_logdet.shape == x.shape[:1]
    assert logdet.dtype == inverse_logdet.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)


@every_shape
def test_inverse_undoes_forward_and_forward_undoes_inverse(case: Case, shape: tuple[int, ...]) -> None:
    layer = randomised(case)
    x, condition = inputs(case, shape)
    assert_inverts(layer, x, condition, 1e-9)
    y = torch.randn_like(layer(x, condition)[0])
    back, _ = layer(layer.inverse(y, condition)[0], condition)
    torch.testing.assert_close(back, y, atol=1e-9, rtol=1e-9)


@every_shape
def test_logdet_is_that_of_the_jacobian(case: Case, shape: tuple[int, ...]) -> None:
    layer = randomised(case)
    x, condition = inputs(case, shape, batch=2)
    y, logdet = layer(x, condition)
    _, inverse_logdet = layer.inverse(y, condition)
    for i in range(2):
        c = None if condition is None else condition[i : i + 1]

        def forward(v: Tensor, c: Tensor | None = c) -> Tensor:
            return layer(v.reshape(1, *shape), c)[0].flatten()

        def inverse(v: Tensor, c: Tensor | None = c) -> Tensor:
            return layer.inverse(v.reshape(1, *y.shape[1:]), c)[0].flatten()

        exact = torch.linalg.slogdet(torch.autograd.functional.jacobian(forward, x[i].flatten())).logabsdet
        exact_inverse = torch.linalg.slogdet(torch.autograd.functional.jacobian(inverse, y[i].flatten())).logabsdet
        torch.testing.assert_close(logdet[i], exact, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(inverse_logdet[i], exact_inverse, atol=1e-8, rtol=1e-8)


@every_layer
def test_float32_and_narrower(case: Case) -> None:
    layer = randomised(case).float()
    x, condition = inputs(case, case.shapes[-1])
    assert_inverts(layer, x.float(), None if condition is None else condition.float(), 1e-4)
    half = layer.bfloat16()
    y, logdet = half(x.bfloat16(), None if condition is None else condition.bfloat16())
    assert y.dtype == torch.bfloat16 and logdet.dtype == torch.float32


@every_layer
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(case: Case, batch: int) -> None:
    x, condition = inputs(case, case.shapes[0], batch)
    assert_inverts(randomised(case), x, condition, 1e-9)


@every_layer
def test_samples_do_not_see_each_other(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    y, logdet = layer(x, condition)
    alone, alone_logdet = layer(x[1:2], None if condition is None else condition[1:2])
    torch.testing.assert_close(alone, y[1:2])
    torch.testing.assert_close(alone_logdet, logdet[1:2])


@every_layer
def test_channels_last_and_strided_inputs(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    y, logdet = layer(x, condition)
    for other in (x.movedim(1, -1).contiguous().movedim(-1, 1), torch.stack([x, x], -1)[..., 0]):
        assert_inverts(layer, other, condition, 1e-9)
        torch.testing.assert_close(layer(other, condition), (y, logdet))


@every_layer
def test_workspace_gives_the_same_and_leaves_the_input_alone(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    y, logdet = layer(x, condition)
    z, inverse_logdet = layer.inverse(x if y.shape == x.shape else y, condition)
    with torch.no_grad():
        for call, given, expected in (
            (layer, x, (y, logdet)),
            (layer.inverse, x if y.shape == x.shape else y, (z, inverse_logdet)),
        ):
            given = given.detach().clone()
            before = given.clone()
            torch.testing.assert_close(call(given, condition), expected)
            if layer.in_place:
                out = ops.Workspace(given)
                torch.testing.assert_close(call(given, condition, out=out), expected)
            assert torch.equal(given, before)


@every_layer
def test_gradients_reach_x_the_condition_and_every_parameter(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    for call, given in ((layer, x), (layer.inverse, layer(x, condition)[0].detach())):
        sources = {"input": given.requires_grad_(), **dict(layer.named_parameters())}
        if condition is not None:
            sources["condition"] = condition.requires_grad_()
        moved, logdet = call(given, condition)
        grads = torch.autograd.grad(moved.square().sum() + logdet.sum(), list(sources.values()))
        for name, grad in zip(sources, grads, strict=True):
            assert grad.isfinite().all() and grad.abs().sum() > 0, name


@every_layer
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[0], batch=2)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: layer(v, condition), x, fast_mode=True)
    y = layer(x, condition)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: layer.inverse(v, condition), y, fast_mode=True)


@every_layer
def test_pickle_deepcopy_and_state_dict(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    expected = layer(x, condition)
    fresh = case.make()
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        torch.testing.assert_close(other(x, condition), expected, rtol=0, atol=0)
        assert repr(other) == repr(layer)


@every_layer
def test_shapes_are_known_without_running(case: Case) -> None:
    layer = case.make()
    for shape in case.shapes:
        x, condition = inputs(case, shape)
        y = layer(x, condition)[0]
        assert layer.output_shape(shape) == tuple(y.shape[1:])
        assert layer.input_shape(tuple(y.shape[1:])) == shape


@every_layer
def test_nothing_waits_for_the_device(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1])
    layer(x, condition)  # the first forward may look at its data: actnorm's initialisation
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:  # tensors without data: reading a value is an error
        x, condition = fake.from_tensor(x), None if condition is None else fake.from_tensor(condition)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                y, logdet = layer(x, condition)
                back, inverse_logdet = layer.inverse(y, condition)
                assert back.shape == x.shape and logdet.shape == inverse_logdet.shape == x.shape[:1]


@every_layer
def test_vmap_over_batches(case: Case) -> None:
    layer = randomised(case)
    x, condition = inputs(case, case.shapes[-1], batch=4)
    y, logdet = layer(x, condition)
    pairs = x.unflatten(0, (2, 2))
    c = None if condition is None else condition.unflatten(0, (2, 2))
    mapped = torch.func.vmap(lambda v, w: layer(v, w), in_dims=(0, None if c is None else 0))(pairs, c)
    torch.testing.assert_close(tuple(part.flatten(0, 1) for part in mapped), (y, logdet))
