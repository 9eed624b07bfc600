"""``zoo parity`` compares every recorded entry, and counts what it cannot run as failed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo import parity
from zoo.cli import main

GOOD = Path(__file__).parents[1] / "parity" / "fixtures" / "net2net_cond_flow_bn.npz"


def changed(path: Path, **entries: np.ndarray) -> Path:
    """A copy of a good file with other or further entries."""
    with np.load(GOOD) as file:
        np.savez(path, **{**{key: file[key] for key in file.files}, **entries})
    return path


def test_errors_are_the_largest_and_relative_to_the_largest_value() -> None:
    line = parity.compare("out/y", torch.tensor([[1.0, 20.5]]), torch.tensor([[1.0, 20.0]]), 1e-5)
    assert line.absolute == 0.5 and line.relative == 0.025 and line.fault
    assert not parity.compare("out/y", torch.ones(3, 4), torch.ones(3, 4, 1, 1), 0.0).fault
    assert "shape" in parity.compare("out/y", torch.ones(4, 3), torch.ones(3, 4), 1e-5).fault
    assert parity.compare("out/y", None, torch.ones(3), 1e-5).fault == "not computed"
    assert parity.compare("out/y", torch.tensor([float("nan")]), torch.ones(1), 1e-5).fault


def test_an_entry_that_differs_or_is_not_computed_fails(tmp_path: Path) -> None:
    with np.load(GOOD) as file:
        wrong = file["out/y"] + np.float32(1e-3)
    report = parity.run(changed(tmp_path / "net2net_cond_flow_bn__wrong.npz", **{"out/y": wrong}))
    assert [line.key for line in report.lines if line.fault] == ["out/y"] and not report.passed
    report = parity.run(changed(tmp_path / "net2net_cond_flow_bn__more.npz", **{"grad/nothing": wrong}))
    assert [line.key for line in report.lines if line.fault] == ["grad/nothing"] and not report.passed


def test_what_cannot_be_run_counts_as_failed_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net2net_broken.npz").write_text("no archive")
    changed(tmp_path / "net2net_nothing.npz")
    changed(tmp_path / "nowhere_cond_flow_bn.npz")
    np.savez(tmp_path / "net2net_cond_flow_bn__bare.npz", x=np.ones(3))
    np.savez(tmp_path / "net2net_cond_flow_bn__empty.npz", config=json.dumps({"params": {}}))
    changed(tmp_path / "net2net_cond_flow_bn__good.npz")
    assert main(["parity", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert printed.strip().splitlines()[-1] == "6 files: 1 passed, 5 failed"
    for reason in ("expected an .npz file", "component: expected one of", "system: expected one of", "'config'"):
        assert reason in printed


def test_a_good_file_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(GOOD)]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == "1 files: 1 passed, 0 failed"
    assert main(["parity", str(GOOD.parent / "missing.npz"), str(GOOD)]) == 1
    printed = capsys.readouterr().out
    assert "no file or folder" in printed and printed.strip().splitlines()[-1] == "2 files: 1 passed, 1 failed"


def test_only_what_a_batch_norm_makes_arbitrary_has_a_wider_tolerance() -> None:
    report = parity.run(GOOD.with_name("net2net_cond_flow_train.npz"))
    wide = {line.key.removeprefix("after/embedder.main.") for line in report.lines if line.tolerance > 1e-5}
    assert wide == {"0.bias", "3.bias", "6.bias", "1.running_mean", "4.running_mean", "7.running_mean"}
    assert report.passed


def test_a_file_of_inputs_alone_passes_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(GOOD.with_name("invariances_images.npz"))]) == 0
    assert "nothing to compare: it holds inputs alone" in capsys.readouterr().out
