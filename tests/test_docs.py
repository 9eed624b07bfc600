"""The Python examples of README.md and CONTRIBUTING.md run as printed."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from flowkit.testing import check_bijection

ROOT = Path(__file__).resolve().parent.parent


def examples(name: str) -> list[str]:
    """The Python blocks of a document, without the indentation of the list that they stand in."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^( *```python\n.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in blocks]


def run(name: str, number: int, block: str, namespace: dict[str, Any]) -> None:
    source = block.split("\n", 1)[1]
    exec(compile(source, f"{name}, example {number}", "exec"), namespace)


@pytest.mark.parametrize("number", range(len(examples("README.md"))))
def test_each_example_of_the_readme_stands_alone(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("README.md", number, examples("README.md")[number], {})


def test_the_bijection_of_the_contributors_guide_is_right() -> None:
    namespace: dict[str, Any] = {}
    for number, block in enumerate(examples("CONTRIBUTING.md")[:2]):
        run("CONTRIBUTING.md", number, block, namespace)
    assert check_bijection(namespace["Asinh"](), torch.randn(4, 3)).broken is None
