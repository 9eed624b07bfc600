"""Stacked networks: one kernel for all layers equals the layers one by one, over shapes, types and layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowkit import _native, ops
from flowkit.nets import ACTIVATIONS
from flowkit.ops.stacked_linear import MOST_SAMPLES
from flowkit.ops.stacked_mlp import _has_kernel

native = pytest.mark.skipif(not _native.available, reason="the kernels are not compiled")
Arguments = tuple[Tensor, list[Tensor], list[Tensor]]


def arguments(groups: int, widths: list[int], samples: int, dtype: torch.dtype, apart: bool = False) -> Arguments:
    """Random x (samples, widths[0]), weights and biases; ``apart``: views with other strides."""
    torch.manual_seed(sum(widths))
    x = torch.randn(widths[0], samples, dtype=dtype).mT if apart else torch.randn(samples, widths[0], dtype=dtype)
    weights, biases = [], []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        weight = torch.randn(groups, a, b, dtype=dtype).mT if apart else torch.randn(groups, b, a, dtype=dtype)
        weights.append(weight / a**0.5)
        biases.append(torch.randn(groups, b, dtype=dtype))
    return x, weights, biases


def one_by_one(given: Arguments, activation: str, tanh: tuple[bool, ...]) -> Tensor:
    """Every network alone, in float64."""
    x, weights, biases = given
    results = []
    for g, ends in enumerate(tanh):
        h = x.double()
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if k:
                h = ACTIVATIONS[activation]()(h)
            h = torch.nn.functional.linear(h, weight[g].double(), bias[g].double())
        results.append(h.tanh() if ends else h)
    return torch.cat(results, 1)


@native
@settings(max_examples=80, deadline=None)
@given(
    widths=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    samples=st.integers(1, MOST_SAMPLES),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    activation=st.sampled_from([name for name in ACTIVATIONS if name != "gelu"]),
    tanh=st.lists(st.booleans(), min_size=1, max_size=3),
    apart=st.booleans(),
)
def test_the_kernel_is_the_networks_one_by_one(
    widths: list[int], samples: int, dtype: torch.dtype, activation: str, tanh: list[bool], apart: bool
) -> None:
    narrow = dtype is torch.bfloat16
    x, weights, biases = arguments(len(tanh), widths, samples, torch.float32 if narrow else dtype, apart)
    weights = [weight.to(dtype) for weight in weights]
    ends = tuple(tanh)
    assert _has_kernel(x, weights, biases, activation)
    found = ops.stacked_mlp(x, weights, biases, activation, ends)
    assert found.dtype == x.dtype
    expected = one_by_one((x, weights, biases), activation, ends)
    absolute = 1e-11 if dtype is torch.float64 else 1e-4
    torch.testing.assert_close(found.double(), expected, atol=absolute, rtol=absolute / 10)


@native
@pytest.mark.parametrize("samples", [0, 3, MOST_SAMPLES + 1])
@pytest.mark.parametrize("activation", ["leaky_relu", "gelu"])
def test_with_gradients_and_without_they_are_one_function(samples: int, activation: str) -> None:
    x, weights, biases = arguments(2, [5, 8, 4], samples, torch.float64)
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]
    y = ops.stacked_mlp(x, weights, biases, activation, (True, False))
    assert y.requires_grad and y.shape == (samples, 8)
    with torch.no_grad():
        torch.testing.assert_close(ops.stacked_mlp(x, weights, biases, activation, (True, False)), y)
    if samples == 3:
        assert torch.autograd.gradcheck(
            lambda *t: ops.stacked_mlp(t[0], t[1:3], t[3:], activation, (True, False)), leaves
        )


@native
def test_operator_is_registered_as_torch_asks() -> None:
    x, weights, biases = arguments(2, [5, 8, 4], 3, torch.float32)
    torch.library.opcheck(torch.ops.flowkit.stacked_mlp, (x, weights, biases, 1, 1))
    compiled = torch.compile(ops.stacked_mlp, fullgraph=True, backend="aot_eager")
    given = x, weights, biases, "elu", (True, False)
    torch.testing.assert_close(compiled(*given), ops.stacked_mlp(*given))


def test_narrow_weights_without_a_kernel() -> None:
    x, weights, biases = arguments(2, [5, 8, 4], 3, torch.float32)
    weights = [weight.bfloat16() for weight in weights]
    x.requires_grad_()  # so layer by layer
    found = ops.stacked_mlp(x, weights, biases, "relu", (False, False))
    torch.testing.assert_close(
        found.double(), one_by_one((x, weights, biases), "relu", (False, False)), atol=1e-5, rtol=1e-5
    )


@native
def test_what_does_not_fit() -> None:
    x, weights, biases = arguments(2, [5, 8, 4], 3, torch.float32)
    for wrong in (
        (x[:, 1:], weights, biases),
        (x, weights[::-1], biases),
        (x, weights, biases[:1]),
        (x, weights, [biases[0].double(), biases[1]]),
        (x, [weights[0], weights[1].double()], biases),
    ):
        with pytest.raises(ValueError, match="stacked_mlp: "):
            ops.stacked_mlp(*wrong, "relu", (False, False))
