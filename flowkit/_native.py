"""The only door to the compiled extension: loads it once and tells whether it is there."""

import re
import warnings
from contextvars import ContextVar
from typing import Any

import torch

MINIMUM_TORCH = (2, 10)


def check_torch_version(version: str) -> None:
    """Raises ImportError if ``version`` of torch is older than flowkit supports."""
    match = re.match(r"(\d+)\.(\d+)", version)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if found < MINIMUM_TORCH:
        wanted = ".".join(map(str, MINIMUM_TORCH))
        raise ImportError(
            f"flowkit needs torch >= {wanted}, found torch {version}; install a newer one: "
            f"pip install 'torch>={wanted}'"
        )


check_torch_version(torch.__version__)

try:
    import flowkit._C as _C

    available, reason = True, ""
except ImportError as error:
    available, reason = False, str(error)
    warnings.warn(
        "flowkit runs without its compiled kernels: every operator works, slower, in plain torch "
        f"({error}). Reinstall with a C++ compiler to get them; flowkit.info() tells which back end runs.",
        RuntimeWarning,
        stacklevel=2,
    )

has_cuda: bool = available and _C.has_cuda()
direct: Any = _C.direct if available else None
NotPlain: type[Exception] = _C.NotPlain if available else RuntimeError


plain: ContextVar[bool] = ContextVar("flowkit_plain", default=False)
"""Whether operators are to run in plain torch although there are kernels; see :func:`flowkit.export_mode`."""


def supports(x: torch.Tensor) -> bool:
    """Whether compiled kernels for the device of ``x`` are to be used; they refuse dtypes that they do not take."""
    return available and not plain.get() and (x.is_cpu or (x.is_cuda and has_cuda))


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
