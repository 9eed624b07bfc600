"""``zoo parity`` compares every recorded entry, and counts what it cannot run as failed."""

from __future__ import annotations

import json
from collections.abc import Callable
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


def test_a_folder_without_files_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(tmp_path)]) == 1
    first, last = capsys.readouterr().out.strip().splitlines()
    assert "expected .npz files" in first and last == "0 files: 0 passed, 0 failed"


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


def test_a_file_with_nothing_to_compare_fails(tmp_path: Path) -> None:
    def bare(arrays: dict[str, np.ndarray]) -> None:
        for key in [key for key in arrays if not key.startswith(("config", "state/", "in/"))]:
            del arrays[key]

    report = rewritten(tmp_path, bare)
    assert not report.passed and "nothing to compare: expected entries such as out/y" in report.fault


def test_images_that_other_files_start_from_pass_and_are_told_to_be_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(GOOD.with_name("invariances_images.npz"))]) == 0
    assert "inputs that other files start from" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, left",
    [
        ("iin_ae__w8", ("in/z", "out/decode_z")),
        ("invariances_embedder_dense", ("out/",)),
        ("invariances_gblock", ("out/",)),
    ],
)
def test_a_part_of_what_was_computed_is_enough(name: str, left: tuple[str, ...], tmp_path: Path) -> None:
    with np.load(GOOD.with_name(f"{name}.npz")) as file:
        np.savez(tmp_path / f"{name}.npz", **{key: file[key] for key in file.files if not key.startswith(left)})
    report = parity.run(tmp_path / f"{name}.npz")
    assert report.passed and report.lines, report


@pytest.mark.parametrize("name", ["iin_aeloss__0", "iin_disc__sn", "invariances_spectralnorm"])
def test_weights_of_something_else_are_named(name: str, tmp_path: Path) -> None:
    with np.load(GOOD.with_name(f"{name}.npz")) as file:
        np.savez(tmp_path / f"{name}.npz", **{key: file[key] for key in file.files}, **{"state/other": np.ones(3)})
    assert "other" in parity.run(tmp_path / f"{name}.npz").fault


def rewritten(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> parity.Report:
    """The report of the good file with its arrays changed."""
    with np.load(GOOD) as file:
        arrays = {key: file[key] for key in file.files}
    change(arrays)
    np.savez(path / "net2net_cond_flow_bn__changed.npz", **arrays)
    return parity.run(path / "net2net_cond_flow_bn__changed.npz")


def test_numbers_and_configuration_may_be_stored_in_other_ways(tmp_path: Path) -> None:
    def doubled(arrays: dict[str, np.ndarray]) -> None:
        arrays |= {key: v.astype(">f8") for key, v in arrays.items() if v.dtype == np.float32}

    def counted(arrays: dict[str, np.ndarray]) -> None:
        arrays |= {key: v.astype(np.int32) for key, v in arrays.items() if v.dtype == np.int64}

    def in_bytes(arrays: dict[str, np.ndarray]) -> None:
        arrays["config"] = np.frombuffer(str(arrays["config"]).encode(), np.uint8)

    def in_list(arrays: dict[str, np.ndarray]) -> None:
        arrays["config"] = np.array([str(arrays["config"]).encode()])

    for change in (doubled, counted, in_bytes, in_list):
        report = rewritten(tmp_path, change)
        assert report.passed, (change.__name__, report)


def test_what_is_no_plain_array_or_configuration_is_refused(tmp_path: Path) -> None:
    for value, said in (
        (np.array({"params": {}}, dtype=object), "plain arrays"),
        (np.array("{"), "expected JSON"),
        (np.array("[1]"), "expected a JSON object"),
        (np.array(7), "expected JSON"),
    ):
        report = rewritten(tmp_path, lambda arrays, value=value: arrays.update(config=value))
        assert not report.passed and said in report.fault
    whole = GOOD.read_bytes()
    (tmp_path / "net2net_cond_flow_bn__cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "net2net_cond_flow_bn__single.npy", np.ones(3))
    for name in ("cut.npz", "single.npy"):
        assert "expected an .npz file" in parity.run(tmp_path / f"net2net_cond_flow_bn__{name}").fault


def test_a_missing_input_and_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    assert "no entry 'in/x'" in rewritten(tmp_path, lambda arrays: arrays.pop("in/x")).fault
    key = "state/sub_layers.0.shuffle.forward_shuffle_idx"
    assert "missing: sub_layers.0.shuffle.forward" in rewritten(tmp_path, lambda arrays: arrays.pop(key)).fault


def test_options_that_no_code_looked_at_are_named_where_numbers_differ(tmp_path: Path) -> None:
    def optioned(arrays: dict[str, np.ndarray]) -> None:
        config = json.loads(str(arrays["config"]))
        config |= {"seed": 3, "params": {**config["params"], "temperature": 2.0}}
        arrays["config"] = np.array(json.dumps(config))

    assert rewritten(tmp_path, optioned).passed

    def differing(arrays: dict[str, np.ndarray]) -> None:
        optioned(arrays)
        arrays["out/y"] = arrays["out/y"] * 2

    report = rewritten(tmp_path, differing)
    assert not report.passed and report.unread == ("params.temperature",)


def test_the_longest_component_that_a_name_begins_with_counts() -> None:
    checks = parity.checks_of("net2net")
    for name, component in (
        ("net2net_cond_flow_training2", "cond_flow"),
        ("net2net_cond_flow_train_an", "cond_flow_train"),
        ("net2net_cond_flow_x__train", "cond_flow"),
        ("net2net_disc2", "disc"),
        ("net2net_embedder_gen", "embedder"),
        ("net2net_biggan_gen256_gen", "biggan_gen"),
    ):
        fixture = parity.Fixture(GOOD)
        fixture.component = name.removeprefix("net2net_").partition("__")[0]
        assert checks.name(fixture) == component


def test_small_gradients_of_the_iin_have_small_errors() -> None:
    checks, fixture = parity.checks_of("iin"), parity.Fixture(GOOD)
    fixture.arrays = {"grad/a": np.full(2, 1e-3), "grad/b": np.full(2, -0.5), "grad_d/a": np.ones(1) * 20}
    assert [checks.least_scale(fixture, key) for key in ("grad/a", "grad_d/a", "out/z")] == [0.5, 1, 1]
    small, off = torch.tensor([1e-3, 0.0]), torch.tensor([1e-3, 1e-7])
    assert parity.compare("grad/z", off, small, 1e-5, 1e-3).fault
    assert not parity.compare("out/z", off, small, 1e-5).fault
    assert not parity.compare("grad/z", torch.zeros(2), torch.zeros(2), 1e-5, 0.0).fault


def test_files_in_folders_of_folders_are_run_and_long_names_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "notes.txt").write_text("no file of numbers")
    long = "grad/" + "sub_layers.0." * 12 + "weight"
    changed(tmp_path / "a" / "b" / "net2net_cond_flow_bn__[x].npz", **{long: np.ones(1)})
    assert main(["parity", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert long in printed and "net2net_cond_flow_bn__[x].npz: failed" in printed
    assert printed.strip().splitlines()[-1] == "1 files: 0 passed, 1 failed"
