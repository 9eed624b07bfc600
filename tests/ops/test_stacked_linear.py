"""Stacked linear maps: the kernel and its gradients equal the batched product over shapes, types and layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowkit import _native, ops
from flowkit.nets import ACTIVATIONS, PairedMLP
from flowkit.ops.stacked_linear import MOST_SAMPLES, _has_kernel, backward_reference, reference

native = pytest.mark.skipif(not _native.available, reason="the kernels are not compiled")
sizes = st.integers(1, 70)


def arguments(
    groups: int, outs: int, ins: int, samples: int, dtype: torch.dtype, apart: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Random x, weight and bias; ``apart``: views with other strides."""
    torch.manual_seed(outs)
    if apart:
        x = torch.randn(samples, ins, groups, dtype=dtype).permute(2, 1, 0)
        weight = torch.randn(groups, ins, outs, dtype=dtype).mT
    else:
        x, weight = torch.randn(groups, ins, samples, dtype=dtype), torch.randn(groups, outs, ins, dtype=dtype)
    return x, weight, torch.randn(groups, outs, dtype=dtype)


@native
@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 3),
    outs=sizes,
    ins=sizes,
    samples=st.integers(1, MOST_SAMPLES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    apart=st.booleans(),
)
def test_kernel_and_gradients_equal_the_reference(
    groups: int, outs: int, ins: int, samples: int, dtype: torch.dtype, apart: bool
) -> None:
    leaves = [t.requires_grad_() for t in arguments(groups, outs, ins, samples, dtype, apart)]
    assert _has_kernel(*leaves)
    y = ops.stacked_linear(*leaves)
    wide = [t.detach().double() for t in leaves]
    absolute, relative = (1e-4, 1e-5) if dtype == torch.float32 else (1e-11, 1e-12)
    torch.testing.assert_close(y.double(), reference(*wide), atol=absolute, rtol=relative)
    with torch.no_grad():
        assert torch.equal(ops.stacked_linear(*leaves), y)
    grad = torch.randn_like(y)
    for found, expected in zip(
        torch.autograd.grad(y, leaves, grad), backward_reference(grad.double(), *wide[:2]), strict=True
    ):
        torch.testing.assert_close(found.double(), expected, atol=absolute, rtol=relative)


@native
def test_gradients_that_are_not_wanted_and_second_derivatives() -> None:
    x, weight, bias = arguments(2, 4, 5, 3, torch.float64)
    y = ops.stacked_linear(x.requires_grad_(), weight, bias)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, weight.sum(1)[..., None].expand_as(x))
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(ops.stacked_linear, leaves)
    assert torch.autograd.gradgradcheck(ops.stacked_linear, leaves)


@native
def test_operator_is_registered_as_torch_asks() -> None:
    leaves = [t.requires_grad_() for t in arguments(2, 4, 5, 3, torch.float32)]
    torch.library.opcheck(torch.ops.flowkit.stacked_linear, tuple(leaves))
    compiled = torch.compile(ops.stacked_linear, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*leaves), ops.stacked_linear(*leaves))


@native
@pytest.mark.parametrize("samples", [0, MOST_SAMPLES + 1])
def test_other_numbers_of_samples(samples: int) -> None:
    given = arguments(2, 4, 5, samples, torch.float32)
    torch.testing.assert_close(ops.stacked_linear(*given), reference(*given))


def test_half_types_autocast_and_vmap_take_the_product_of_torch() -> None:
    given = arguments(2, 4, 5, 3, torch.float32)
    half = [t.bfloat16() for t in given]
    assert torch.equal(ops.stacked_linear(*half), reference(*half))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.stacked_linear(*given).dtype == torch.bfloat16
    several = torch.stack([given[0], 2 * given[0]])
    mapped = torch.vmap(ops.stacked_linear, in_dims=(0, None, None))(several, *given[1:])
    torch.testing.assert_close(mapped[1], reference(2 * given[0], *given[1:]))


def test_shapes_that_do_not_fit() -> None:
    x, weight, bias = arguments(2, 4, 5, 3, torch.float32)
    for wrong in ((x[0], weight, bias), (x, weight.mT, bias), (x, weight, bias[:, 1:]), (x[:1], weight, bias)):
        with pytest.raises(ValueError, match="stacked_linear: expected x"):
            ops.stacked_linear(*wrong)


@pytest.mark.parametrize("batch", [1, 3, 25, 200])
def test_a_pair_of_networks_is_two_networks(batch: int) -> None:
    net, x = PairedMLP(6, 8, hidden=16, scale_tanh=True), torch.randn(batch, 6)
    found = net(x)
    for k, part in enumerate(found.chunk(2, 1)):
        h = x
        for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            h = torch.nn.functional.linear(h if i == 0 else ACTIVATIONS[net.activation]()(h), weight[k], bias[k])
        torch.testing.assert_close(part, h.tanh() if k == 0 else h, atol=1e-5, rtol=1e-5)
