"""The compiled module: importing it registers the operators under torch.ops.flowkit; it tells how it was built."""

def version() -> str:
    """The version of flowkit that it was built from."""

def cpu_capability() -> str:
    """The instruction set that the CPU kernels use on this machine: "avx512", "avx2" or "generic"."""

def has_cuda() -> bool:
    """Whether the CUDA kernels were compiled in."""

def cuda_architectures() -> list[str]:
    """The architectures that the CUDA kernels were compiled for."""

direct: object
"""The operators as functions past torch's dispatcher; without members before torch 2.14."""

class NotPlain(Exception):
    """Raised by the functions of ``direct``: a tensor of a subclass, or negated lazily, is the dispatcher's."""
