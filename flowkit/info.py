"""What runs here: the version, the back ends that were built, the instruction set and the CUDA architectures."""

from __future__ import annotations

import platform
from typing import Any

import torch

from flowkit import _native


def info() -> dict[str, Any]:
    """Facts about this installation.

    Returns:
        A dict with

        - ``version``: of flowkit; ``torch``, ``python``: of what it runs on;
        - ``backends``: those that can run here, fastest first, out of "cuda", "cpu" and "reference" (plain torch);
        - ``reason``: why there is no compiled back end, empty if there is one;
        - ``instruction_set``: what the CPU kernels chose at run time, "avx512", "avx2" or "generic"; None without them;
        - ``cuda_architectures``: what the CUDA kernels were compiled for, e.g. ``["sm_80", "sm_90", "compute_90"]``;
        - ``gpu``: name of the first CUDA device, None if there is none.
    """
    from flowkit import __version__

    facts: dict[str, Any] = {
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "backends": ["reference"],
        "reason": _native.reason,
        "instruction_set": None,
        "cuda_architectures": [],
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
    if _native.available:
        import flowkit._C as _C

        usable = [*(["cuda"] if _C.has_cuda() and facts["gpu"] else []), "cpu"]
        facts["backends"] = [*usable, "reference"]
        facts["instruction_set"] = _C.cpu_capability()
        facts["cuda_architectures"] = list(_C.cuda_architectures())
    return facts


def describe() -> str:
    """:func:`info` as a few aligned lines."""
    facts = info()
    architectures = ", ".join(facts["cuda_architectures"]) or "none compiled"
    lines = {
        "flowkit": facts["version"],
        "torch": f"{facts['torch']} (Python {facts['python']})",
        "back ends": ", ".join(facts["backends"]),
        "instruction set": facts["instruction_set"] or "-",
        "CUDA architectures": architectures,
        "GPU": facts["gpu"] or "none",
    }
    if facts["reason"]:
        lines["no kernels because"] = facts["reason"]
    return "\n".join(f"{name:<20}{value}" for name, value in lines.items())
