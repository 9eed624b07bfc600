"""Packaging: the version check of torch, the build back end's choice of torch, and the commands of the Makefile."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from flowkit import _native

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "tools" / "build_backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", ["1.13.1", "2.9.1", "2.9.0+cpu", "nonsense"])
def test_an_old_torch_is_refused_with_the_way_out(version: str) -> None:
    with pytest.raises(ImportError, match=r"flowkit needs torch >= 2\.10") as error:
        _native.check_torch_version(version)
    assert version in str(error.value)
    assert "pip install" in str(error.value)


@pytest.mark.parametrize("version", ["2.10.0", "2.14.1+cu130", "2.11.0a0+git123", "3.0.0"])
def test_a_supported_torch_is_accepted(version: str) -> None:
    _native.check_torch_version(version)


@pytest.mark.parametrize(
    ("compiler", "importable", "beside", "expected"),
    [
        (False, False, False, []),  # nothing is compiled: no torch for the build
        (True, True, False, []),  # no build isolation: torch is there
        (True, False, True, []),  # isolated: borrowed from the environment that flowkit goes to
        (True, False, False, ["torch>=2.10"]),
    ],
)
def test_the_build_asks_for_a_torch_of_its_own_only_if_needed(
    backend: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    compiler: bool,
    importable: bool,
    beside: bool,
    expected: list[str],
) -> None:
    if beside:
        (tmp_path / "torch").mkdir()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: "compiler" if compiler else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if importable else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert backend.get_requires_for_build_wheel() == expected
    assert backend.get_requires_for_build_editable() == expected
    assert (str(tmp_path) in sys.path) == (compiler and beside)


def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo "Python 3.9.18"; else exit 1; fi\n')
    old.chmod(0o755)
    result = subprocess.run(
        ["make", "test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert "flowkit needs Python 3.10 or newer" in result.stderr
    assert "Python 3.9.18" in result.stderr
    assert "make PYTHON=python3.11 test" in result.stderr
    assert not (tmp_path / "venv").exists()
