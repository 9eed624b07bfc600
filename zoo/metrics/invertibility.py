"""How exactly a flow undoes itself."""

import torch
from torch import Tensor

from flowkit.bijections import Bijection


@torch.no_grad()
def round_trip_error(flow: Bijection, x: Tensor, condition: Tensor | None = None) -> float:
    """The largest |inverse(forward(x)) - x| over all entries of x (B, C, *spatial)."""
    z, _ = flow(x, condition)
    back, _ = flow.inverse(z, condition)
    return float((back - x).abs().max())
