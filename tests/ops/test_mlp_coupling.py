"""A coupling with its networks as one call equals the calls one by one, over layouts, options and directions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowkit import _native, ops
from flowkit.bijections import AffineCoupling, AffineStep
from flowkit.bijections.coupling import mlp_coupling as one_call
from flowkit.nets import PairedMLP, paired_mlp
from flowkit.ops.affine import CLAMPS, FORMS
from flowkit.ops.stacked_linear import MOST_SAMPLES
from tests.graph.test_build import inputs_for
from tests.graph.test_optimize import initialised, step_flow

pytestmark = pytest.mark.skipif(not _native.available, reason="the kernels are not compiled")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that the one call was made."""
    made: list[int] = []

    def counted(*args: Any, **options: Any) -> Any:
        made.append(1)
        return one_call(*args, **options)

    monkeypatch.setattr("flowkit.bijections.coupling.mlp_coupling", counted)
    return made


def layer(kind: type[Any], channels: int, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    made = kind(channels, paired_mlp(hidden=9, depth=1, scale_tanh=True), **options).to(dtype).eval()
    if kind is AffineStep:
        made.norm.scale.data.uniform_(0.5, 1.5)
        made.norm.shift.data.normal_()
    return made


def both(made: Any, x: Tensor, condition: Tensor | None, inverse: bool, **options: Any) -> list[tuple[Tensor, Tensor]]:
    """At once, and one by one as with gradients."""
    call = made.inverse if inverse else made
    with torch.no_grad():
        at_once = call(x, condition, **options)
    return [at_once, call(x, condition)]


LAYERS = st.fixed_dictionaries(
    {},
    optional={
        "split": st.integers(1, 6),
        "transform_first": st.booleans(),
        "permutation": st.sampled_from(["swap", "flip", "shuffle", None]),
        "form": st.sampled_from(FORMS),
        "layout": st.sampled_from(["scale_shift", "shift_scale_interleaved"]),
        "shift_gain": st.floats(0.3, 2),
        "clamp": st.sampled_from(CLAMPS),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([AffineCoupling, AffineStep]),
    options=LAYERS,
    log_scale=st.booleans(),
    known=st.sampled_from([0, 3]),
    samples=st.integers(1, MOST_SAMPLES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    inverse=st.booleans(),
    apart=st.booleans(),
    buffered=st.booleans(),
)
def test_one_call_is_the_calls_one_by_one(
    kind: type[Any],
    options: dict[str, Any],
    log_scale: bool,
    known: int,
    samples: int,
    dtype: torch.dtype,
    inverse: bool,
    apart: bool,
    buffered: bool,
) -> None:
    given = {"log_scale": log_scale} if kind is AffineStep else {}
    made = layer(kind, 7, dtype, samples, condition=known, **options, **given)
    x, condition = torch.randn(samples, 7, dtype=dtype), torch.randn(samples, 3, dtype=dtype) if known else None
    if apart:
        x = torch.randn(7, samples, dtype=dtype).mT
        condition = torch.randn(1, 3, dtype=dtype).expand(samples, -1) if known else None
    before = x.clone()
    with torch.no_grad():
        out = ops.Workspace(x) if buffered else None
    at_once, one_by_one = both(made, x, condition, inverse, **({"out": out} if buffered else {}))
    assert one_by_one[0].requires_grad and torch.equal(x, before)
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype is torch.float32 else {"atol": 1e-11, "rtol": 1e-11}
    for found, expected in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(found, expected.detach(), **tolerance)


@pytest.mark.parametrize("kind", [AffineCoupling, AffineStep])
def test_the_mathematics_holds(kind: type[Any], calls: list[int]) -> None:
    """Back and forth, and the log-det beside the Jacobian's, by differences of the one call itself."""
    made = layer(kind, 6, condition=2, permutation="shuffle")
    x, condition = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    with torch.no_grad():
        y, logdet = made(x, condition)
        back, minus = made.inverse(y, condition)
        steps = 1e-6 * torch.eye(6, dtype=torch.float64)
        columns = [(made(x + step, condition)[0] - made(x - step, condition)[0]) / 2e-6 for step in steps]
    torch.testing.assert_close(back, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(minus, -logdet, atol=1e-12, rtol=0)
    torch.testing.assert_close(logdet, torch.stack(columns, 2).det().abs().log(), atol=1e-7, rtol=0)
    assert len(calls) == 14


def test_an_optimised_flow_runs_by_it(calls: list[int]) -> None:
    net = initialised(step_flow())
    fast, values = net.optimize(inference=True), inputs_for(net.graph, dtype=torch.float64)
    couplings = sum(isinstance(module, PairedMLP) for module in fast.modules())
    with torch.no_grad():
        z, logdet = fast(**values)
        assert len(calls) == couplings > 0
        torch.testing.assert_close((z, logdet), net(**values), atol=1e-11, rtol=1e-11)


def test_weights_kept_in_bfloat16(calls: list[int]) -> None:
    made = layer(AffineStep, 6, torch.float32, condition=2)
    made.net.narrow(torch.bfloat16)
    for at_once, one_by_one in zip(*both(made, torch.randn(3, 6), torch.randn(3, 2), True), strict=True):
        torch.testing.assert_close(at_once, one_by_one.detach(), atol=1e-5, rtol=1e-5)
    assert len(calls) == 1


def test_what_it_is_not_for_goes_one_by_one(calls: list[int]) -> None:
    made, x, condition = layer(AffineStep, 6, condition=2), torch.randn(3, 6).double(), torch.randn(3, 2).double()
    expected = made(x, condition)
    torch.testing.assert_close(torch.compile(made, backend="eager")(x, condition), expected)
    with torch.no_grad():
        jacobians = torch.vmap(torch.func.jacrev(lambda *one: made(*(t[None] for t in one))[0][0]))(x, condition)
        torch.testing.assert_close(jacobians.det().abs().log(), expected[1])
        many = made(x.repeat(MOST_SAMPLES, 1), condition.repeat(MOST_SAMPLES, 1))
        torch.testing.assert_close(many[0][-3:], expected[0])
        with torch.autograd.forward_ad.dual_level():
            made(torch.autograd.forward_ad.make_dual(x, x), condition)
        seen = made.net.register_forward_hook(lambda *args: args[2])
        torch.testing.assert_close(made(x, condition), expected)
        seen.remove()
        with torch.autocast("cpu"):
            made(x, condition)
        assert not calls
        with pytest.raises(ValueError, match="net: expected an input of its own type"):
            made(x.float(), condition.float())
        torch.testing.assert_close(made(x, condition.float()), made(x, condition.float().double()))
    assert len(calls) == 1


def test_a_step_waits_for_its_actnorm() -> None:
    made = layer(AffineStep, 6).train()
    made.norm.initialized.fill_(False)
    made.load_state_dict(made.state_dict())
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="before the initialisation"):
            made.inverse(torch.randn(8, 6).double())
        y, _ = made(torch.randn(8, 6).double())
    torch.testing.assert_close(y.mean(0), torch.zeros(6).double(), atol=1e-9, rtol=0)


def test_operators_are_registered_as_torch_asks() -> None:
    made, x, condition = layer(AffineStep, 6, torch.float32, condition=2), torch.randn(3, 6), torch.randn(3, 2)
    with torch.no_grad():
        networks, norm = made.net.networks(), made.norm
        args = (x, condition, [*networks.weights], [*networks.biases], 1, 1, 0, None, norm.scale, norm.shift, True,
                None, 3, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, False)  # fmt: skip
        torch.library.opcheck(torch.ops.flowkit.mlp_coupling, args)
        torch.library.opcheck(torch.ops.flowkit.mlp_coupling_out, (*args, torch.empty(3, 6), torch.zeros(3)))


def test_what_does_not_fit() -> None:
    made, x, condition = layer(AffineCoupling, 6, condition=2), torch.randn(3, 6).double(), torch.randn(3, 2).double()
    given: dict[str, Any] = {"first": 0, "passive": None, "norm": None, "begin": 3, "permutation": None,
                             "shift_gain": 1.0, "inverse": False, "out": None}  # fmt: skip
    with torch.no_grad():
        networks = made.net.networks()
        for wrong, words in (
            ({"first": 4}, "3 passive channels from 4 on"),
            ({"passive": torch.tensor([0, 1])}, "passive must be"),
            ({"passive": torch.tensor([0, 1, 6])}, "channel 6"),
            ({"begin": 4}, "transformed channels from 4"),
            ({"permutation": torch.arange(5)}, "permutation must be"),
        ):
            with pytest.raises(ValueError, match=f"mlp_coupling: .*{words}"):
                one_call(x, condition, networks, **{**given, **wrong})
        with pytest.raises(ValueError, match="condition must be"):
            one_call(x, condition[:2], networks, **given)
