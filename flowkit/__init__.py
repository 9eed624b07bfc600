"""flowkit: fused kernels, layers and declarative graphs for invertible networks with exact log-determinants."""

from flowkit import bijections, distributions, graph, nets, ops, testing
from flowkit.bijections import Bijection
from flowkit.distributions import Flow
from flowkit.export import export_mode, to_onnx
from flowkit.info import info
from flowkit.reversible import reversible
from flowkit.testing import check_bijection

__version__ = "0.1.0"
__all__ = [
    "Bijection",
    "Flow",
    "__version__",
    "bijections",
    "check_bijection",
    "distributions",
    "export_mode",
    "graph",
    "info",
    "nets",
    "ops",
    "reversible",
    "testing",
    "to_onnx",
]
