"""The CUDA kernels of flow steps (coupling, permutation, actnorm in one) against plain torch."""

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


@pytest.mark.parametrize("clamp", CLAMPS)
@settings(max_examples=25)
@given(
    case=cases(), layout=st.sampled_from([None, 0, 1, 2, 3]), form=st.sampled_from([0, 1, 2]), log_scale=st.booleans()
)
def test_affine_step(
    emulated: Namespace, clamp: str, case: Case, layout: int | None, form: int, log_scale: bool
) -> None:
    comparison.affine(emulated, case, clamp, CLAMPS[clamp][0], 0.7, layout, form, log_scale)


@few
@given(case=cases(), log_scale=st.booleans())
def test_additive_step(emulated: Namespace, case: Case, log_scale: bool) -> None:
    comparison.additive(emulated, case, log_scale)


# Several chunks of positions and of elements, packs along pixels and along channels.
LARGE = [
    Case(torch.float32, 5, 6, (32, 32), 3, 3),
    Case(torch.float32, 3, 16, (13, 13), 8, 8, memory="channels_last", inverse=True),
    Case(torch.bfloat16, 2, 5, (41, 41), 1, 3, permuted=True, inverse=True),
    Case(torch.float64, 300, 7, (), 3, 4, permuted=True),
]


@pytest.mark.parametrize("case", LARGE, ids=lambda c: f"{c.dtype}-{c.batch}-{c.channels}-{c.spatial}-{c.memory}")
def test_large(emulated: Namespace, case: Case) -> None:
    comparison.affine(emulated, case, "tanh", 1.0, 1.0, 0, 0, True)
    comparison.additive(emulated, case, False)


@pytest.mark.parametrize("case", LARGE, ids=lambda c: f"{c.dtype}-{c.batch}-{c.channels}-{c.spatial}-{c.memory}")
def test_results_do_not_depend_on_the_order_of_threads_and_blocks(
    emulated: Namespace, reverse_order: Callable[[bool], None], case: Case
) -> None:
    case = replace(case, batch=min(case.batch, 100))
    wide = case.accumulator()
    x, params, grad_logdet = case.tensor(), case.tensor(2 * case.count), torch.randn(case.batch, dtype=wide)
    norm = torch.randn(2, case.channels, dtype=wide)
    tensors, options = (params, None, *norm, case.permutation()), (case.begin, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, True)

    def everything() -> list[torch.Tensor]:
        return [
            *emulated.affine_step(x, *tensors, *options, case.inverse),
            *emulated.affine_step_backward(x, grad_logdet, x, *tensors, *options, case.inverse),
        ]

    expected = everything()
    reverse_order(True)
    for a, b in zip(everything(), expected, strict=True):
        assert torch.equal(a, b)
