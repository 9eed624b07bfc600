"""Compiles kernel sources for the CPU with the emulation header; objects are cached under build/."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "cuda_on_cpu"
# The emulation jumps between stacks, which fortified longjmp forbids; unique symbols would tie two libraries together.
FLAGS = ["-O1", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-U_FORTIFY_SOURCE"]


def compiler() -> str:
    """The host compiler, as setup.py finds it: $CXX or a usual name."""
    for name in (os.environ.get("CXX"), "g++", "c++"):
        if name and shutil.which(name.split()[0]):
            return name
    raise RuntimeError("the tests of the CUDA kernels need a C++ compiler: install g++ or set CXX")


def build(
    name: str,
    sources: Sequence[Path],
    includes: Sequence[Path],
    flags: Sequence[str] = (),
    libraries: Sequence[str] = (),
) -> Path:
    """Compiles ``sources`` (.cu as C++) into one shared library and returns its path; unchanged objects are reused."""
    CACHE.mkdir(parents=True, exist_ok=True)
    own = [folder for folder in includes if CACHE in folder.parents or ROOT in folder.parents]
    headers = sorted({h for folder in own for pattern in ("*.h", "*.cuh") for h in folder.rglob(pattern)})
    command = [*compiler().split(), "-std=c++20", *FLAGS, *(f"-I{folder}" for folder in own)]
    command += [*(f"-isystem{folder}" for folder in includes if folder not in own), *flags]
    common = _digest([*command, *(h.read_bytes() for h in headers)])

    def compile_object(source: Path) -> Path:
        target = CACHE / f"{source.stem}-{_digest([common, source.read_bytes()])}.o"
        if not target.exists():
            _run([*command, "-c", "-x", "c++", str(source), "-o"], target)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_object, sources))
    library = CACHE / f"{name}-{_digest([*map(str, objects), *libraries])}.so"
    if not library.exists():
        _run([*compiler().split(), "-shared", *map(str, objects), *libraries, "-o"], library)
    return library


def _digest(parts: Sequence[str | bytes]) -> str:
    joined = b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(joined).hexdigest()[:16]


def _run(command: Sequence[str], target: Path) -> None:
    """Runs a compiler into a file that appears only when complete, so that test runs side by side share the cache."""
    partial = target.with_suffix(f".{os.getpid()}.partial")
    result = subprocess.run([*command, str(partial)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-4000:]}")
    partial.replace(target)
