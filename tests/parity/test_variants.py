"""``zoo parity`` on files that nobody recorded: the authors' networks with other options, computed by plain torch."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.parity.reference import iin, invariances, net2net, net2net_images
from tests.parity.reference.files import File
from zoo import parity

GROUPS = [*net2net.GROUPS, *net2net_images.GROUPS, *iin.GROUPS, *invariances.GROUPS]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group.__module__.rpartition('.')[2]}-{group.__name__}")
def test_agrees_with_plain_torch(group: Callable[[], Iterator[File]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    faults = {}
    for file in group():
        report = parity.run(file.write(tmp_path))
        if not report.passed:
            faults[file.name] = report.fault or [f"{line.key}: {line.fault}" for line in report.lines if line.fault]
    assert not faults, faults
