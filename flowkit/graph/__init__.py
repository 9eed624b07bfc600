"""A model as data: built by functions of symbolic values, compared, written as YAML, drawn, and made into a module.

>>> import torch
>>> from flowkit import graph as g
>>> def translator(dim, cond, depth=20, hidden=1024):
...     x, c = g.input("x", dim), g.input("condition", cond)
...     e = g.mlp(c, out=dim, hidden=[256, 256], name="embedder")
...     def step(x, e):
...         x = g.affine_coupling(g.actnorm(x), condition=e, net=g.nets.mlp(hidden=hidden), permutation="swap")
...         x = g.affine_coupling(x, condition=e, net=g.nets.mlp(hidden=hidden))
...         return g.shuffle(x)
...     return g.graph(z=g.repeat(step, x, e, times=depth, name="flow"))
>>> graph = translator(8, cond=5, depth=2, hidden=16)
>>> graph == g.Graph.from_yaml(graph.to_yaml())         # print(graph) is a table, graph.draw("flow.svg") a picture
True
>>> net = graph.build()                                 # an nn.Module, and here a flowkit.bijections.Bijection
>>> v, c = torch.randn(4, 8), torch.randn(4, 5)
>>> _ = net(x=v, condition=c)                           # in training, the first batch initialises the actnorms
>>> net = net.eval()
>>> z, logdet = net(x=v, condition=c)
>>> torch.allclose(net.inverse(z=z, condition=c)[0], v, atol=1e-5)
True

A graph can be rewritten into one that computes the same in fewer passes over memory: across the steps of a repeat, a
coupling, its permutation and the actnorm behind it become one kernel, pairs of networks one network, and for inference
linear maps one stored matrix with its inverse:

>>> fast = net.optimize(inference=True)                 # a module of the same weights; for training: training=True
>>> torch.allclose(fast(x=v, condition=c)[0], z, atol=1e-5)
True
>>> found = graph.optimize(training=True)               # or on the graph: found.graph, found.build(state)
>>> state = found.restore(found.convert(net.state_dict()))     # and the weights go there and back
>>> all(torch.equal(state[key], value) for key, value in net.state_dict().items())
True

Kinds: ``g.<kind>(values..., options...)`` for every kind in ``g.KINDS``; a user's own by ``@g.register("name")``.
Graphs inside graphs: ``g.call(graph, x)``, ``g.repeat(step, x, times=n)``, ``g.residual(function, x)``.
"""

from collections.abc import Callable
from typing import Any

from flowkit import nets
from flowkit.graph import kinds as _kinds  # noqa: F401  registers the built-in kinds
from flowkit.graph import structure as _structure  # noqa: F401
from flowkit.graph.builder import Value, builder, call, graph, input, make, repeat, residual
from flowkit.graph.data import Graph, Input, Node
from flowkit.graph.module import BuiltGraph, GraphBijection
from flowkit.graph.plain import Options, Shape, suggest
from flowkit.graph.registry import KINDS, register

__all__ = [
    "KINDS",
    "BuiltGraph",
    "Graph",
    "GraphBijection",
    "Input",
    "Node",
    "Options",
    "Shape",
    "Value",
    "call",
    "graph",
    "input",
    "make",
    "nets",
    "register",
    "repeat",
    "residual",
]


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in KINDS:
        raise AttributeError(f"flowkit.graph has no {name!r}.{suggest(name, [*KINDS, *__all__])}")
    return builder(name)


def __dir__() -> list[str]:
    return [*__all__, *KINDS]
