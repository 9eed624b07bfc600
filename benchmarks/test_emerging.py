"""The inverse of an emerging convolution as a pytest-benchmark suite. A time never fails a test."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.parts.emerging import in_python
from flowkit.bijections import EmergingConv

CHANNELS = 64


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("name", ["flowkit", "loop"])
def test_emerging_inverse(benchmark: Any, name: str, side: int) -> None:
    """Ours, and the substitution as a Python loop over pixels."""
    benchmark.group = f"emerging inverse 1x{CHANNELS}x{side}x{side}"
    layer, y = EmergingConv(CHANNELS).eval(), torch.randn(1, CHANNELS, side, side)
    work = {"flowkit": layer.inverse, "loop": lambda y: in_python(layer, y)}[name]
    with torch.no_grad():
        benchmark.pedantic(work, args=(y,), rounds=5, warmup_rounds=1)
