"""Decides which back ends are compiled, and compiles them with ninja.

The CPU back end needs a C++ compiler, the CUDA back end an nvcc and a CUDA build of torch that agree in their major
version. Everything declarative is in pyproject.toml.

    FLOWKIT_NATIVE=0      compile nothing (pure torch)
    FLOWKIT_CUDA=0|1      leave the CUDA back end out | fail if it cannot be built
    FLOWKIT_CUDA_ARCHS    compute capabilities, "8.0 9.0" by default; the last one is also kept as PTX
    CXX, MAX_JOBS         the C++ compiler; how many files to compile at once

At run time FLOWKIT_CPU_CAPABILITY=generic|avx2|avx512 asks for less than the machine has.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
TORCH_ABI = "0x020a000000000000"  # the LibTorch Stable ABI of torch 2.10
CPU_FILES = (
    "coupling",
    "actnorm",
    "leaky_relu",
    "permute",
    "made",
    "rational_quadratic",
    "mixture_logistic",
    "masked_conv",
    "stacked_linear",
)
X86_ISA = {
    "avx2": "-mavx2 -mfma -mf16c",
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512",
}


def version() -> str:
    return re.search(r'__version__ = "(.+)"', (ROOT / "flowkit" / "__init__.py").read_text())[1]


def find_compiler() -> str | None:
    return os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


def find_torch():
    try:
        import torch
    except ImportError:
        return None
    sys.path.insert(0, str(ROOT))
    found = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", torch.__version__).groups())
    if found < (2, 10):
        raise SystemExit(f"flowkit needs torch >= 2.10, found torch {torch.__version__}; pip install 'torch>=2.10'")
    return torch


class Toolkit:
    """The CUDA toolkit behind an nvcc, which may be a wrapper script: its root is what nvcc itself reports."""

    def __init__(self, nvcc: str) -> None:
        self.nvcc = nvcc
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
        release = re.search(r"release (\d+)\.", text)
        self.major = release[1] if release else None
        dry = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
        top = re.search(r"^#\$ TOP=(.+)$", dry, re.M)
        self.root = Path(top[1].strip()).resolve() if top else Path(nvcc).resolve().parent.parent

    def static_runtime(self) -> Path | None:
        return next(iter(sorted(self.root.glob("**/libcudart_static.a"))), None)


def find_cuda(torch) -> Toolkit | None:
    wanted = os.environ.get("FLOWKIT_CUDA")
    if wanted == "0":
        return None
    nvcc = shutil.which("nvcc")
    problem = None
    toolkit = Toolkit(nvcc) if nvcc else None
    if toolkit is None:
        problem = "nvcc is not on the PATH"
    elif torch.version.cuda is None:
        problem = "torch is a CPU build"
    elif torch.version.cuda.split(".")[0] != toolkit.major:
        problem = f"nvcc is of CUDA {toolkit.major}, torch of CUDA {torch.version.cuda}"
    elif toolkit.static_runtime() is None:
        problem = f"libcudart_static.a is not below {toolkit.root}"
    if problem is None:
        return toolkit
    if wanted == "1":
        raise SystemExit(f"FLOWKIT_CUDA=1, but the CUDA back end cannot be built: {problem}")
    print(f"flowkit: no CUDA back end: {problem}")
    return None


class Ninja:
    """A build.ninja file in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rules, self.edges, self.objects = folder, [], [], []

    def rule(self, name: str, command: str, depfile: bool = True) -> None:
        deps = "\n  depfile = $out.d\n  deps = gcc" if depfile else ""
        self.rules.append(f"rule {name}\n  command = {command}\n  description = {name} $out{deps}\n")

    def compile(self, rule: str, source: Path, flags: str = "", suffix: str = "") -> None:
        target = f"{source.parent.name}_{source.stem}{suffix}.o"
        self.objects.append(target)
        self.edges.append(f"build {target}: {rule} {escape(source)}\n  flags = {flags}\n")

    def link(self, target: Path, flags: str) -> None:
        self.edges.append(f"build {escape(target)}: link {' '.join(self.objects)}\n  flags = {flags}\n")

    def run(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "build.ninja").write_text("\n".join([*self.rules, *self.edges]))
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        subprocess.run([sys.executable, "-m", "ninja", "-j", jobs], cwd=self.folder, check=True)


def escape(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


class Build(build_ext):
    def run(self) -> None:
        torch, compiler = find_torch(), find_compiler()
        if os.environ.get("FLOWKIT_NATIVE") == "0":
            return
        if torch is None or compiler is None:
            missing = "torch is not importable in the build" if torch is None else "no C++ compiler was found"
            print(f"flowkit: {missing}; installing without compiled kernels, every operator runs in plain torch")
            return
        super().run()

    def build_extension(self, extension: Extension) -> None:
        import pybind11

        torch, compiler = find_torch(), find_compiler()
        cuda = find_cuda(torch)
        torch_root = Path(torch.__file__).parent
        x86 = platform.machine().lower() in ("x86_64", "amd64")

        includes = [torch_root / "include", torch_root / "include/torch/csrc/api/include", pybind11.get_include()]
        includes.append(sysconfig.get_paths()["include"])
        defines = [f"TORCH_TARGET_VERSION={TORCH_ABI}", f"FLOWKIT_VERSION='\"{version()}\"'"]
        defines += ["FLOWKIT_X86"] * x86
        archs = os.environ.get("FLOWKIT_CUDA_ARCHS", "8.0 9.0").replace(".", "").split() if cuda else []
        if cuda:
            names = " ".join([*(f"sm_{a}" for a in archs), f"compute_{archs[-1]}"])
            defines += ["FLOWKIT_CUDA", "USE_CUDA", f"FLOWKIT_CUDA_ARCHITECTURES='\"{names}\"'"]
            includes.append(cuda.root / "include")

        ninja = Ninja(Path(self.build_temp).resolve())
        common = "-O3 -std=c++20 -fPIC -fvisibility=hidden -Wall -Wno-unknown-pragmas -fopenmp-simd"
        common += " -fno-math-errno -fno-trapping-math -ffp-contract=fast"
        flags = " ".join([common, *(f"-isystem {escape(Path(i))}" for i in includes), *(f"-D{d}" for d in defines)])
        ninja.rule("cxx", f"{compiler} -MMD -MF $out.d {flags} $flags -c $in -o $out")
        ninja.rule("link", f"{compiler} -shared $in $flags -o $out", depfile=False)
        operators = sorted((CSRC / "operators").glob("*.cpp"))
        for source in (CSRC / "register.cpp", CSRC / "module.cpp", CSRC / "cpu" / "dispatch.cpp", *operators):
            ninja.compile("cxx", source)
        for isa, isa_flags in {"generic": "", **(X86_ISA if x86 else {})}.items():
            for name in CPU_FILES:
                ninja.compile("cxx", CSRC / "cpu" / f"{name}.cpp", f"-DFLOWKIT_ISA={isa} {isa_flags}", f".{isa}")
        libraries = ["torch", "torch_cpu", "c10"]
        link_flags = [f"-L{escape(torch_root / 'lib')}"]
        if cuda:
            codes = " ".join(f"-gencode arch=compute_{a},code=sm_{a}" for a in archs)
            codes += f" -gencode arch=compute_{archs[-1]},code=compute_{archs[-1]}"
            nvcc_flags = f"-O3 -std=c++17 -Xcompiler -fPIC,-fvisibility=hidden --expt-relaxed-constexpr {codes}"
            ninja.rule("nvcc", f"{cuda.nvcc} -MMD -MF $out.d {nvcc_flags} $flags -c $in -o $out")
            for source in sorted((CSRC / "cuda").glob("*.cu")):
                ninja.compile("nvcc", source)
            libraries.append("torch_cuda")
            link_flags.append(f"{escape(cuda.static_runtime())} -ldl -lrt -lpthread")
        target = Path(self.get_ext_fullpath(extension.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        ninja.link(target, " ".join([*link_flags, *(f"-l{name}" for name in libraries)]))
        ninja.run()


# Sources are listed for the source distribution; Build knows how each is compiled.
sources = [str(p.relative_to(ROOT)) for p in sorted(CSRC.rglob("*")) if p.suffix in (".cpp", ".cu")]
setup(ext_modules=[Extension("flowkit._C", sources)], cmdclass={"build_ext": Build})
