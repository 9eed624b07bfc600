"""Every operator's CUDA kernels against plain torch: directions, types, memory layouts, ranks, sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cuda_on_cpu import comparison
from tests.cuda_on_cpu.comparison import CLAMPS, Case, Namespace
from tests.cuda_on_cpu.strategies import cases, few


@pytest.mark.parametrize("layout", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("clamp", CLAMPS)
@settings(max_examples=20)
@given(case=cases(), which=st.integers(0, 1), gain=st.sampled_from([1.0, 0.5]), form=st.integers(0, 2))
def test_affine_coupling(
    emulated: Namespace, clamp: str, layout: int | None, case: Case, which: int, gain: float, form: int
) -> None:
    comparison.affine(emulated, case, clamp, CLAMPS[clamp][which % len(CLAMPS[clamp])], gain, layout, form)


@few
@given(case=cases())
def test_additive_coupling(emulated: Namespace, case: Case) -> None:
    comparison.additive(emulated, case)


@few
@given(case=cases(), log_scale=st.booleans())
def test_actnorm(emulated: Namespace, case: Case, log_scale: bool) -> None:
    comparison.actnorm(emulated, case, log_scale)


@few
@given(case=cases(), slope=st.sampled_from([0.9, 0.1, 2.0]))
def test_leaky_relu(emulated: Namespace, case: Case, slope: float) -> None:
    comparison.leaky_relu(emulated, case, slope)


@few
@given(case=cases())
def test_permute_channels(emulated: Namespace, case: Case) -> None:
    comparison.permute(emulated, case)


@few
@given(case=cases(largest_channels=70))
def test_channel_linear(emulated: Namespace, case: Case) -> None:
    comparison.linear(emulated, case)


# Several chunks a sample, samples that share a block, several blocks; 128-bit accesses and single elements.
LARGE = [
    Case(torch.float32, 2, 12, (28, 28), 6, 6),
    Case(torch.float32, 2, 12, (27, 27), 5, 6, memory="channels_last"),
    Case(torch.bfloat16, 2, 16, (24, 24), 8, 8, memory="channels_last"),
    Case(torch.float64, 1, 3, (41, 41), 1, 2, permuted=True),
    Case(torch.float32, 1, 4, (64, 64), 2, 2, permuted=True, inverse=True),
    Case(torch.float32, 700, 2, (), 1, 1),
    Case(torch.float16, 300, 64, (), 32, 32, inverse=True),
    Case(torch.float32, 3, 5000, (), 2500, 2500),
]


@pytest.mark.parametrize("case", LARGE, ids=lambda c: f"{c.dtype}-{c.batch}-{c.channels}-{c.spatial}-{c.memory}")
def test_large(emulated: Namespace, case: Case) -> None:
    comparison.affine(emulated, case, "tanh", 1.0, 1.0, 0)
    comparison.additive(emulated, case)
    comparison.actnorm(emulated, case, True)
    comparison.leaky_relu(emulated, case, 0.9)
    comparison.permute(emulated, case)
    if case.channels <= 64:
        comparison.linear(emulated, case)


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_results_do_not_depend_on_the_order_of_threads_and_blocks(
    emulated: Namespace, reverse_order: Callable[[bool], None], memory: str
) -> None:
    case = replace(LARGE[0], memory=memory)
    x, params, grad, grad_logdet = case.tensor(), case.tensor(), case.tensor(), torch.randn(case.batch)
    scale, shift, weight = torch.randn(12), torch.randn(12), torch.randn(12, 12)

    def everything() -> list[torch.Tensor]:
        return [
            *emulated.affine_coupling(x, params, None, None, 6, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, False),
            *emulated.affine_coupling_backward(
                grad, grad_logdet, x, params, None, None, 6, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, False
            ),
            *emulated.actnorm(x, scale, shift, True, False),
            *emulated.actnorm_backward(grad, grad_logdet, x, scale, shift, True, False),
            *emulated.leaky_relu(x, 0.9, False),
            emulated.channel_linear(x, weight),
        ]

    expected = everything()
    reverse_order(True)
    for a, b in zip(everything(), expected, strict=True):
        assert torch.equal(a, b)


def test_padding_around_a_view_is_left_alone(emulated: Namespace) -> None:
    case = Case(torch.float32, 2, 6, (4, 4), 3, 3)
    wide = torch.full((2, 10, 4, 4), 7.0)
    out, params, logdet = wide[:, 2:8], case.tensor(), torch.zeros(2)
    emulated.affine_coupling_out(
        case.tensor(), params, None, None, 3, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, False, out, logdet
    )
    assert (wide[:, :2] == 7).all() and (wide[:, 8:] == 7).all() and (out != 7).all()


def test_a_permutation_outside_the_channels_is_caught(emulated: Namespace) -> None:
    x = torch.randn(2, 4, 3)
    with pytest.raises(RuntimeError, match="permute_kernel.*access to global memory at index"):
        emulated.permute_channels(x, torch.tensor([0, 1, 2, 4]), False)
