"""What the verbs of Net2Net draw, for tests of their content."""

from pathlib import Path
from typing import Any

import pytest

from tests.zoo.net2net.layouts import Drawn
from zoo import pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    found, grid = Drawn(), pictures.grid

    def remember(images: Any, path: Path, **options: Any) -> None:
        found[Path(path).stem] = images
        found[f"{Path(path).stem} rows"] = options.get("rows")
        grid(images, path, **options)

    monkeypatch.setattr("zoo.net2net.views.pictures.grid", remember)
    return found
