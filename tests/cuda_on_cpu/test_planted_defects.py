"""The tests of the kernels can fail: with one bound or barrier changed in a copy of the sources, they do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.cuda_on_cpu import comparison, comparison_flows
from tests.cuda_on_cpu.comparison import Case, Namespace
from tests.cuda_on_cpu.emulated_build import CSRC, build_operators

NAMESPACE = "flowkit_planted"
WALK = "e < task.end; e += walk.group * N"
# File, text, replacement: the first occurrence of the text is the forward kernel's.
DEFECTS = {
    "coupling": ("cuda/coupling.cuh", WALK, "e <= task.end; e += walk.group * N"),
    "leaky_relu": ("cuda/elementwise.cu", WALK, "e < task.end - N; e += walk.group * N"),
    "actnorm": ("cuda/norm.cuh", "    __syncthreads();\n", ""),
    "linear": ("cuda/linear.cu", "row < channels && column < channels", "row < channels && column <= channels"),
    "parametric": ("cuda/parametric.cuh", "      stage(count);\n      __syncthreads();\n", "      stage(count);\n"),
    "masked_conv": ("cuda/masked_conv.cu", "    const int all = fronts.pixels(front);", "    const int all = 1;"),
}
IMAGES = Case(torch.float32, 2, 6, (3, 3), 3, 3)
# What then goes red: a detector of the emulation, or the comparison of values.
SYMPTOMS: dict[str, tuple[Callable[[Namespace], None], str]] = {
    "coupling": (
        partial(comparison.affine, case=IMAGES, clamp="tanh", bound=1.0, gain=1.0, layout=0),
        r"kernel \(coupling_kernel.*\): block .*: access to global memory at index 108 .* extent 108",
    ),
    "leaky_relu": (partial(comparison.leaky_relu, case=IMAGES, slope=0.9), r"Tensor-likes are not close"),
    "actnorm": (
        partial(comparison.actnorm, case=Case(torch.float32, 64, 4, (), 0, 0), log_scale=True),
        r"kernel \(channel_sums_columns.*\): block .* read of shared array `tile` .* no thread of the block wrote",
    ),
    "linear": (
        partial(comparison.linear, case=IMAGES),
        r"kernel \(linear_kernel.*\): block .* access to global memory at index 36 .* extent 36",
    ),
    "masked_conv": (
        partial(comparison_flows.masked_conv, case=IMAGES, kernel=(1, 3), dilation=(1, 1)),
        r"Tensor-likes are not close",
    ),
    "parametric": (
        partial(comparison_flows.rational_quadratic, case=IMAGES, bins=3, preset="nflows"),
        r"kernel \(parametric_kernel.*\): block .* read of shared array `tile` .* no thread of the block wrote",
    ),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """The operators, built from a copy of the sources with all the defects."""
    copy = tmp_path_factory.mktemp("planted") / "csrc"
    shutil.copytree(CSRC, copy)
    for path, text, replacement in [*DEFECTS.values(), ("register.cpp", "flowkit_emulated\n", f"{NAMESPACE}\n")]:
        _replace_first(copy / path, text, replacement)
    torch.ops.load_library(build_operators(copy))
    return getattr(torch.ops, NAMESPACE)


def _replace_first(path: Path, text: str, replacement: str) -> None:
    source = path.read_text()
    assert text in source, f"{path.name} no longer has the text to plant a defect in: {text!r}"
    path.write_text(source.replace(text, replacement, 1))


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_turns_the_comparison_red(emulated: Namespace, planted: Namespace, name: str) -> None:
    compare, symptom = SYMPTOMS[name]
    compare(emulated)
    with pytest.raises((RuntimeError, AssertionError), match=symptom) as caught:
        compare(planted)
    print(f"{name}: {str(caught.value).splitlines()[0]}")
