"""What tests of the zoo's verbs share: a look at pictures written, and at image files read."""

from pathlib import Path
from typing import Any

import pytest

from zoo import pictures
from zoo.data import folders, standard


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images of every grid that is written."""
    found: list[Any] = []
    grid = pictures.grid

    def remembered(images: Any, *given: Any, **options: Any) -> None:
        found.append(images)
        grid(images, *given, **options)

    monkeypatch.setattr(pictures, "grid", remembered)
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the image files that data sets read, one for each time."""
    found: list[str] = []
    read = folders.read_image

    def remembered(path: Path) -> Any:
        found.append(path.name)
        return read(path)

    for module in (folders, standard):
        monkeypatch.setattr(module, "read_image", remembered)
    return found
