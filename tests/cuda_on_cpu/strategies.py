"""Shapes, types and memory layouts for the tests of the kernels."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st

from tests.cuda_on_cpu.comparison import MEMORY, TOLERANCE, Case

# Small primes, and sizes that 128-bit accesses divide.
SIZES = st.sampled_from([1, 2, 3, 5, 8, 16])
few = settings(max_examples=60)


@st.composite
def cases(draw: st.DrawFn, largest_channels: int = 40, most_pixels: int = 5000) -> Case:
    """One case; half of those with many channels let 128-bit accesses pass."""
    spatial = tuple(draw(st.lists(SIZES, max_size=3).filter(lambda s: math.prod(s) <= most_pixels)))
    channels = draw(st.one_of(st.integers(1, 9), st.sampled_from([16, 24, largest_channels])))
    aligned = draw(st.booleans()) and channels % 16 == 0
    begin = channels // 2 if aligned else draw(st.integers(0, channels))
    return Case(
        dtype=draw(st.sampled_from(list(TOLERANCE))),
        batch=draw(st.integers(0, 5)),
        channels=channels,
        spatial=spatial,
        begin=begin,
        count=channels - begin if aligned else draw(st.integers(0, channels - begin)),
        memory=draw(st.sampled_from(MEMORY)),
        permuted=draw(st.booleans()),
        inverse=draw(st.booleans()),
        seed=draw(st.integers(0, 2**31)),
    )
