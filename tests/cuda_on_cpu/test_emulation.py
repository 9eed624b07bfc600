"""The emulation itself: correct kernels pass, and each planted defect raises with kernel, thread and index."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cuda_on_cpu.emulated_build import CSRC, build

DEFECTS = {
    "global_read_off_by_one": r"thread \(127, 0, 0\): access to global memory at index 128 .* extent 128",
    "misaligned_pack": r"index 1 is not aligned to its 16 bytes",
    "shared_write_off_by_one": r"access to shared array `cells` at index 128, outside its extent 128",
    "shared_never_written": r"read of shared array `cells` at index 5, which no thread of the block wrote",
    "barrier_in_branch": r"divergent barrier: .* while thread 64 of the block waits at",
    "barrier_after_exit": r"divergent barrier: .* while thread 77 of the block has exited",
    "shuffle_without_lane": r"thread \(32, 0, 0\): divergent warp: __shfl_down_sync .* names lane 8 .* has exited",
    "shuffle_in_partial_warp": r"names lane 4 in its mask 0xffffffff, but the block has only 100 threads",
    "shuffle_outside_mask": r"reads from lane 20, which mask 0x0000ffff leaves out",
    "missing_barrier": r"shared array `cells` at index 1, which no thread",
    "missing_second_barrier": r"race on shared array `cells`: reads index 0, which thread 0 wrote with no barrier",
    "block_too_large": r"invalid launch: .* 1025 threads",
    "shared_too_large": r"invalid launch: .* 50176 bytes",
}


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    """The tiny kernels of planted.cu, compiled for the CPU."""
    scheduler = CSRC / "cuda" / "emulation" / "scheduler.cpp"
    return ctypes.CDLL(str(build([Path(__file__).with_name("planted.cu"), scheduler])))


@pytest.fixture(scope="module")
def run(library: ctypes.CDLL) -> Callable[[str], str]:
    """Runs a kernel of planted.cu by name and returns what went wrong, "" if nothing."""

    def call(name: str) -> str:
        message = ctypes.create_string_buffer(2048)
        library.run(name.encode(), message, len(message))
        return message.value.decode()

    return call


def test_correct_kernels_pass(run: Callable[[str], str]) -> None:
    assert run("correct") == ""


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defect_raises(run: Callable[[str], str], name: str) -> None:
    with pytest.raises(RuntimeError, match=DEFECTS[name]):
        if message := run(name):
            raise RuntimeError(message)
    assert run("correct") == "", "an abandoned kernel must leave the emulation usable"


@given(st.floats(width=32), st.booleans())
def test_sixteen_bit_types_round_as_torch(library: ctypes.CDLL, value: float, half: bool) -> None:
    library.round_trip.restype, library.round_trip.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_bool]
    expected = torch.tensor(value).to(torch.float16 if half else torch.bfloat16).float()
    torch.testing.assert_close(torch.tensor(library.round_trip(value, half)), expected, rtol=0, atol=0, equal_nan=True)
