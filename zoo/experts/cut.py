"""A network cut in two at any of its modules: what comes before, and what follows from there alone."""

from __future__ import annotations

from difflib import get_close_matches

from torch import fx, nn

INPUT = "input"


def halves(network: nn.Module, cut: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Two modules that share the network's parameters, the second applied to the first's result being the network.

    Arguments:
        network: of one input and one output, traceable by torch.fx. In-place activations are switched off, so that a
            representation stays as it is when the second half runs.
        cut: the name of a module (what it returns the last time it is called), or of a function by its node in the
            trace, such as "flatten"; "input" for the network's input.

    Raises:
        ValueError: if there is no such module, or what follows also needs something else from before the cut, so that
            the network cannot go on from there.
    """
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    trace = fx.Tracer().trace(network)
    node = find(trace, cut)
    before = fx.GraphModule(network, _before(trace, node))
    before.graph.eliminate_dead_code()
    before.recompile()
    return before, fx.GraphModule(network, _after(trace, node, cut))


def find(trace: fx.Graph, cut: str) -> fx.Node:
    """The node of a trace that a name stands for; ValueError names others that there are."""
    inputs = [node for node in trace.nodes if node.op == "placeholder"]
    if cut == INPUT:
        return inputs[0]
    names: dict[str, fx.Node] = {node.name: node for node in trace.nodes if node.op == "call_function"}
    for node in trace.nodes:
        modules = [name for name, _ in node.meta.get("nn_module_stack", {}).values()]
        names.update(dict.fromkeys(modules, node))
    if cut not in names:
        close = get_close_matches(cut, names, n=8, cutoff=0.3) or [*names][:8]
        raise ValueError(f"cut: expected the name of a module, such as {', '.join(close)}, or {INPUT!r}, got {cut!r}")
    return names[cut]


def _before(trace: fx.Graph, cut: fx.Node) -> fx.Graph:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in trace.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node is cut:
            break
    graph.output(copies[cut])
    return graph


def _after(trace: fx.Graph, cut: fx.Node, name: str) -> fx.Graph:
    graph = fx.Graph()
    copies = {cut: graph.placeholder("representation")}
    follows = False
    for node in trace.nodes:
        if node.op == "get_attr" or follows:
            missing = [parent.name for parent in node.all_input_nodes if parent not in copies]
            if missing:
                raise ValueError(
                    f"cut: {name!r} is no bottleneck: {node.name} follows it and also reads {missing[0]}, which comes "
                    "before; cut after they join"
                )
            copies[node] = graph.node_copy(node, copies.__getitem__)
        follows = follows or node is cut
    return graph
