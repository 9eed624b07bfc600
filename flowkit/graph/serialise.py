"""Graphs as YAML text and back: plain data only, strict, and readable in a diff."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from flowkit.graph.data import Graph, Input, Node
from flowkit.graph.options import net_to_mapping
from flowkit.graph.plain import Options, check_name, suggest
from flowkit.nets import Recipe

VERSION = 1
"""Version of the format, the value of the key ``flowkit_graph`` of a file."""

MAX_CHARACTERS = 10_000_000
MAX_DEPTH = 60
MAX_DIGITS = 20

_GRAPH_KEYS = ("inputs", "nodes", "outputs")
_NODE_KEYS = ("kind", "reads", "condition", "body")


def to_yaml(graph: Graph) -> str:
    """The graph as YAML; ``from_yaml`` gives back an equal graph."""
    data = {"flowkit_graph": VERSION, **_graph_data(graph)}
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def from_yaml(text: str) -> Graph:
    """The graph that a YAML text states.

    Raises:
        ValueError: for text that is no YAML, uses aliases or tags, or repeats a key; for an unknown version, key, kind,
            option or reference; a cycle; an unused input or node; shapes that do not fit. The message names the place.
    """
    data = _load(text)
    version = _mapping(data, "file").pop("flowkit_graph", None)
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"flowkit_graph: expected format version {VERSION}, got {version!r}.")
    return _graph(data, "")


def _graph_data(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": {value.name: list(value.shape) for value in graph.inputs},
        "nodes": {node.name: _node_data(node) for node in graph.nodes},
        "outputs": dict(graph.outputs),
    }


def _node_data(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": node.kind, "reads": list(node.reads)}
    if node.condition is not None:
        data["condition"] = node.condition
    data.update({name: _plain(value) for name, value in node.options.items()})
    if node.body is not None:
        data["body"] = _graph_data(node.body)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Recipe):
        return {name: _plain(option) for name, option in net_to_mapping(value).items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _graph(data: Any, place: str) -> Graph:
    data = _mapping(data, place or "file")
    for key in data:
        if key not in _GRAPH_KEYS:
            raise ValueError(f"{place}{key}: unknown key.{suggest(key, _GRAPH_KEYS)}")
    inputs, nodes, outputs = (_mapping(data.get(key, {}), place + key) for key in _GRAPH_KEYS)
    try:
        return Graph(
            inputs=tuple(Input(check_name(name, "input"), shape) for name, shape in inputs.items()),
            nodes=tuple(_node(name, node, place) for name, node in nodes.items()),
            outputs=tuple((name, _text(reference, f"{place}outputs.{name}")) for name, reference in outputs.items()),
        )
    except ValueError as error:
        if not place or str(error).startswith("in "):  # the file's own graph; or a graph further inside has said where
            raise
        raise ValueError(f"in {place[:-1]}: {error}") from error


def _node(name: Any, data: Any, place: str) -> Node:
    check_name(name, "node")
    where = f"node {name!r}"
    data = _mapping(data, where)
    for key in ("kind", "reads"):
        if key not in data:
            raise ValueError(f"{where}: expected a key {key!r}, got {', '.join(map(str, data)) or 'none'}.")
    reads = data["reads"]
    if not isinstance(reads, list):
        raise ValueError(f"{where}: reads: expected a list of names, got {reads!r}.")
    condition = data.get("condition")
    return Node(
        name=name,
        kind=_text(data["kind"], f"{where}: kind"),
        reads=tuple(_text(source, f"{where}: reads") for source in reads),
        condition=None if condition is None else _text(condition, f"{where}: condition"),
        options=Options({key: value for key, value in data.items() if key not in _NODE_KEYS}),
        body=_graph(data["body"], f"{place}{name}.") if "body" in data else None,
    )


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected a mapping, got {type(data).__name__}.")
    for key in data:
        if not isinstance(key, str):
            raise ValueError(f"{where}: expected names as keys, got {key!r}; write it in quotes if it is a name.")
    return data


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected a name, got {value!r}.")
    return value


class _Dumper(yaml.SafeDumper):
    """Writes equal lists in full each time: a reader follows no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Loader(yaml.SafeLoader):
    """Refuses what a graph never needs and a hostile file may hold: aliases, tags, deep nesting, repeated keys.

    Plain text is null, a truth value, a decimal number or a string: YAML 1.1's dates, merge keys and numbers to base
    60, 16, 8 or 2 are strings here, so that they are refused where a number or name is expected.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{line}: aliases (*name) are not part of the format.")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"{line}: tags (!name) are not part of the format, got {event.tag!r}.")
        if self.depth >= MAX_DEPTH:
            raise ValueError(f"{line}: expected at most {MAX_DEPTH} levels.")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: {name!r} stands twice; names are unique.")
            seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise ValueError(
                f"line {node.start_mark.line + 1}: expected an integer of at most {MAX_DIGITS} digits,"
                f" got {len(node.value)}."
            )
        return int(node.value)


_Loader.yaml_implicit_resolvers = {}
for _type, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+0123456789.")),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", re.compile(rf"(?:{_pattern})\Z"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _load(text: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"YAML: expected at most {MAX_CHARACTERS} characters, got {len(text)}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"YAML: cannot be read: {error}") from error
