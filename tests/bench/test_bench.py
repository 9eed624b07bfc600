"""The benchmark: its cases compute what they claim to time, and its output has the promised form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flowkit import ops
from flowkit.__main__ import main
from flowkit.bench import cli, overhead, runner
from flowkit.bench.operators import OPERATORS, Operator, random
from flowkit.bench.runner import measure, outputs
from flowkit.bench.suites import SUITES, Case
from flowkit.bench.timing import Contender, interleave

CPU = torch.device("cpu")
TINY = (2, 4, 3, 3)
ROW_KEYS = {
    "op", "direction", "layout", "dtype", "shape", "bytes", "in_place", "ours_ms", "eager_ms", "compile_ms", "copy_ms"
}  # fmt: skip

each_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)


def tiny_inputs(operator: Operator, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    x = random(torch.empty(TINY, dtype=dtype), TINY[1])
    return (x, *operator.operands(x))


@each_operator
def test_ours_equals_the_reference_it_is_timed_against(operator: Operator) -> None:
    inputs = tiny_inputs(operator)
    for direction, call in (("forward", operator.forward), ("inverse", operator.inverse)):
        if call is None:
            continue
        expected = outputs(operator.reference(*inputs, inverse=direction == "inverse"))
        torch.testing.assert_close(outputs(call(*inputs)), expected)
        with torch.no_grad():
            in_place = outputs(call(*inputs, out=ops.Workspace(inputs[0])))
        torch.testing.assert_close(in_place[0], expected[0])


@each_operator
def test_inverse_undoes_forward(operator: Operator) -> None:
    inputs = tiny_inputs(operator)
    if operator.inverse is not None:
        y = outputs(operator.forward(*inputs))[0]
        torch.testing.assert_close(outputs(operator.inverse(y, *inputs[1:]))[0], inputs[0])


@each_operator
def test_rows_have_exactly_the_promised_keys(operator: Operator) -> None:
    rows = list(measure(Case(operator, TINY, layout="channels_last"), 0.0, CPU, []))
    assert {row["direction"] for row in rows} == set(operator.directions)
    assert {row["in_place"] for row in rows} == {False, True}
    for row in rows:
        assert set(row) == ROW_KEYS
        assert row["compile_ms"] is None
        assert min(row["ours_ms"], row["eager_ms"], row["copy_ms"], row["bytes"]) > 0


def test_bytes_of_an_affine_coupling() -> None:
    operator = OPERATORS[0]
    x, params = tiny_inputs(operator, torch.float32)
    size = x.numel() * 4
    assert operator.bytes("forward", x, (params,), False) == 3 * size  # reads x and params, writes y
    assert operator.bytes("forward", x, (params,), True) == 2 * size  # half of x moves
    assert operator.bytes("backward", x, (params,), False) == 4.5 * size  # reads dy, half of y, params; writes


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_failing_compiler_is_a_note_and_not_a_crash(monkeypatch: pytest.MonkeyPatch, direction: str) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(torch, "compile", broken)
    notes: list[str] = []
    rows = list(measure(Case(OPERATORS[0], TINY, compiled=True), 0.0, CPU, notes))
    assert all(row["compile_ms"] is None for row in rows)
    assert f"torch.compile failed on affine_coupling {direction}: no C++ compiler" in notes


def test_compile_competes_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    rows = list(measure(Case(OPERATORS[0], TINY, compiled=True), 0.0, CPU, []))
    assert all(row["compile_ms"] > 0 for row in rows)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_suites_cover_every_operator_and_large_tensors(name: str) -> None:
    cases = list(SUITES[name]())
    assert {case.operator.name for case in cases} == {operator.name for operator in OPERATORS}
    assert {case.layout for case in cases} == {"contiguous", "channels_last"}
    main_cases = [c for c in cases if c.operator.name == "affine_coupling" and c.dtype == torch.float32]
    assert any(4 * torch.Size(c.shape).numel() >= 64e6 and c.compiled for c in main_cases)


def test_contenders_take_turns_and_only_run_is_timed() -> None:
    order: list[str] = []
    contenders = {
        name: Contender(lambda _, name=name: order.append(name), lambda: order.append("prepare")) for name in "ab"
    }
    times = interleave(contenders, 0.0, CPU)
    assert set(times) == {"a", "b"}
    turns = [name for name in order if name != "prepare"]
    assert order.count("prepare") == len(turns)
    changes = sum(left != right for left, right in zip(turns, turns[1:], strict=False))
    assert changes >= 6  # a, b in the warm-up and in each of at least three rounds


def test_the_two_tiny_flows_are_the_same_function() -> None:
    ours, plain = overhead.tiny_flow(), overhead.PlainFlow()
    x = torch.randn(8, overhead.CHANNELS)
    ours(x)
    with torch.no_grad():
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            theirs.copy_(mine)
    torch.testing.assert_close(ours(x), plain(x))


@pytest.fixture
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def tiny() -> Iterator[Case]:
        for operator in OPERATORS:
            yield Case(operator, TINY)

    monkeypatch.setitem(cli.SUITES, "quick", tiny)
    monkeypatch.setitem(cli.BUDGET, "quick", 0.0)
    monkeypatch.setattr(overhead, "SECONDS", 0.0)
    yield


@pytest.mark.usefixtures("tiny_suite")
def test_command_line_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "bench.json"
    assert main(["bench", "--op", "coupling", "--threads", "1", "--device", "cpu", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert set(result) == {"machine", "rows", "overhead"}
    assert result["machine"]["threads"] == 1
    assert {"cpu", "torch", "backends", "instruction_set"} <= set(result["machine"])
    assert {row["op"] for row in result["rows"]} == {o.name for o in OPERATORS if "coupling" in o.name}
    assert all(set(row) == ROW_KEYS for row in result["rows"])
    assert {"case", "baseline", "ours_us", "baseline_us"} == set(result["overhead"][0])
    assert {entry["baseline"] for entry in result["overhead"]} == {"torch.add", "plain torch flow"}
    printed = capsys.readouterr().out
    assert printed.count("affine_coupling_atan") == 5  # forward and inverse fresh and in place, backward
    assert "training step" in printed


def test_unknown_operator_is_an_error_that_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--op", "spline"]) == 2
    message = capsys.readouterr().err
    assert "'spline'" in message
    assert "affine_coupling" in message


def test_zero_threads_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--threads", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_backward_contender_times_nothing_but_the_backward() -> None:
    inputs = tiny_inputs(OPERATORS[0])
    contender = runner.backward_contender(OPERATORS[0].forward, inputs)
    gradients = contender.run(contender.prepare())
    leaves = [t.clone().requires_grad_() for t in inputs]
    y, logdet = OPERATORS[0].reference(*leaves, inverse=False)
    torch.testing.assert_close(gradients, torch.autograd.grad(y.sum() + logdet.sum(), leaves))
