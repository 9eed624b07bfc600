"""flowkit: fused kernels, layers and declarative graphs for invertible networks with exact log-determinants."""

from flowkit import ops
from flowkit.info import info

__version__ = "0.1.0"
__all__ = ["__version__", "info", "ops"]
