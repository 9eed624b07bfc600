"""Trained weights of other libraries as flowkit layers; one module a library.

All take state dicts (names to tensors), never files: read those with ``torch.load(path, weights_only=True)``.
"""

from flowkit.interop import anomalib, freia

__all__ = ["anomalib", "freia"]
