"""zuko 1.6; a transform goes from data to base noise. Its raw transforms have parameters as inputs."""

from typing import Any

import torch

from tests.parity.importers.common import Imported, State, lu, orthogonal


def load(config: dict[str, Any], state: State) -> Imported:
    """The module of a rotation or an LU map."""
    if config["cls"] == "RotationTransform":
        a = state["A"]
        return Imported(*orthogonal(torch.linalg.matrix_exp(a - a.mT)))
    both = state["LU"]  # L has the free diagonal, U the unit one: L U = (L / d) (d U)
    diagonal = both.diagonal()
    return Imported(*lu(both / diagonal, diagonal[:, None] * both, diagonal))
