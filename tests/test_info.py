"""`flowkit.info()` and `python -m flowkit info`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import flowkit
from flowkit import _native
from flowkit.__main__ import main

KEYS = {"version", "torch", "python", "backends", "reason", "instruction_set", "cuda_architectures", "gpu"}


def test_info_tells_what_runs_here() -> None:
    facts = flowkit.info()
    assert set(facts) == KEYS
    assert facts["version"] == flowkit.__version__
    assert facts["torch"] == torch.__version__
    assert facts["backends"][-1] == "reference"
    assert ("cpu" in facts["backends"]) == _native.available
    assert bool(facts["reason"]) == (not _native.available)
    assert facts["instruction_set"] in (("avx512", "avx2", "generic") if _native.available else (None,))


def test_info_without_the_extension_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "available", False)
    monkeypatch.setattr(_native, "reason", "no C++ compiler")
    facts = flowkit.info()
    assert facts["backends"] == ["reference"]
    assert facts["instruction_set"] is None
    assert facts["cuda_architectures"] == []
    assert facts["reason"] == "no C++ compiler"


def test_command_line_prints_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for label in ("flowkit", "torch", "back ends", "instruction set", "CUDA architectures", "GPU"):
        assert f"\n{label:<20}" in "\n" + printed
    assert torch.__version__ in printed


def test_python_dash_m_flowkit_needs_a_command() -> None:
    result = subprocess.run([sys.executable, "-m", "flowkit"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "info" in result.stderr
    assert "bench" in result.stderr
