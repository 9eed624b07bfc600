"""Native kernels against their plain-torch references, and the references against autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowkit import ops
from flowkit.ops import affine
from flowkit.ops._layout import dense_strides, is_channels_last, logdet_dtype
from flowkit.ops.workspace import Workspace
from tests.ops.cases import DTYPES, OPERATORS, SHAPES, TOLERANCE, Case, is_float, make_case, relative_error

NAMES = sorted(OPERATORS)
OPTIONS = {
    "shape": st.sampled_from(SHAPES),
    "dtype": st.sampled_from(DTYPES),
    "channels_last": st.booleans(),
    "inverse": st.booleans(),
    "permuted": st.booleans(),
    "clamp": st.integers(0, 6),
    "form": st.integers(0, 2),
    "layout": st.integers(0, 3),
    "separate": st.booleans(),
    "first": st.booleans(),
    "log_scale": st.booleans(),
    "seed": st.integers(0, 99),
}
cases = st.fixed_dictionaries(OPTIONS)


def output_gradients(case: Case, outputs: tuple[Tensor, ...], seed: int = 1) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(o.shape, generator=g, dtype=torch.float64).to(o.dtype) for o in outputs)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(options=cases)
def test_forward_and_backward_equal_the_reference(name: str, options: dict) -> None:
    case = make_case(name, **options)
    tolerance = TOLERANCE[options["dtype"]]
    operator, x = case.operator, case.args[0]
    got = operator(None, False, *case.args)
    expected = operator.reference(*case.to(torch.float64).args)
    assert len(got) == len(expected)
    assert got[0].dtype == x.dtype and got[0].stride() == dense_strides(x.shape, is_channels_last(x))
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and relative_error(a, b) < tolerance
    if operator._logdet:
        assert got[1].dtype == logdet_dtype(x.dtype)

    live = case.requires_grad()
    outputs = live.operator(None, False, *live.args)
    seeds = output_gradients(case, outputs)
    inputs = [t for t in live.args if is_float(t)]
    grads = torch.autograd.grad(outputs, inputs, seeds)
    wide = case.to(torch.float64).requires_grad()
    wide_outputs = wide.operator.reference(*wide.args)
    wide_inputs = [t for t in wide.args if is_float(t)]
    objective = sum((o * s.double()).sum() for o, s in zip(wide_outputs, seeds, strict=True))
    wide_grads = torch.autograd.grad(objective, wide_inputs)
    if (
        operator.keeps_input(case.args) is False and operator._keep == "domain"
    ):  # seen from the output as it was rounded
        kept = outputs[0].detach().double()
        wide_grads = operator.backward_reference(*(s.double() for s in seeds), kept, *case.to(torch.float64).args[1:])
    for a, b, t in zip(grads, wide_grads, inputs, strict=True):
        assert a.shape == t.shape and a.dtype == t.dtype
        assert relative_error(a, b) < 2 * tolerance


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(options=cases)
def test_buffers_hold_the_same_result_and_the_input_is_untouched(name: str, options: dict) -> None:
    case = make_case(name, **options)
    operator, x = case.operator, case.args[0]
    alone = ("actnorm", "leaky_relu", "masked_conv_solve")
    in_place = name in alone or (name.endswith(("coupling", "step")) and not options["permuted"])
    before = x.clone()
    with torch.no_grad():
        expected = operator(None, False, *case.args)
        workspace = Workspace(x)
        start = torch.full_like(workspace.logdet, 2.0)
        workspace.logdet += start
        first, _ = operator(workspace, in_place, *case.args)
        assert torch.equal(first, expected[0]) and torch.equal(x, before)
        second, logdet = operator(workspace, in_place, first, *case.args[1:])
        again = operator(None, False, expected[0], *case.args[1:])
    assert torch.equal(second, again[0])
    assert (second.data_ptr() == first.data_ptr()) == (in_place or x.numel() == 0)
    if operator._logdet:
        torch.testing.assert_close(logdet, start + expected[1] + again[1])


def grad_cases() -> list:
    found = [make_case(name, (2, 4, 3), inverse=inverse) for name in NAMES for inverse in (False, True)]
    found += [make_case("affine_coupling", (2, 4), clamp=c, layout=3, permuted=False, form=c % 3) for c in range(6)]
    found += [
        make_case("affine_coupling", (2, 4), clamp=c, separate=True, inverse=True, form=f)
        for c in (2, 4)
        for f in range(3)
    ]
    found += [make_case("actnorm", (2, 3, 2, 2), log_scale=False, inverse=i) for i in (False, True)]
    found += [make_case("affine_step", (2, 4), log_scale=False, separate=True, inverse=i) for i in (False, True)]
    return found


def case_id(case: Case) -> str:
    return "-".join([case.operator.name, *(str(a) for a in case.args if not isinstance(a, Tensor))])


def function_of_floats(case: Case):  # type: ignore[no-untyped-def]
    """The operator as a function of its floating-point tensors, and those tensors."""
    live = case.requires_grad()
    places = [i for i, a in enumerate(live.args) if is_float(a)]

    def f(*values: Tensor) -> tuple[Tensor, ...]:
        args = list(live.args)
        for i, value in zip(places, values, strict=True):
            args[i] = value
        return live.operator(None, False, *args)

    return f, tuple(live.args[i] for i in places)


@pytest.mark.parametrize("case", grad_cases(), ids=case_id)
def test_gradcheck_and_gradgradcheck(case: Case) -> None:
    f, inputs = function_of_floats(case)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("case", grad_cases(), ids=case_id)
def test_logdet_is_that_of_the_jacobian(case: Case) -> None:
    operator, (x, *rest) = case.operator, case.args
    if not operator._logdet:
        return
    sample = [t[:1] if isinstance(t, Tensor) and t.dim() == x.dim() else t for t in (x, *rest)]

    def f(v: Tensor) -> Tensor:
        return operator(None, False, v.reshape(sample[0].shape), *sample[1:])[0].flatten()

    jacobian = torch.autograd.functional.jacobian(f, sample[0].flatten())
    logdet = operator(None, False, *sample)[1]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, logdet[0])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case_number", range(len(grad_cases())))
def test_opcheck(case_number: int, channels_last: bool) -> None:
    from flowkit import _native

    if not _native.available:
        return  # nothing is registered: the references are plain torch
    case = grad_cases()[case_number]
    if channels_last:
        case = case.channels_last()
    x = case.args[0]
    namespace = torch.ops.flowkit
    name, operator = case.operator.name, case.operator
    torch.library.opcheck(getattr(namespace, name).default, case.requires_grad().args)
    y, *logdet = operator._evaluate(*case.args)
    out = (torch.empty_like(y), *(torch.zeros_like(v) for v in logdet))
    torch.library.opcheck(getattr(namespace, name + "_out").default, (*case.args, *out))
    kept = x if operator.keeps_input(case.args) else y
    grads = (torch.randn_like(y), *(torch.randn_like(v) for v in logdet))
    torch.library.opcheck(getattr(namespace, name + "_backward").default, (*grads, kept, *case.args[1:]))


@pytest.mark.parametrize("name", NAMES)
def test_vmap_jacrev_and_jvp(name: str) -> None:
    case = make_case(name, (2, 4, 3))
    f, inputs = function_of_floats(case)
    inputs = tuple(t.detach() for t in inputs)
    stacked = tuple(torch.stack([t, 2 * t]) for t in inputs)
    got = torch.func.vmap(f)(*stacked)
    for i in range(2):
        for a, b in zip(got, f(*(s[i] for s in stacked)), strict=True):
            torch.testing.assert_close(a[i], b)
    jacobian = torch.func.jacrev(lambda x: f(x, *inputs[1:])[0])(inputs[0])
    expected = torch.autograd.functional.jacobian(lambda x: f(x, *inputs[1:])[0], inputs[0])
    torch.testing.assert_close(jacobian, expected)
    tangent = torch.randn_like(inputs[0])
    _, directional = torch.func.jvp(lambda x: f(x, *inputs[1:])[0], (inputs[0],), (tangent,))
    n = inputs[0].numel()
    torch.testing.assert_close(directional.flatten(), expected.reshape(n, n) @ tangent.flatten())


@pytest.mark.parametrize("strided", ["batch", "channel", "pixel"])
@pytest.mark.parametrize("name", NAMES)
def test_views_of_larger_tensors(name: str, strided: str) -> None:
    case = make_case(name, (3, 6, 4, 5))

    def view(t: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.dim() != 4:
            return t
        d = {"batch": 0, "channel": 1, "pixel": 3}[strided]
        size = [2 * n if i == d else n for i, n in enumerate(t.shape)]
        big = torch.full(size, float("nan"), dtype=t.dtype)
        part = big.narrow(d, 0, t.size(d)) if strided == "batch" else big[(slice(None),) * d + (slice(0, None, 2),)]
        return part.copy_(t)

    live = Case(case.operator, tuple(view(a) for a in case.args))
    got = live.operator(None, False, *live.args)
    for a, b in zip(got, case.operator(None, False, *case.args), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clamp", range(6))
def test_clamps_are_accurate_over_their_range(clamp: int, dtype: torch.dtype) -> None:
    u = torch.linspace(-30, 30, 4001, dtype=dtype).reshape(-1, 1)
    params = torch.cat([u, torch.zeros_like(u)], 1)
    x = torch.cat([torch.zeros_like(u), torch.ones_like(u)], 1)
    operator = OPERATORS["affine_coupling"]
    bound = (0.0, 2.0, 2.0, 0.0, 0.0, 2.0)[clamp]
    args = (x, params, None, None, 1, 0, clamp, bound, 1.0, 0.0, 1.0, 0, 1.0, False)
    y, logdet = operator(None, False, *args)
    wide = (x.double(), params.double(), *args[2:])
    expected, expected_logdet = operator.reference(*wide)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(logdet.double(), expected_logdet, rtol=4 * eps, atol=4 * eps)
    torch.testing.assert_close(y.double(), expected, rtol=70 * eps, atol=0)


def test_extreme_inputs_stay_defined() -> None:
    u = torch.tensor([[-1e30, -200.0, 200.0, 1e30, float("inf"), float("-inf"), float("nan")]]).T
    x = torch.ones(len(u), 2)
    for clamp in (1, 2, 6):
        args = (x, torch.cat([u, torch.zeros_like(u)], 1), None, None, 1, 0, clamp, 1.0, 1.0, 0.0, 1.0, 0, 1.0, False)
        y, logdet = OPERATORS["affine_coupling"](None, False, *args)
        assert torch.isfinite(y[:-1]).all() and torch.isfinite(logdet[:-1]).all()
        assert torch.isnan(y[-1, 1]) and torch.isnan(logdet[-1])


@pytest.mark.parametrize("clamp", ["sigmoid", "softplus", "softclip"])
def test_gradients_stay_finite_where_a_scale_vanishes(clamp: str) -> None:
    u = torch.linspace(-500, 60, 57).reshape(-1, 1)
    params = torch.cat([u, torch.zeros_like(u)], 1).requires_grad_()
    for function, reference in ((ops.affine_coupling, False), (affine.reference, True)):
        options = {"begin": 1, "clamp": clamp}
        if reference:
            x = torch.ones(len(u), 2)
            codes = affine.clamp_options(clamp, None, 1.0, None, 1.0)
            _, logdet = function(x, params, None, None, 1, 0, *codes, 0, 1.0, False)
        else:
            _, logdet = function(torch.ones(len(u), 2), params, **options)
        (grad,) = torch.autograd.grad(logdet.sum(), params)
        assert grad.isfinite().all() and logdet.isfinite().all()
        assert clamp == "softclip" or float(grad[0, 0]) == 1


def test_a_hard_clamp_passes_the_gradient_straight_through() -> None:
    u, x = torch.tensor([[-9.0], [0.5], [9.0]]), torch.full((3, 2), 2.0)
    params = torch.cat([u, torch.zeros_like(u)], 1).requires_grad_()
    y, logdet = ops.affine_coupling(x, params, begin=1, clamp="hard")
    expected = torch.tensor([-5.0, 0.5, 3.0])
    torch.testing.assert_close(logdet, expected)
    torch.testing.assert_close(y[:, 1], 2 * expected.exp())
    (grad,) = torch.autograd.grad(y.sum() + logdet.sum(), params)
    torch.testing.assert_close(grad[:, 0], 2 * expected.exp() + 1)


def test_forms_say_what_they_compute() -> None:
    x, u, t = torch.randn(3, 2, 4).unbind(0)
    s = 2 * torch.sigmoid(u)
    for form, expected in (("s*x+t", s * x + t), ("s*(x+t)", s * (x + t)), ("x/s+t", x / s + t)):
        options = {"begin": 0, "clamp": "sigmoid", "offset": 0.0, "factor": 2.0, "form": form}
        y, logdet = ops.affine_coupling(x, u, t, **options)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(logdet, (-1 if form == "x/s+t" else 1) * s.log().sum(1))
        torch.testing.assert_close(ops.affine_coupling_inverse(y, u, t, **options), (x, -logdet))


def test_a_scale_of_zero_has_the_log_det_of_the_reference() -> None:
    args = (torch.randn(2, 3), torch.tensor([1.0, 0.0, -2.0]), torch.zeros(3), False, False)
    operator = OPERATORS["actnorm"]
    got, expected = operator(None, False, *args)[1], operator.reference(*args)[1]
    assert torch.equal(got, expected) and bool((got == -torch.inf).all())
