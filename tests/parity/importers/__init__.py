"""Weights of other libraries as flowkit modules, composed from public layers; one file a library."""

from tests.parity.importers import freia, glowpytorch, nflows, normflows, zuko
from tests.parity.importers.common import Imported

LIBRARIES = {
    "freia02": freia,
    "freia2020": freia,
    "freia": freia,
    "glowpytorch": glowpytorch,
    "nflows": nflows,
    "normflows": normflows,
    "zuko": zuko,
}

__all__ = ["LIBRARIES", "Imported"]
