"""Operators can be captured in a CUDA graph: by the text of csrc here, by capture and replay where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import flowkit.ops  # noqa: F401, fills OPERATORS
from flowkit.ops._operator import OPERATORS
from tests.cuda_on_cpu.capture_rules import hazards, sources
from tests.ops.cases import Case, make_case

# A source of csrc, a line that ends it, and what the rules must say; "" for what they must let pass.
PLANTED = [
    ("cuda/actnorm.cu", "void f(float* p) { cudaMalloc(&p, 4); }", "cudaMalloc is not"),
    ("cuda/actnorm.cu", "void f(float* p) { cudaFreeAsync(p, 0); }", "cudaFreeAsync is not"),
    ("cuda/actnorm.cu", "void f() { cudaDeviceSynchronize(); }", "cudaDeviceSynchronize is not"),
    ("cuda/actnorm.cu", "void f(Stream s) { cudaStreamSynchronize((cudaStream_t)s); }", "cudaStreamSynchronize is not"),
    ("cuda/actnorm.cu", "void f(int* a, int* b) { cudaMemcpy(a, b, 4, cudaMemcpyDeviceToHost); }", "cudaMemcpy is not"),
    ("operators/linear.cpp", "void f() { cublasCreate(nullptr); }", "cublasCreate is not"),
    ("cuda/actnorm.cu", "void f() { cuStreamSynchronize(0); }", "cuStreamSynchronize is not"),
    ("cuda/actnorm.cu", "// cudaMalloc, thrust::sort and <<< in a comment", ""),
    ("cuda/actnorm.cu", "void f() { thrust::sort(a, b); }", "thrust:: may allocate"),
    ("cuda/actnorm.cu", "void f() { permute_kernel<<<1, 2>>>(x); }", "outside FLOWKIT_LAUNCH"),
    ("cuda/actnorm.cu", "void f() { FLOWKIT_LAUNCH((k<S, 1>), 1, 2, 0, nullptr, x); }", "a launch on `nullptr`"),
    ("cuda/actnorm.cu", "void f() { FLOWKIT_LAUNCH((k<S, 1>), dim3(1, 2), n(1, 2), 0, other, x); }", "on `other`"),
    ("cuda/actnorm.cu", "void f() { FLOWKIT_LAUNCH((k<S, 1>), dim3(1, 2), n(1, 2), 0, stream, x); }", ""),
    ("cuda/actnorm.cu", "int f(Array a) { return *static_cast<const int*>(a.data); }", "could be read on the host"),
    ("cuda/actnorm.cu", "auto f(Array a) { return view(static_cast<const int*>(a.data), 1); }", ""),
    ("operators/linear.cpp", 'void f() { torch_call_dispatcher("aten::nonzero", "", s, v); }', "aten::nonzero is not"),
    ("operators/linear.cpp", "void f() { aoti_torch_item_float32(t, &v); }", "aoti_torch_item_float32 makes"),
    ("operators/linear.cpp", "void f() { t.item(); }", "item makes the host wait"),
    ("operators/linear.cpp", "void f() { x.cpu(); }", "cpu makes the host wait"),
    ("operators/linear.cpp", "void f() { g = static_cast<const float*>(t.data_ptr())[0]; }", "read on the host"),
    (
        "operators/linear.cpp",
        "void f() { if (t.is_cuda()) { g = *static_cast<float*>(t.data_ptr()); } }",
        "on the host",
    ),
    ("operators/linear.cpp", "void f() { if (t.is_cpu()) {} g = *static_cast<float*>(t.data_ptr()); }", "on the host"),
    ("operators/linear.cpp", "void f() { if (t.is_cpu()) { g = *static_cast<float*>(t.data_ptr()); } }", ""),
    ("operators/linear.cpp", "void f() { if (!t.is_cuda()) { { g = *static_cast<int*>(t.data_ptr()); } } }", ""),
    ("operators/linear.cpp", "void f() { cuda::permute(args, nullptr); }", "past FLOWKIT_RUN"),
]


@pytest.mark.parametrize(("name", "line", "message"), PLANTED, ids=[line for _, line, _ in PLANTED])
def test_the_rules_find_what_breaks_a_capture(name: str, line: str, message: str) -> None:
    text = sources()[name]
    found = hazards(name, f"{text}\n{line}\n")
    if not message:
        assert not found
        return
    last = text.count("\n") + 2
    assert any(f"{name}:{last}: " in hazard and message in hazard for hazard in found), found


def test_no_source_breaks_a_capture() -> None:
    texts = sources()
    assert {"launch.h", "cuda/coupling.cuh", "cuda/linear.cu", "operators/tensors.h"} <= set(texts)
    assert [hazard for name, text in texts.items() for hazard in hazards(name, text)] == []


def capture(run: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """A CUDA graph of ``run`` as a function that replays it, and the tensors that it writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # libraries set themselves up outside the capture
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    return graph.replay, results


def step(case: Case) -> tuple[Tensor, ...]:
    """Outputs of an operator and the gradients of its tensors."""
    results = case.operator(None, False, *case.args)
    leaves = [t for t in case.tensors if t.requires_grad]
    grads = torch.autograd.grad(list(results), leaves, [torch.ones_like(r) for r in results])
    return *(r.detach() for r in results), *grads


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a capture needs a GPU")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(5, 6), (2, 6, 4, 5)])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_captured_operator_replays_on_new_values(
    name: str, inverse: bool, shape: tuple[int, ...], channels_last: bool
) -> None:
    def case(seed: int) -> Case:
        made = make_case(name, shape, torch.float32, channels_last=channels_last, inverse=inverse, seed=seed)
        return replace(made, args=tuple(a.cuda() if isinstance(a, Tensor) else a for a in made.args)).requires_grad()

    captured, fresh = case(0), case(1)
    replay, results = capture(lambda: step(captured))
    with torch.no_grad():
        for target, source in zip(captured.tensors, fresh.tensors, strict=True):
            target.copy_(source)
    replay()
    torch.testing.assert_close(results, step(fresh), rtol=1e-5, atol=1e-5)
