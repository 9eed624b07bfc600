"""The command line lists and shows networks, and refuses wrong input in one line that says what exists."""

from pathlib import Path

import pytest

from zoo.cli import main, overrides


def test_list_shows_names_sizes_and_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "demo/*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("demo/translator ") and "parameters" in line for line in lines)


def test_show_prints_and_draws_a_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawing = tmp_path / "new" / "flow.svg"
    assert main(["show", "demo/translator", "depth=2", "--svg", str(drawing)]) == 0
    printed = capsys.readouterr().out
    assert "repeat ×2" in printed and "invertible: x ↔ z" in printed and "depth=2" in printed
    assert drawing.read_text().lstrip().startswith("<svg")


@pytest.mark.parametrize("verb", ["show", "sample"])
def test_a_missing_name_is_asked_for(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb])
    assert capsys.readouterr().err.endswith("arguments are required: name\n")


def test_help_of_a_verb_lists_its_options_with_defaults_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    assert "iin: Trains the network" in printed and "precision=32-true  of 32-true, bf16-mixed\n" in printed
    assert "learning rate is proportional to the samples of a step" in printed


@pytest.mark.parametrize(
    "words, message",
    [
        (["show", "demo/nothing"], "expected one of demo/autoencoder, "),
        (["show", "demo/translator", "width=3"], "expected options among dim, condition, depth"),
        (["show", "demo/translator", "depth"], "expected key=value, got 'depth'"),
        (["show", "demo/translator", "depth=two"], "depth expects int, got 'two'"),
        (["show", "demo/translator", "depth=1", "depth=2"], "depth is given twice"),
        (["list", "nothing*"], "nothing matches 'nothing*'; there are demo/autoencoder, "),
        (["demo", "epochs=3"], "expected settings among seed, networks"),
        (["demo", "flow_epochs=0"], "flow_epochs: expected at least 1, got 0"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_1(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_the_demos_folder_must_not_be_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 1
    assert "expected a folder" in capsys.readouterr().err


def test_values_are_read_as_what_they_look_like() -> None:
    assert overrides(["a=1", "b=0.5", "c=true", "d=1e-3", "e=wide"]) == {
        "a": 1, "b": 0.5, "c": True, "d": 1e-3, "e": "wide",
    }  # fmt: skip


def test_a_missing_package_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo"]) == 1
    assert "pip install 'flowkit-inn[zoo]'" in capsys.readouterr().err
