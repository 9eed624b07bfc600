"""Compiles kernel sources for the CPU with the emulation header; objects are cached under build/."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CACHE = ROOT / "build" / "cuda_on_cpu"
TORCH = Path(torch.__file__).parent
# The emulation jumps between stacks, which fortified longjmp forbids.
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-U_FORTIFY_SOURCE"]
REGISTRATION = ["-DFLOWKIT_EMULATE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000", f"-isystem{TORCH / 'include'}"]
LIBRARIES = [f"-L{TORCH / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{TORCH / 'lib'}"]


def compiler() -> list[str] | None:
    """The host compiler's command, as setup.py finds it ($CXX or a usual name), or None."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name.split()[0]):
            return name.split()
    return None


def build_operators(csrc: Path = CSRC) -> Path:
    """The operators of ``csrc`` over the emulated kernels, as a library for torch.ops.load_library."""
    operators, kernels = sorted((csrc / "operators").glob("*.cpp")), sorted((csrc / "cuda").glob("*.cu"))
    return build([csrc / "register.cpp", *operators, *kernels, csrc / "cuda/emulation/scheduler.cpp"], LIBRARIES)


def build(sources: Sequence[Path], libraries: Sequence[str] = ()) -> Path:
    """Compiles ``sources`` (.cu as C++) into one shared library and returns its path; unchanged objects are reused."""
    if compiler() is None:
        pytest.skip("the CUDA kernels run on the CPU only where a C++ compiler can compile them")
    CACHE.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [str(o) for o in pool.map(_compile, sources)]
    library = CACHE / f"library-{_digest([*objects, *libraries])}.so"
    if not library.exists():
        _run([*compiler(), "-shared", *objects, *libraries, "-o"], library)
    return library


def _compile(source: Path) -> Path:
    registration = REGISTRATION if source.suffix == ".cpp" and source.parent.name != "emulation" else []
    command = [*compiler(), *FLAGS, f"-I{CSRC / 'cuda'}", *registration]
    # Keyed by contents, so that a copy of the sources with one change compiles only what the change reaches.
    target = CACHE / f"{source.stem}-{_digest([*command, torch.__version__, *_contents(source)])}.o"
    if not target.exists():
        _run([*command, "-c", "-x", "c++", str(source), "-o"], target)
    return target


def _contents(source: Path) -> list[str]:
    """The text of a source and of every header of ours that it includes."""
    seen: dict[Path, str] = {}
    todo = [source.resolve()]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen[path] = path.read_text()
        for name in re.findall(r'^#include "(.+)"', seen[path], re.M):
            found = [p.resolve() for p in (path.parent / name, CSRC / "cuda" / name) if p.exists()]
            todo.extend(found[:1])
    return list(seen.values())


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _run(command: Sequence[str], target: Path) -> None:
    """Runs a compiler into a file that appears only when complete, so that test runs side by side share the cache."""
    partial = target.with_suffix(f".{os.getpid()}.partial")
    result = subprocess.run([*command, str(partial)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-4000:]}")
    partial.replace(target)
