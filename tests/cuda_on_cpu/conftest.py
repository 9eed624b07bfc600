"""The CUDA kernels, compiled for the CPU once a session and loaded as torch.ops.flowkit_emulated."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.cuda_on_cpu.emulated_build import build_operators


@pytest.fixture(scope="session")
def emulated_library() -> Path:
    """The shared library with the emulated operators, loaded."""
    library = build_operators()
    torch.ops.load_library(library)
    return library


@pytest.fixture(scope="session")
def emulated(emulated_library: Path) -> torch._ops._OpNamespace:
    """The emulated operators."""
    return torch.ops.flowkit_emulated


@pytest.fixture
def reverse_order(emulated_library: Path) -> Iterator[Callable[[bool], None]]:
    """Switches the order in which blocks and threads run."""
    reverse = ctypes.CDLL(str(emulated_library)).flowkit_emulation_reverse
    reverse.argtypes = [ctypes.c_bool]
    yield reverse
    reverse(False)
