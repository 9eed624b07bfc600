"""Settings shared by all tests: reproducible hypothesis examples, a fixed seed, and few threads for small tensors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("flowkit", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("flowkit")
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Each test starts from the same random state and leaves the default dtype and thread count as it found them."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
