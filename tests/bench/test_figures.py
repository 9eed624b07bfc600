"""The figures: the parts run on tiny sizes and give rows of the promised form; the flows compared are the same flow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import figures, growth, table
from benchmarks.parts import authors_net2net, emerging, launches, models, net2net, peers, peers_images, roundtrip
from benchmarks.parts.models import Images, Model, Vectors
from benchmarks.parts.rows import KEYS, Settings, cost, faster, row, value
from flowkit.bijections import EmergingConv
from flowkit.graph import Graph
from zoo.layouts import Layout
from zoo.net2net.published import translator_rules

QUICK = Settings(torch.device("cpu"), quick=True)
TINY_VECTORS = [Vectors(features=6, blocks=2, hidden=8, batch=16, bins=bins) for bins in (0, 4)]
TINY_IMAGES = Images(side=8, levels=2, steps=1, hidden=4, batch=2)


@pytest.mark.parametrize("part", figures.PARTS)
def test_a_part_gives_rows_of_the_promised_form(part: str) -> None:
    if part == "spline":  # with tiny sizes, the only rows are those beside other libraries
        pytest.importorskip("nflows")
    rows = list(figures.PARTS[part](QUICK))
    assert [r for r in rows if r["ours"] is not None]
    for r in rows:
        assert tuple(r) == KEYS
        assert r["ours"] is None or r["ours"] >= 0
        assert all(isinstance(cell, str) for cell in table.cells(r))


def test_the_loop_in_python_solves_the_same() -> None:
    layer, y = EmergingConv(3).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(emerging.in_python(layer, y), layer.inverse(y)[0])


@pytest.mark.parametrize("batch", [1, 5])
def test_both_formulations_of_net2net_are_one_function(batch: int) -> None:
    size = net2net.Size(dim=8, condition=6, embedding=5, hidden=16, blocks=3)
    theirs, ours = net2net.pair(size, QUICK.device)
    x, c = size.inputs(batch, QUICK.device)
    z, logdet = theirs.eval()(x, c)
    loss = authors_net2net.loss(z, logdet)
    loss.backward()
    for net in (ours.eval(), ours.eval().optimize(training=True), ours.eval().optimize(inference=True)):
        found, found_logdet = net(x, c)
        torch.testing.assert_close(found, z[:, :, 0, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found_logdet, logdet, atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(net.inverse(z[:, :, 0, 0], c)[0], theirs.reverse(z, c)[..., 0, 0])
            torch.testing.assert_close(theirs.reverse(z, c)[..., 0, 0], x, atol=1e-5, rtol=1e-4)
    z, logdet = ours(x, c)
    (0.5 * z.square().sum(1).mean() - logdet.mean()).backward()
    gradients = Layout(ours, translator_rules(2, "none")).gradients(ours)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_ratio_and_target_of_a_row() -> None:
    assert row("", "", 2.0, "copy", 30.0, faster(15))["met"]
    assert not row("", "", 2.0, "copy", 29.0, faster(15))["met"]
    dear = row("", "", 3.0, "nets", 2.0, cost(1.4))
    assert dear["ratio"] == 1.5 and not dear["met"]
    assert row("", "", 2, "nflows", 319, value(2))["met"]
    assert row("", "", 2.0, "compile", None, faster(3))["met"] is None


def comparisons() -> Iterator[Any]:
    """(library, its flow, ours as a graph, the shape of a batch)."""
    for size in TINY_VECTORS:
        for library, make in peers.vector_flows(size).items():
            shape = (size.batch, size.features)
            yield pytest.param(library, make, models.vector_flow(size), shape, id=f"{library}-{size.bins}")
    side = TINY_IMAGES.side
    for library, make in peers_images.image_flows(TINY_IMAGES).items():
        shape = (TINY_IMAGES.batch, TINY_IMAGES.channels, side, side)
        yield pytest.param(library, make, models.image_flow(TINY_IMAGES), shape, id=f"{library}-images")


@pytest.mark.parametrize(("library", "make", "graph", "shape"), list(comparisons()))
def test_flows_of_other_libraries_have_our_parameters_and_invert(
    library: str, make: Callable[[], Model], graph: Graph, shape: tuple[int, ...]
) -> None:
    pytest.importorskip(library)
    theirs, ours, x = make(), models.ours(graph), torch.randn(shape)
    rotations = sum(2 * n * n + n for n in TINY_IMAGES.widths())  # FrEIA's are not trained
    assert theirs.parameters == ours.parameters - (rotations if library == "FrEIA" and len(shape) > 2 else 0)
    for model in (theirs, ours):
        latents = model.start(x)
        assert sum(z.numel() for z in models.tensors(latents)) == x.numel()
        with torch.no_grad():
            torch.testing.assert_close(model.inverse(latents), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("library", ["nflows", "normflows"])
def test_splines_compared_are_the_same_function(library: str) -> None:
    pytest.importorskip(library)
    from benchmarks.parts import spline

    x, params = spline.inputs((5, 6), torch.device("cpu"))
    theirs = peers.splines(Vectors(features=6, bins=spline.BINS))[library]()
    for mine, other in zip((spline.OURS.forward, spline.OURS.inverse), theirs, strict=True):
        assert mine is not None
        torch.testing.assert_close(mine(x, params), tuple(other(x, params)), atol=1e-4, rtol=1e-4)


def test_conditioners_alone_are_all_conditioners() -> None:
    flow = models.ours(models.vector_flow(TINY_VECTORS[0]))
    pairs = models.conditioners(flow, torch.randn(16, 6))
    assert len(pairs) == TINY_VECTORS[0].blocks
    assert all(given.shape == (16, 3) and given.is_contiguous() for _, given in pairs)


def test_launches_count_what_is_not_a_view() -> None:
    x = torch.randn(3, 4)
    assert launches.count(lambda: (x.view(4, 3).t() + 1).exp(), QUICK.device) == 2


def test_random_blocks_are_random() -> None:
    x = torch.randn(64, roundtrip.FEATURES)
    flow = roundtrip.random_flow(8, x)
    z, logdet = flow(x)
    assert float((z - x).abs().min(1).values.max().detach()) > 1e-3
    assert logdet.std() > 0


def test_command_line_keeps_parts_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, readme = tmp_path / "new" / "figures.json", tmp_path / "README.md"
    assert figures.main(["exactness", "--quick", "--json", str(file)]) == 0
    assert figures.main(["launches", "--quick", "--json", str(file)]) == 0
    content = json.loads(file.read_text(encoding="utf-8"))
    assert set(content["parts"]) == {"exactness", "launches"}
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        table.write(content, readme)
    written = readme.read_text(encoding="utf-8")
    assert written.startswith("before\n") and written.endswith("after\n") and "old" not in written
    assert written.count("round trip") == 1
    assert "Not measured on a GPU" in written


def test_an_unknown_part_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        figures.main(["speed"])
    assert "tabular" in capsys.readouterr().err


def test_exponent_of_a_power_law() -> None:
    sizes = (1, 2, 4, 8)
    assert math.isclose(growth.exponent(sizes, [3 * n**1.5 for n in sizes]), 1.5)


def test_growth_draws_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    picture, file = tmp_path / "growth.png", tmp_path / "growth.json"
    assert growth.main(["--quick", "--out", str(picture), "--json", str(file)]) == 0
    panels = json.loads(file.read_text(encoding="utf-8"))["axes"]
    assert {axis.name for axis in growth.AXES} == set(panels)
    assert picture.stat().st_size > 10_000
