"""A weight file is enough to rebuild its model, and what does not fit is refused as a whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from flowkit.graph import BuiltGraph
from zoo import weights


@pytest.fixture
def flow() -> BuiltGraph:
    """A small flow whose actnorm has seen data."""
    torch.manual_seed(0)
    flow = zoo.build("demo/translator_small")
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        flow(torch.randn(32, 8), torch.randn(32, 16))
    return flow.eval()


def test_a_file_rebuilds_graph_and_weights(flow: BuiltGraph, tmp_path: Path) -> None:
    weights.save(flow, tmp_path / "flow.safetensors", notes={"epoch": "3"})
    again = weights.load(tmp_path / "flow.safetensors")
    by_name = zoo.load("demo/translator_small", tmp_path / "flow.safetensors")
    x, condition = torch.randn(4, 8), torch.randn(4, 16)
    assert again.graph == flow.graph
    for model in (again, by_name):
        torch.testing.assert_close(model(x, condition), flow(x, condition), rtol=0, atol=0)
    assert weights.read(tmp_path / "flow.safetensors")[1]["epoch"] == "3"


def test_all_mismatches_are_reported_together_and_nothing_is_loaded(flow: BuiltGraph, tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    weights.save(flow, path)
    tensors = load_file(path)
    del tensors["embedder.main.0.bias"]
    tensors["flow.0.actnorm.scale"] = torch.zeros(3)
    tensors["flow.1.actnorm.shift"] = torch.full((8,), float("nan"))
    tensors["head.weight"] = torch.zeros(1)
    save_file(tensors, path)
    target = zoo.build("demo/translator_small")
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ValueError) as refused:
        weights.load_into(target, path)
    for line in (
        "missing: embedder.main.0.bias (16,)",
        "misshapen: flow.0.actnorm.scale: expected (8,), got (3,)",
        "not finite: flow.1.actnorm.shift",
        "unexpected: head.weight (1,)",
    ):
        assert line in str(refused.value)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_files_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        weights.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("not a weight file")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        weights.load(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="flowkit.graph.*no metadata"):
        weights.load(tmp_path / "bare.safetensors")
