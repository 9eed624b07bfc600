"""What would break a CUDA graph's capture, found in the text of csrc: the rules of test_capture_safety.py.

A capture forbids whatever makes the host wait for the device, allocates past torch's allocator, or launches on another
stream than the current one. Kernels and launchers may therefore use four names of the CUDA runtime, launch through
FLOWKIT_LAUNCH on ``stream`` alone, and operators may look at the contents of a tensor only where it is on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.cuda_on_cpu.emulated_build import CSRC

RUNTIME = {"cudaStream_t", "cudaError_t", "cudaSuccess", "cudaGetLastError", "cudaGetErrorString"}
# Operators of torch that csrc may call through the dispatcher: none looks at values on the host.
DISPATCHED = {"aten::convolution_backward", "aten::matmul", "aten::neg_", "aten::tril_", "aten::triu_"}
WAITING = (
    r"\b((?:\w+_)?item(?:_\w+)?|_local_scalar_dense|nonzero\w*|is_nonzero|masked_select|equal|synchronize|cpu)\s*\("
)
LAUNCHER = "cuda/device.cuh"  # FLOWKIT_LAUNCH is defined here
TYPED_POINTER = (
    r"(?:static|reinterpret)_cast<\s*(?:const\s+)?(?!char\b|void\b|uintptr_t\b)[\w:]+(?:<[^>]*>)?\s*(?:const\s*)?\*>"
)
ON_CPU = r"!\s*[\w.>-]+(?:\.|->)is_cuda\(\)|(?<![!\w.])[\w.>-]+(?:\.|->)is_cpu\(\)"


def sources() -> dict[str, str]:
    """Text by path below csrc; the CPU back end and the emulation never run on a GPU."""
    paths = (p for p in CSRC.rglob("*") if p.suffix in (".cpp", ".h", ".cu", ".cuh"))
    named = {p.relative_to(CSRC).as_posix(): p for p in sorted(paths)}
    return {n: p.read_text() for n, p in named.items() if not n.startswith(("cpu/", "cuda/emulation/"))}


def hazards(name: str, text: str) -> list[str]:
    """``file:line: what is wrong`` for each hazard in one source of csrc."""
    code = without_comments(text)
    return [f"{name}:{code.count(chr(10), 0, at) + 1}: {what}" for at, what in sorted(_find(name, code))]


def without_comments(text: str) -> str:
    """The code alone: comments become blanks of the same number of lines; strings stay."""
    pattern = r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/'

    def blank(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith('"') else re.sub(r"[^\n]", " ", match[0])

    return re.sub(pattern, blank, text, flags=re.S)


def _find(name: str, code: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(r"\bcu(?:da|blas|dnn|rand)?[A-Z]\w*", code):
        if match[0] not in RUNTIME:
            yield (
                match.start(),
                f"{match[0]} is not among the names of the CUDA runtime that a capture is known to allow",
            )
    for match in re.finditer(r"\b(?:thrust|cub)::", code):
        yield match.start(), f"{match[0]} may allocate, and launches on the default stream unless told otherwise"
    if name != LAUNCHER:
        for match in re.finditer("<<<", code):
            yield match.start(), "a launch outside FLOWKIT_LAUNCH, whose stream nobody checks"
    for match in re.finditer(r"\bFLOWKIT_LAUNCH\(", code):
        given = arguments(code, match.end())
        if len(given) > 4 and given[4] != "stream" and not code[: match.start()].endswith("#define "):
            yield match.start(), f"a launch on `{given[4]}`, not on the stream that the operator was given"
    for match in re.finditer(r'"(aten::\w+)"', code):
        if match[1] not in DISPATCHED:
            yield match.start(), f"{match[1]} is not among the operators of torch that are known not to wait"
    if name.startswith("cuda/"):
        for match in re.finditer(TYPED_POINTER, code):
            if match[0].startswith("static") and not code[: match.start()].rstrip().endswith("view("):
                yield (
                    match.start(),
                    "a pointer of a launcher that is no view for a kernel: it could be read on the host",
                )
    if name.startswith("operators/"):
        yield from _find_in_operators(name, code)


def _find_in_operators(name: str, code: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(WAITING, code):
        yield match.start(), f"{match[1]} makes the host wait for the device"
    for match in re.finditer(TYPED_POINTER, code):
        if not _runs_on_cpu_only(code, match.start()):
            yield match.start(), "a pointer that can be read on the host, outside a branch for CPU tensors"
    if name != "operators/tensors.h":
        for match in re.finditer(r"\bcuda::(?!\w+_size\b)\w+\s*\(", code):
            yield match.start(), "a call of the CUDA back end past FLOWKIT_RUN, which passes the current stream"


def arguments(code: str, start: int) -> list[str]:
    """The arguments of a call whose opening parenthesis ends at ``start``."""
    depth, found = 0, [""]
    for character in code[start:]:
        if character == ")" and depth == 0:
            break
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [" ".join(a.split()) for a in found]


def _runs_on_cpu_only(code: str, position: int) -> bool:
    """Whether a block around ``position`` is opened by a condition that the tensor is on the CPU."""
    depth = 0
    for at in range(position - 1, -1, -1):
        if code[at] == "}":
            depth += 1
        elif code[at] == "{":
            if depth == 0 and re.search(rf"\bif\s*\([^;{{}}]*(?:{ON_CPU})[^;{{}}|]*\)\s*$", code[:at]):
                return True
            depth = max(depth - 1, 0)
    return False
