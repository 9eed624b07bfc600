"""The zoo's components beside recorded numbers of the authors' code: what ``zoo parity`` does, file by file."""

from pathlib import Path

import pytest

from zoo import parity

FIXTURES = Path(__file__).parent / "fixtures"
FILES = sorted(path for path in FIXTURES.glob("*.npz") if not path.name.startswith("peer_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_the_authors_code(path: Path) -> None:
    report = parity.run(path)
    assert report.passed, report.fault or [f"{line.key}: {line.fault}" for line in report.lines if line.fault]
