"""Published invertible networks built on flowkit: find one by name, build it, load its weights."""

from zoo.registry import build, graph, list, load, register

__all__ = ["build", "graph", "list", "load", "register"]
