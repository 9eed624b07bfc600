"""The operator comparisons once more, with the CPU kernels of the lesser instruction sets that this machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowkit import _native

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("capability", ["generic", "avx2"])
def test_lesser_instruction_sets_compute_the_same(capability: str) -> None:
    environment = {**os.environ, "FLOWKIT_CPU_CAPABILITY": capability}
    if _native.available:
        chosen = "import flowkit._C as c; print(c.cpu_capability())"
        told = subprocess.run([sys.executable, "-c", chosen], env=environment, capture_output=True, text=True, cwd=ROOT)
        assert told.stdout.strip() in ("generic", capability)
    names = ["test_forward_and_backward_equal_the_reference", "test_clamps_are_accurate_over_their_range"]
    tests = [f"{Path(__file__).with_name('test_operators.py')}::{name}" for name in names]
    tests += [str(Path(__file__).with_name(f"test_stacked_{name}.py")) for name in ("linear", "mlp")]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout[-3000:]
