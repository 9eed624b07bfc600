"""The CUDA kernels that solve triangular maps, against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cuda_on_cpu import comparison_flows
from tests.cuda_on_cpu.comparison import Case, Namespace
from tests.cuda_on_cpu.strategies import cases

NETS: list[dict[str, Any]] = [
    {"hidden": 20, "depth": 2, "activation": "tanh"},
    {"hidden": (7, 70, 33), "activation": "silu"},
    {"hidden": 40, "depth": 0, "activation": "relu"},
    {"hidden": 24, "depth": 2, "residual": "activated", "activation": "elu"},
    {"hidden": 24, "depth": 1, "residual": "linear", "activation": "softplus"},
    {"hidden": 300, "depth": 1, "activation": "leaky_relu"},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("condition", [0, 3])
@pytest.mark.parametrize("net", NETS, ids=lambda n: f"{n['hidden']}-{n.get('residual')}")
def test_made_affine_inverse(emulated: Namespace, net: dict[str, Any], condition: int, dtype: torch.dtype) -> None:
    for batch, channels in ((1, 1), (5, 7), (20, 6)):
        case = Case(dtype, batch, channels, (), 0, 0, seed=batch)
        ranks = [(3 * c + 1) % channels for c in range(channels)] if channels != 6 else [1, 0, 1, 0, 2, 2]
        comparison_flows.made_inverse(emulated, case, condition, net, ranks)


def test_made_does_not_depend_on_the_order_of_threads_and_blocks(
    emulated: Namespace, reverse_order: Callable[[bool], None]
) -> None:
    reverse_order(True)
    comparison_flows.made_inverse(emulated, Case(torch.float64, 20, 5, (), 0, 0), 2, NETS[0], [4, 1, 0, 2, 3])


@settings(max_examples=40)
@given(
    case=cases(most_pixels=120),
    kernel=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
    dilation=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_masked_conv_solve(emulated: Namespace, case: Case, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    rank = len(case.spatial)
    comparison_flows.masked_conv(emulated, case, kernel[:rank], dilation[:rank])


# Several pixels a thread, a wavefront in several turns, more channels than threads; depth, height and width at once.
LARGE = [
    (Case(torch.float32, 2, 70, (6, 7), 0, 0), (3, 3)),
    (Case(torch.float64, 1, 300, (2, 3), 0, 0, inverse=True), (3, 5)),
    (Case(torch.float32, 1, 1, (20, 20), 0, 0), (1, 1)),
    (Case(torch.float32, 1, 2, (300, 3), 0, 0, memory="channels_last"), (1, 3)),
    (Case(torch.bfloat16, 2, 5, (4, 5, 6), 0, 0, inverse=True), (3, 3, 3)),
]


@pytest.mark.parametrize(("case", "kernel"), LARGE, ids=lambda v: str(getattr(v, "spatial", v)))
def test_masked_conv_solve_large(
    emulated: Namespace, reverse_order: Callable[[bool], None], case: Case, kernel: tuple[int, ...]
) -> None:
    comparison_flows.masked_conv(emulated, case, kernel, (1,) * len(kernel))
    reverse_order(True)
    comparison_flows.masked_conv(emulated, case, kernel, (2,) * len(kernel))
