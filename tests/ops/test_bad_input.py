"""What the operators refuse, and odd tensors that they must read right: found by users, kept as regressions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from flowkit import _native, ops
from flowkit.ops import affine

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
ONES = torch.ones(2, 4)

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "integer x": (lambda: ops.affine_coupling(ONES.long(), ONES, begin=2), "float32"),
    "rank of params": (lambda: ops.affine_coupling(X[..., None], ONES, begin=2), "params must be"),
    "odd params": (lambda: ops.affine_coupling(X, ONES[:, :3], begin=2), "params must be"),
    "too many params": (lambda: ops.affine_coupling(X, torch.ones(2, 6), begin=2), "channels"),
    "begin near the largest integer": (lambda: ops.affine_coupling(X, ONES, begin=2**63 - 2), "channels"),
    "negative begin": (lambda: ops.additive_coupling(X, ONES, begin=-1), "channels"),
    "clamp": (lambda: ops.affine_coupling(X, ONES, begin=2, clamp="sine"), "one of none, tanh"),
    "form": (lambda: ops.affine_coupling(X, ONES, begin=2, form="x+t"), "one of s\\*x\\+t"),
    "bound of a hard clamp": (lambda: ops.affine_coupling(X, ONES, begin=2, clamp="hard", bound=1.0), "pair"),
    "pair of bounds": (lambda: ops.affine_coupling(X, ONES, begin=2, bound=(1.0, 2.0)), "one number"),
    "layout": (lambda: ops.affine_coupling(X, ONES, begin=2, layout="mixed"), "one of scale_shift"),
    "device": (lambda: ops.affine_coupling(X, ONES.to("meta"), begin=2), "cpu and params on meta"),
    "repeated channel": (lambda: ops.permute_channels(X, torch.tensor([0, 1, 1, 2])), "permutation"),
    "length of permutation": (lambda: ops.permute_channels(X, torch.arange(3)), "permutation must be"),
    "length of scale": (lambda: ops.actnorm(X, ONES[0, :3], ONES[0], log_scale=True), "scale must be"),
    "slope": (lambda: ops.leaky_relu(X, 0.0), "slope must be positive"),
    "rank 1": (lambda: ops.leaky_relu(X.flatten(), 0.5), "spatial dimensions"),
    "rank 12": (lambda: ops.permute_channels(torch.ones([1] * 12), torch.arange(1)), "spatial dimensions"),
    "rank 64": (lambda: ops.leaky_relu(torch.ones([1] * 64), 0.5), "spatial dimensions"),
    "weight": (lambda: ops.channel_linear(X, torch.ones(3, 4)), "weight must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_value_error_that_says_why(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_buffers_are_refused_while_autograd_records() -> None:
    x = X.clone().requires_grad_()
    with pytest.raises(ValueError, match="no_grad"):
        ops.leaky_relu(x, 0.5, out=ops.Workspace(x))


def test_native_forms_refuse_overlapping_memory() -> None:
    if not _native.available:
        return  # there is nothing native to call
    buffer = torch.randn(73)
    x, shifted = buffer[:72].view(3, 24), buffer[1:].view(3, 24)
    with pytest.raises(RuntimeError, match="overlaps"):
        torch.ops.flowkit.leaky_relu_out(x, 0.5, False, shifted, torch.zeros(3))
    with pytest.raises(RuntimeError, match="in place"):
        torch.ops.flowkit.permute_channels_out(X, torch.tensor([1, 0, 3, 2]), False, X)


def test_tensors_with_the_negative_bit() -> None:
    params = torch.fft.fft(torch.randn(2, 4)).conj().imag
    assert params.is_neg()
    for got, expected in zip(
        ops.affine_coupling(torch._neg_view(X), params, begin=2),
        ops.affine_coupling(-X, params.clone(), begin=2),
        strict=True,
    ):
        assert torch.equal(got, expected)


def test_gradients_with_the_negative_bit() -> None:
    x, params = X[:, :1].clone().requires_grad_(), ONES[:, :2].clone().requires_grad_()

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        z = torch.complex(0 * y, y).conj()
        loss = (z * (1 + 2j)).conj().real.sum() + (z.conj() * 1j).real.sum()
        return torch.autograd.grad(loss, (x, params))

    got = gradients(ops.affine_coupling(x, params, begin=0)[0])
    expected = gradients(affine.reference(x, params, None, None, 0, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, False)[0])
    torch.testing.assert_close(got, expected)


def test_forward_mode_derivatives_are_kept() -> None:
    with forward_ad.dual_level():
        y, _ = ops.leaky_relu(forward_ad.make_dual(X, ONES), 0.5)
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, torch.where(X < 0, 0.5, 1.0))


def test_actnorm_takes_strided_parameters() -> None:
    y, _ = ops.actnorm(X, torch.zeros(1).expand(4), torch.ones(8)[::2], log_scale=True)
    assert torch.equal(y, X + 1)


def test_meta_tensors_have_shapes() -> None:
    x = X.to("meta")
    y, logdet = ops.affine_coupling(x, x, begin=2, permutation=torch.arange(4, device="meta"))
    assert y.is_meta and y.shape == x.shape and logdet.shape == (2,)


def test_autocast_leaves_the_gradient_of_the_linear_map_in_float32() -> None:
    weight = torch.randn(32, 32).requires_grad_()
    x = torch.randn(64, 32)
    (expected,) = torch.autograd.grad(ops.channel_linear(x, weight).square().sum(), weight)
    with torch.autocast("cpu"):
        (got,) = torch.autograd.grad(ops.channel_linear(x, weight).square().sum(), weight)
    torch.testing.assert_close(got, expected)
