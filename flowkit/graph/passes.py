"""Optimisation passes: functions from a graph to one of the same function that runs faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import nets
from flowkit.bijections import AdditiveCoupling
from flowkit.bijections.coupling import _Coupling
from flowkit.bijections.step import _Step
from flowkit.graph.data import Graph, Node
from flowkit.graph.plain import Options, Shape
from flowkit.graph.registry import KINDS
from flowkit.graph.rewrite import ComposePermutations, Move, Rename, Rewrite, Source, State, fused
from flowkit.nets import Recipe

PERMUTATIONS = ("permutation", "shuffle", "swap", "flip")
LINEAR = ("invertible_linear", "invertible_conv1x1")
_OF_ACTNORM = {"unbiased", "initialize_by"}  # options that layers with an actnorm inside do not have
STEPS = {"affine_coupling": "affine_step", "additive_coupling": "additive_step"}
FOLDED = ("actnorm", *LINEAR, "normalized_linear", *PERMUTATIONS)


def merge_permutations(graph: Graph) -> Rewrite:
    """Consecutive permutations become one."""
    return fused(graph, _merged)


def _merged(graph: Graph, first: Node, second: Node) -> tuple[Node, Iterable[Move]] | None:
    if first.kind not in PERMUTATIONS or second.kind not in PERMUTATIONS:
        return None
    channels = _channels(graph, second)
    a, b = _source(first, channels), _source(second, channels)
    if a.drawn or b.drawn:
        node = replace(first, kind="shuffle", options=Options())
    else:
        node = replace(first, kind="permutation", options=Options({"permutation": _composed(a, b)}))
    return node, (ComposePermutations(a, b, f"{first.name}.permutation"),)


def _composed(first: Source, second: Source) -> tuple[int, ...]:
    return tuple(first.value[i] for i in second.value)


def absorb_permutations(graph: Graph) -> Rewrite:
    """A permutation behind a coupling becomes the coupling's own, which costs nothing."""
    return fused(graph, _absorbed)


def _absorbed(graph: Graph, first: Node, second: Node) -> tuple[Node, Iterable[Move]] | None:
    make = KINDS[first.kind].make
    if not (isinstance(make, type) and issubclass(make, _Coupling) and not issubclass(make, _Step)):
        return None
    if second.kind not in PERMUTATIONS:
        return None
    channels = _channels(graph, second)
    a, b = _coupling_source(first, channels), _source(second, channels)
    option: Any = "shuffle" if a.drawn or b.drawn else _composed(a, b)
    node = replace(first, options=Options({**first.options, "permutation": option}))
    return node, (ComposePermutations(a, b, f"{first.name}.permutation"),)


def _channels(graph: Graph, node: Node) -> int:
    return int(graph.facts[node.name].outputs[0][0] or 0)


def _source(node: Node, channels: int) -> Source:
    """Where a permutation node has its permutation."""
    module: Any = KINDS[node.kind].build(node.options, ((channels,),), None)
    value = tuple(module.permutation.tolist())
    kept = f"{node.name}.permutation" if "permutation" in module.state_dict() else None
    return Source(value, kept, drawn=node.kind == "shuffle" and "seed" not in node.options)


def _coupling_source(node: Node, channels: int) -> Source:
    """The same for the permutation of a coupling, the identity if it has none."""
    option = node.options.get("permutation")
    if option is None:
        return Source(tuple(range(channels)))
    stated = {name: node.options[name] for name in ("split", "transform_first") if name in node.options}
    permutation = torch.tensor(option) if isinstance(option, tuple) else option
    module = AdditiveCoupling(
        channels, lambda *_: nn.Identity(), condition=int(node.condition is not None), permutation=permutation, **stated
    )
    assert module.permutation is not None
    kept = f"{node.name}.permutation" if isinstance(option, tuple) or option == "shuffle" else None
    return Source(tuple(module.permutation.tolist()), kept, drawn=option == "shuffle")


def fuse_steps(graph: Graph) -> Rewrite:
    """An actnorm behind a coupling becomes part of the coupling's one pass over memory."""
    return fused(graph, _step)


def _step(graph: Graph, first: Node, second: Node) -> tuple[Node, Iterable[Move]] | None:
    plain = not {"mask", "volume_preserving"} & set(first.options)
    if first.kind not in STEPS or second.kind != "actnorm" or not plain or _OF_ACTNORM & set(second.options):
        return None
    node = replace(first, kind=STEPS[first.kind], options=Options({**first.options, **second.options}))
    return node, (Rename(((second.name, f"{first.name}.norm"),)),)


def compose_linear(graph: Graph) -> Rewrite:
    """An actnorm before or behind a linear map becomes part of its matrix, which is composed at every call."""
    return fused(graph, _norm_first).then(lambda g: fused(g, _norm_last))


def _norm_first(graph: Graph, first: Node, second: Node) -> tuple[Node, Iterable[Move]] | None:
    return _normalized(second, first, Options()) if first.kind == "actnorm" else None


def _norm_last(graph: Graph, first: Node, second: Node) -> tuple[Node, Iterable[Move]] | None:
    return _normalized(first, second, Options({"norm_first": False})) if second.kind == "actnorm" else None


def _normalized(linear: Node, norm: Node, options: Options) -> tuple[Node, Iterable[Move]] | None:
    if linear.kind not in LINEAR or _OF_ACTNORM & set(norm.options):
        return None
    node = replace(linear, kind="normalized_linear", options=Options({**linear.options, **norm.options, **options}))
    return node, (Rename(((norm.name, f"{linear.name}.norm"),)),)


def fold_linear(graph: Graph) -> Rewrite:
    """Linear maps, with the actnorms and permutations beside them, become one stored matrix and its stored inverse."""
    start = [
        _alone(graph, node) if node.kind in LINEAR or node.kind == "normalized_linear" else node for node in graph.nodes
    ]
    runs: dict[str, tuple[Node, ...]] = {node.name: (before,) for node, before in zip(start, graph.nodes, strict=True)}

    def pair(_: Graph, first: Node, second: Node) -> tuple[Node, Iterable[Move]] | None:
        kinds = (first.kind, second.kind)
        if "fixed_linear" not in kinds or not set(kinds) <= {"fixed_linear", *FOLDED}:
            return None
        node = first if first.kind == "fixed_linear" else second
        runs[node.name] = (*runs[first.name], *runs[second.name])
        return node, ()

    after = replace(graph, nodes=tuple(start))
    while len((smaller := fused(after, pair).graph).nodes) < len(after.nodes):
        after = smaller
    shapes = {node.name: tuple(graph.shapes[source] for source in node.reads) for node in graph.nodes}
    folds = [
        Fold(n.name, runs[n.name], tuple(shapes[m.name] for m in runs[n.name]))
        for n in after.nodes
        if n.kind == "fixed_linear"
    ]
    return Rewrite(after, tuple(folds))


def _alone(graph: Graph, node: Node) -> Node:
    return replace(node, kind="fixed_linear", options=Options())


def pack_pairs(graph: Graph) -> Rewrite:
    """The scale and the shift network of a coupling, two MLPs of one shape, run as one network of double width."""
    nodes, moves = [], []
    for node in graph.nodes:
        packed = _packed(node.options.get("net"))
        if packed is None or node.body is not None:
            nodes.append(node)
            continue
        options = {name: value for name, value in node.options.items() if name != "layout"}
        nodes.append(replace(node, options=Options({**options, "net": packed})))
        parts = KINDS[node.kind].build(node.options, *_shapes(graph, node)).get_submodule("scale_net.main")
        layers = tuple(i for i, part in enumerate(parts.children()) if isinstance(part, nn.Linear))
        moves.append(StackPair(node.name, layers))
    return Rewrite(replace(graph, nodes=tuple(nodes)), tuple(moves))


def _shapes(graph: Graph, node: Node) -> tuple[tuple[Shape, ...], Shape | None]:
    reads = tuple(graph.shapes[source] for source in node.reads)
    return reads, None if node.condition is None else graph.shapes[node.condition]


def _packed(net: Any) -> Recipe | None:
    """The recipe of one network for a pair of them, None if they do not fit together."""
    if not isinstance(net, tuple) or len(net) != 2 or any(one.kind != "mlp" for one in net):
        return None
    scale, shift = ({k: v for k, v in one.options.items() if k != "tanh_last"} for one in net)
    if scale != shift or "norm" in scale:
        return None
    ends = ("scale_tanh", "shift_tanh")
    tanh = {name: one.options.get("tanh_last", False) for name, one in zip(ends, net, strict=True)}
    return nets.make("paired_mlp", **scale, **tanh)


@dataclass(frozen=True)
class StackPair:
    """The layers of ``scale_net`` and ``shift_net`` of the coupling ``name`` stacked, and apart again."""

    name: str
    layers: tuple[int, ...]

    def _keys(self) -> Iterator[tuple[str, tuple[str, str]]]:
        for i, layer in enumerate(self.layers):
            for stacked, entry in (("weights", "weight"), ("biases", "bias")):
                apart = (f"{self.name}.{net}.main.{layer}.{entry}" for net in ("scale_net", "shift_net"))
                yield f"{self.name}.net.{stacked}.{i}", (next(apart), next(apart))

    def convert(self, state: State) -> None:
        for key, (scale, shift) in self._keys():
            state[key] = torch.stack([state.pop(scale), state.pop(shift)])

    def restore(self, state: State) -> None:
        for key, (scale, shift) in self._keys():
            state[scale], state[shift] = state.pop(key)


@dataclass(frozen=True)
class Fold:
    """The weights of a run of linear nodes become those of the ``fixed_linear`` node ``name``; there is no way back."""

    name: str
    nodes: tuple[Node, ...]
    shapes: tuple[tuple[Shape, ...], ...]

    def convert(self, state: State) -> None:
        dtype, device, layers = None, None, []
        for node, shapes in zip(self.nodes, self.shapes, strict=True):
            layer = KINDS[node.kind].build(node.options, shapes, None).double().eval()
            prefix = f"{node.name}."
            own = {key.removeprefix(prefix): state.pop(key) for key in [*state] if key.startswith(prefix)}
            floating = next((value for value in own.values() if value.is_floating_point()), None)
            if floating is not None:
                dtype, device = floating.dtype, floating.device
            layer.load_state_dict({key: value.cpu() for key, value in own.items()})
            layers.append(layer)
        entries = _as_matrix(layers, int(self.shapes[0][0][0] or 0))
        state.update({f"{self.name}.{key}": value.to(device, dtype) for key, value in entries.items()})

    def restore(self, state: State) -> None:
        raise ValueError(
            f"restore: {', '.join(node.name for node in self.nodes)} are folded into one matrix in {self.name!r}, "
            "which does not tell them apart; keep the state dict from before, or optimize with training=True."
        )


@torch.no_grad()
def _as_matrix(layers: list[nn.Module], channels: int) -> dict[str, Tensor]:
    """The affine map that layers are, one after the other, by what they do to the unit vectors and to zero."""
    x = torch.cat([torch.eye(channels, dtype=torch.float64), torch.zeros(1, channels, dtype=torch.float64)])
    total = torch.zeros(channels + 1, dtype=torch.float64)
    for layer in layers:
        x, logdet = layer(x)
        total = total + logdet
    shift = x[-1]
    weight = (x[:-1] - shift).mT.contiguous()
    inverse = torch.linalg.inv(weight)
    return {
        "weight": weight,
        "shift": shift.clone(),
        "inverse_weight": inverse,
        "inverse_shift": -(inverse @ shift),
        "log_abs_det": total[-1],
    }


@dataclass(frozen=True)
class RequireInitialised:
    """Refuses a state dict with an actnorm that has seen no data: what is folded is never initialised again."""

    def convert(self, state: State) -> None:
        waiting = [key for key, value in state.items() if key.endswith(".initialized") and not bool(value)]
        if waiting:
            raise ValueError(
                f"convert: expected every actnorm initialised, {waiting[0].removesuffix('.initialized')!r} is not; run "
                "one batch through the graph in training mode first."
            )

    def restore(self, state: State) -> None:
        """Nothing to do."""
