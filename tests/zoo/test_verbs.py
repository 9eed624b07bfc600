"""Verbs of a paper: found by the paper's name, with their own options and those of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from zoo import verbs, weights
from zoo.cli import main

CALLS: list[tuple[verbs.Context, int, str]] = []


def tried(context: verbs.Context, *, times: int = 1, prompt: str = "") -> None:
    """Notes that it was called."""
    CALLS.append((context, times, prompt))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(verbs._VERBS, ("net2net", "tried"), tried)
    CALLS.clear()
    yield


def test_options_go_to_the_verb_and_to_the_network(tmp_path: Path) -> None:
    words = ["tried", "net2net/tiny", "prompt=007", "times=3", "depth=4", "--out", str(tmp_path), "--seed", "5"]
    assert main(words) == 0
    ((context, times, prompt),) = CALLS
    assert (
        times == 3
        and prompt == "007"
        and context.options == {"depth": 4}
        and context.seed == 5
        and context.out == tmp_path
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["tried", "net2net/tiny", "colour=3"],
            "expected options of the verb (times, prompt) or of the network (dim, ",
        ),
        (["tried", "net2net/tiny", "times=often"], "times expects int, got 'often'"),
        (["tried", "net2net/tiny", "depth=deep"], "depth expects int, got 'deep'"),
        (["dance", "net2net/tiny"], "tried"),
        (["tried", "net2net/nothing"], "expected one of"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert message in capsys.readouterr().err and not CALLS


def context(folder: Path, **changes: object) -> verbs.Context:
    return verbs.Context(**{"name": "net2net/tiny", "out": folder, "console": Console(), **changes})  # type: ignore[arg-type]


def test_networks_come_from_the_run_folder_from_a_file_or_from_chance(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train it first"):
        context(tmp_path).network()
    drawn, again = (context(tmp_path, random=True, seed=2).network().state_dict() for _ in range(2))
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)
    weights.save(context(tmp_path, random=True).network(), context(tmp_path).file("net2net/tiny"))
    stored = context(tmp_path).network().state_dict()
    given = context(tmp_path / "elsewhere", weights=str(context(tmp_path).file("net2net/tiny"))).network()
    assert all(torch.equal(stored[key], value) for key, value in given.state_dict().items())


def test_a_verb_needs_defaults() -> None:
    with pytest.raises(ValueError, match="times has none"):

        @verbs.verb
        def bare(context: verbs.Context, times: int) -> None:
            raise NotImplementedError
