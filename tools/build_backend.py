"""The build back end of pyproject.toml: setuptools, plus the one question of where the build finds torch's headers.

Compiling needs torch, and torch is several GB. So an isolated build (plain `pip install .`) borrows the torch of the
environment that flowkit is installed into; asks for one of its own only where there is none; and asks for none where
there is no compiler, since nothing is compiled then.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import build_sdist, get_requires_for_build_sdist

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

TORCH = "torch>=2.10"
Settings = dict[str, Any] | None


def has_compiler() -> bool:
    """Whether a C++ compiler is at hand: $CXX, or one of the usual names on PATH."""
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++", "cl"]
    return any(shutil.which(name) for name in names)


def borrow_torch() -> bool:
    """Make the environment's torch importable inside pip's isolated build; False where there is none."""
    if importlib.util.find_spec("torch") is not None:
        return True
    outer = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    found = next((path for path in outer if os.path.isdir(os.path.join(path, "torch"))), None)
    if found is None:
        return False
    sys.path.append(found)  # last: the build's own setuptools and pybind11 come first
    return True


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """torch, where something will be compiled and there is no torch to borrow."""
    return [TORCH] if has_compiler() and not borrow_torch() else []


get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel against the environment's torch, or the one that was asked for."""
    borrow_torch()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """The same for `pip install --editable .`."""
    borrow_torch()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """Metadata comes from setup.py, which looks for torch too."""
    borrow_torch()
    return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    """The same for `pip install --editable .`."""
    borrow_torch()
    return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)
