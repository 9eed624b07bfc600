"""Files of the authors: read without running what is in them, found by name, converted there and back."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from flowkit.graph import BuiltGraph
from zoo import published, registry, weights
from zoo.cli import main

NAME = "net2net/tiny"


def lightning_file(path: Path, model: BuiltGraph, **changes: Tensor | None) -> Path:
    """A checkpoint as the authors' trainer writes it, with experts, losses and numpy numbers beside the flow."""
    state = published.export(NAME, model, registry.entry(NAME).defaults)
    state |= {"first_stage_model.encoder.weight": torch.ones(2), "loss.logvar": torch.zeros(())}
    state |= {key: value for key, value in changes.items() if value is not None}
    state = {key: value for key, value in state.items() if key not in changes or changes[key] is not None}
    rate = {"param_groups": [{"lr": np.float64(1e-4), "betas": (0.5, 0.9)}]}
    torch.save({"state_dict": state, "epoch": 4, "optimizer_states": [rate]}, path)
    return path


@pytest.fixture
def model() -> BuiltGraph:
    torch.manual_seed(0)
    model = zoo.build(NAME)
    model(torch.randn(16, 8), torch.randn(16, 6))
    return model.eval()


def test_a_lightning_file_with_experts_and_losses_loads(model: BuiltGraph, tmp_path: Path) -> None:
    again = zoo.load(NAME, lightning_file(tmp_path / "last.ckpt", model))
    x, c = torch.randn(5, 8), torch.randn(5, 6)
    assert not again.training
    torch.testing.assert_close(again(x, c), model(x, c), rtol=0, atol=0)


def test_a_bare_state_dict_without_the_prefix_loads(model: BuiltGraph, tmp_path: Path) -> None:
    state = published.export(NAME, model, registry.entry(NAME).defaults)
    torch.save({key.removeprefix("flow."): value for key, value in state.items()}, tmp_path / "flow.pth")
    zoo.load(NAME, tmp_path / "flow.pth")


def test_missing_and_unexpected_keys_of_the_flow_are_reported(model: BuiltGraph, tmp_path: Path) -> None:
    key = "flow.sub_layers.1.norm_layer.loc"
    path = lightning_file(tmp_path / "last.ckpt", model, **{key: None, "flow.sub_layers.9.extra": torch.ones(3)})
    with pytest.raises(ValueError) as error:
        zoo.load(NAME, path)
    assert "missing: sub_layers.1.norm_layer.loc" in str(error.value)
    assert "unexpected: sub_layers.9.extra (3,)" in str(error.value)


def test_the_losses_of_an_expert_are_left_out_below_its_prefix() -> None:
    state = {"first_stage_model.loss.logvar": torch.zeros(()), "first_stage_model.encoder.weight": torch.ones(2)}
    known = published.Published(prefix="first_stage_model.", beside=("loss.",))
    assert published.select(state, known).keys() == {"encoder.weight"}


def test_a_file_whose_keys_are_classes_of_lightning_loads(
    model: BuiltGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(lightning_file(tmp_path / "last.ckpt", model), weights_only=False)
    callbacks = {}
    for module, name in (("model_checkpoint", "ModelCheckpoint"), ("early_stopping", "EarlyStopping")):
        there = ModuleType(f"pytorch_lightning.callbacks.{module}")
        found = type(name, (), {"__module__": there.__name__})
        setattr(there, name, found)
        monkeypatch.setitem(sys.modules, there.__name__, there)
        callbacks[found] = {"best_model_score": torch.ones(())}
    for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    torch.save({**state, "callbacks": callbacks}, tmp_path / "old.ckpt")
    monkeypatch.undo()
    zoo.load(NAME, tmp_path / "old.ckpt")
    assert len(published.read_checkpoint(tmp_path / "old.ckpt")["callbacks"]) == 2


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('ran')",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "callback": Trap()}, tmp_path / "trap.ckpt")
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.ckpt", "trap.pkl"):
        with pytest.raises(ValueError, match="expected a torch file of tensors and plain data") as error:
            published.read_checkpoint(tmp_path / name)
        assert "weights_only" not in str(error.value) and "add_safe_globals" not in str(error.value)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("new", [True, False])
def test_a_file_cut_short_is_refused(new: bool, kept: float, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(500)}, tmp_path / "whole.ckpt", _use_new_zipfile_serialization=new)
    whole = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match="expected a torch file .* remove it and download it again"):
        published.read_checkpoint(tmp_path / "cut.ckpt")


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.ckpt")
    with pytest.raises(ValueError, match="expected a dictionary of tensors"):
        zoo.load(NAME, tmp_path / "empty.ckpt")
    with pytest.raises(ValueError, match="has no published weights"):
        zoo.load("demo/translator", tmp_path / "empty.ckpt")
    with pytest.raises(ValueError, match="no file and no published key 'elsewhere.ckpt'"):
        zoo.load(NAME, "elsewhere.ckpt")


def test_a_converted_file_keeps_the_options_that_its_weights_need(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = zoo.build(NAME, activation="lrelu", exact_logdet=False)
    model(torch.randn(16, 8), torch.randn(16, 6))
    weights.save(model, tmp_path / "flow.safetensors")
    assert zoo.load(NAME, tmp_path / "flow.safetensors").graph == model.graph
    assert zoo.load(NAME, tmp_path / "flow.safetensors", activation="lrelu", exact_logdet=False).graph == model.graph
    with pytest.raises(ValueError, match="holds another network than net2net/tiny with activation=none"):
        zoo.load(NAME, tmp_path / "flow.safetensors", activation="none")


def test_convert_writes_ours_and_back(model: BuiltGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lightning_file(tmp_path / "last.ckpt", model)
    assert main(["convert", str(path), NAME]) == 0
    assert main(["convert", str(tmp_path / "last.safetensors"), NAME, "--to", str(tmp_path / "back.ckpt")]) == 0
    wanted = published.select(published.tensors(published.read_checkpoint(path)), published.published(NAME))
    found = published.select(
        published.tensors(published.read_checkpoint(tmp_path / "back.ckpt")), published.published(NAME)
    )
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert "6,669 parameters" in capsys.readouterr().out
    assert main(["convert", str(path), NAME]) == 1
    assert "exists; remove it or name another file" in capsys.readouterr().err
