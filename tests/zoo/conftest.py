"""What tests of the zoo's verbs share: a look at the images of the pictures that are written."""

from typing import Any

import pytest

from zoo import pictures


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
