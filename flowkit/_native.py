"""The only door to the compiled extension: loads it once and tells whether it is there."""

import re
import warnings

import torch

MINIMUM_TORCH = (2, 10)


def check_torch_version(version: str) -> None:
    """Raises ImportError if ``version`` of torch is older than flowkit supports."""
    match = re.match(r"(\d+)\.(\d+)", version)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if found < MINIMUM_TORCH:
        wanted = ".".join(map(str, MINIMUM_TORCH))
        raise ImportError(
            f"flowkit needs torch >= {wanted}, found torch {version}; install a newer one: pip install 'torch>={wanted}'"
        )


check_torch_version(torch.__version__)

try:
    from flowkit import _C  # type: ignore[attr-defined]

    available, reason = True, ""
except ImportError as error:
    _C, available, reason = None, False, str(error)
    warnings.warn(
        "flowkit runs without its compiled kernels: every operator works, slower, in plain torch "
        f"({error}). Reinstall with a C++ compiler to get them; flowkit.info() tells which back end runs.",
        RuntimeWarning,
        stacklevel=2,
    )

has_cpu: bool = available
has_cuda: bool = available and _C.has_cuda()


def supports(x: torch.Tensor) -> bool:
    """Whether the compiled kernels run on the device and dtype of ``x``."""
    device = x.device.type
    return (has_cpu if device in ("cpu", "meta") else has_cuda and device == "cuda") and x.dtype in DTYPES


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
