"""A graph is a value: equality, YAML both ways, pickling, the table and the picture."""

from __future__ import annotations

import copy
import pickle
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given

from flowkit import graph as g
from tests.graph.examples import EXAMPLES, flows, translator, unet

SVG = "{http://www.w3.org/2000/svg}"


@given(flows())
def test_yaml_gives_back_an_equal_graph(graph: g.Graph) -> None:
    text = graph.to_yaml()
    again = g.Graph.from_yaml(text)
    assert again == graph and hash(again) == hash(graph)
    assert again.to_yaml() == text
    assert again.parameters == sum(p.numel() for p in graph.build().parameters())


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_survive_yaml_pickle_and_copies(name: str, tmp_path: Path) -> None:
    graph = EXAMPLES[name]()
    graph.to_yaml(tmp_path / "graph.yaml")
    assert g.Graph.from_yaml(tmp_path / "graph.yaml") == graph
    assert g.Graph.from_yaml(str(tmp_path / "graph.yaml")) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph == copy.deepcopy(graph)
    assert graph != replace(graph, outputs=tuple((f"{n}_", ref) for n, ref in graph.outputs))


def boxes(graph: g.Graph) -> int:
    """How many boxes a picture of the graph has."""
    inner = sum(boxes(node.body) for node in graph.nodes if node.body is not None)
    return len(graph.inputs) + len(graph.nodes) + len(graph.outputs) + inner


def test_a_stated_default_changes_nothing() -> None:
    x = g.input("x", 4)
    assert g.graph(z=g.actnorm(x, log_scale=True)) == g.graph(z=g.actnorm(x))
    assert g.graph(z=g.leaky_relu(x, slope=1)) == g.graph(z=g.leaky_relu(x, slope=1.0))
    assert g.graph(z=g.actnorm(x, log_scale=False)) != g.graph(z=g.actnorm(x))


def test_a_repeat_is_one_node_and_costs_nothing_to_state() -> None:
    graph = translator(dim=2048, cond=768, depth=10_000, hidden=100_000)
    assert [node.name for node in graph.nodes] == ["embedder", "flow"]
    assert graph.parameters > 10**12
    assert "×10000" in str(graph)


def test_checking_shapes_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    EXAMPLES["multiscale"]()
    translator()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_table_names_every_node_with_shape_and_parameters(name: str) -> None:
    graph = EXAMPLES[name]()
    text = str(graph)
    for node in graph.nodes:
        line = next(line for line in text.splitlines() if line.startswith(f"{node.name} "))
        assert node.kind in line and all(source in line for source in node.sources)
    assert f"{sum(p.numel() for p in graph.build().parameters()):,} parameters" in text


def test_the_table_says_what_is_invertible() -> None:
    assert "invertible: x ↔ z, given condition" in str(translator())
    assert "no inverse: node 'to_mean' (linear) is not invertible" in str(unet())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_picture_is_well_formed_and_shows_every_node(name: str, tmp_path: Path) -> None:
    graph = EXAMPLES[name]()
    svg = graph.draw(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == svg
    root = ElementTree.fromstring(svg)
    titles = [group.findtext(f"{SVG}title") or "" for group in root.iter(f"{SVG}g")]
    for node in graph.nodes:
        assert any(title.startswith(f"{node.name}: {node.kind}") for title in titles)
    assert len(titles) == boxes(graph)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in root.iter(f"{SVG}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert x >= 0 and y >= 0
        assert x + float(box.get("width", 0)) <= width and y + float(box.get("height", 0)) <= height


def test_a_repeat_is_drawn_as_a_stack() -> None:
    root = ElementTree.fromstring(translator(depth=20).draw())
    assert [text.text for text in root.iter(f"{SVG}text") if text.text and "×20" in text.text] == ["×20"]


@given(flows())
def test_random_graphs_can_be_drawn_and_printed(graph: g.Graph) -> None:
    ElementTree.fromstring(graph.draw())
    assert str(graph).count("\n") >= len(graph.nodes)


def edge_points(path: str) -> list[tuple[float, float]]:
    """The end of every segment of an edge, from its start, for paths of the commands M, V and C."""
    points: list[tuple[float, float]] = []
    for command, text in re.findall(r"([MVC])([-\d. ]+)", path):
        numbers = [float(number) for number in text.split()]
        points.append((points[-1][0], numbers[0]) if command == "V" else (numbers[-2], numbers[-1]))
    return points


@given(flows())
@example(unet())
@example(translator(depth=20))
@example(EXAMPLES["multiscale"]())
def test_no_edge_ends_in_a_segment_without_length(graph: g.Graph) -> None:
    root = ElementTree.fromstring(graph.draw())
    edges = [path for path in root.iter(f"{SVG}path") if path.get("stroke")]
    assert len(edges) > len(graph.nodes)
    for edge in edges:
        before, end = edge_points(edge.get("d", ""))[-2:]
        assert before != end


def test_boxes_of_a_picture_do_not_overlap() -> None:
    root = ElementTree.fromstring(unet(size=None).draw())
    boxes = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g") if "residual" not in (group[0].text or "")]
    places = [tuple(float(box.get(k, 0)) for k in ("x", "y", "width", "height")) for box in boxes if box is not None]
    for i, (x, y, w, h) in enumerate(places):
        for u, v, s, t in places[i + 1 :]:
            assert x + w <= u + 0.2 or u + s <= x + 0.2 or y + h <= v + 0.2 or v + t <= y + 0.2
