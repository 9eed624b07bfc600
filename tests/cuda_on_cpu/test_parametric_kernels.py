"""The CUDA kernels of couplings with parameters for each element against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit.ops.rational_quadratic import PRESETS
from tests.cuda_on_cpu import comparison_flows
from tests.cuda_on_cpu.comparison import Case, Namespace
from tests.cuda_on_cpu.strategies import cases

SPLINES = [(preset, tails) for preset, options in PRESETS.items() for tails in options.tails]


@pytest.mark.parametrize(("preset", "tails"), SPLINES)
@settings(max_examples=15)
@given(case=cases(most_pixels=100), bins=st.sampled_from([2, 3, 8]))
def test_rational_quadratic_coupling(emulated: Namespace, preset: str, tails: str, case: Case, bins: int) -> None:
    comparison_flows.rational_quadratic(emulated, case, bins, preset, tails)


@pytest.mark.parametrize("components", [1, 5])
@settings(max_examples=15)
@given(case=cases(most_pixels=100))
def test_mixture_logistic_coupling(emulated: Namespace, components: int, case: Case) -> None:
    comparison_flows.parametric(
        emulated, "mixture_logistic_coupling", case, 3 * components + 2, (components, 1.5, -7.0)
    )


# Several chunks a sample; samples that share a block; untouched channels among slots; more elements than slots.
LARGE = [
    Case(torch.float32, 2, 6, (28, 28), 3, 3),
    Case(torch.float32, 1, 12, (21, 21), 5, 6, memory="channels_last", inverse=True),
    Case(torch.float64, 90, 9, (), 2, 4, permuted=True),
    Case(torch.bfloat16, 3, 300, (), 100, 200, permuted=True, inverse=True),
]


@pytest.mark.parametrize("case", LARGE, ids=lambda c: f"{c.dtype}-{c.batch}-{c.channels}-{c.spatial}-{c.memory}")
def test_large(emulated: Namespace, case: Case) -> None:
    comparison_flows.rational_quadratic(emulated, case, 8, "nflows")


@pytest.mark.parametrize("bins", [1, 40, 300])
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_any_number_of_parameters(emulated: Namespace, bins: int, memory: str) -> None:
    case = Case(torch.float64, 2, 5, (3, 7), 1, 3, memory=memory, permuted=True)
    comparison_flows.rational_quadratic(emulated, case, bins, "zuko")


@pytest.mark.parametrize("case", LARGE, ids=lambda c: f"{c.dtype}-{c.batch}-{c.channels}-{c.spatial}-{c.memory}")
def test_results_do_not_depend_on_the_order_of_threads_and_blocks(
    emulated: Namespace, reverse_order: Callable[[bool], None], case: Case
) -> None:
    case = replace(case, batch=min(case.batch, 20))
    x, params, grad_logdet = case.tensor(), case.tensor(case.count * 23), torch.randn(case.batch).to(case.accumulator())
    options = (case.permutation(), case.begin, 8, 0, 0, -3.0, 3.0, -3.0, 3.0, 1e-3, 1e-3, 1.0, 1.0, case.inverse)

    def everything() -> list[torch.Tensor]:
        return [
            *emulated.rational_quadratic_coupling(x, params, *options),
            *emulated.rational_quadratic_coupling_backward(x, grad_logdet, x, params, *options),
        ]

    expected = everything()
    reverse_order(True)
    for a, b in zip(everything(), expected, strict=True):
        assert torch.equal(a, b)
