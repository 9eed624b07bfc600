"""Nothing in forward, inverse or backward waits for the device, so that flows can be captured as CUDA graphs.

The first batch of an actnorm, checks of options and loaded values, and the drift guard look at data, and may.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import flowkit
from flowkit.bijections import Bijection, Compose, Inverse
from tests.bijections.cases import Case
from tests.bijections.test_contract import every_layer, inputs, randomised

ROOT = Path(flowkit.__file__).parent
FILES = [
    *sorted((ROOT / "ops").glob("*.py")),
    *sorted((ROOT / "bijections").glob("*.py")),
    *(ROOT / name for name in ("reversible.py", "graph/module.py", "graph/walk.py")),
]
WAITING = {"item", "tolist", "nonzero", "cpu", "numpy", "masked_select", "argwhere", "unique", "synchronize"}
"""Methods and functions whose result has a size or value that only the device knows."""

MAY_WAIT = (
    "__init__",
    "check",
    "_check",
    "_initialise",
    "_is_ready",
    "_load_from_state_dict",
    "_start_of_run",
    "_compare",
    "_as_",
    "_divide",
)
"""How the names begin of functions that run once, or only on request."""


def waiting(source: str) -> Iterator[tuple[str, int, str]]:
    """Each call in ``source`` that waits for the device: (function, line, what is called)."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, int, str]]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in WAITING:
                yield function, node.lineno, called.attr
            if isinstance(called, ast.Name) and called.id in ("bool", "float") and _looks_at_a_tensor(node):
                yield function, node.lineno, called.id
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    return visit(ast.parse(source), "")


def _looks_at_a_tensor(call: ast.Call) -> bool:
    """Whether the argument is a method call or an element: ``bool(x.all())``, ``float(x[0])``."""
    (argument,) = call.args
    asks_object = isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name)  # bool(getattr(...))
    return isinstance(argument, (ast.Call, ast.Subscript, ast.Attribute)) and not asks_object


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_call_waits_for_the_device(file: Path) -> None:
    found = [hit for hit in waiting(file.read_text(encoding="utf-8")) if not hit[0].startswith(MAY_WAIT)]
    assert not found, f"{file.name}: (function, line, call): {found}"


def test_the_scan_finds_what_waits() -> None:
    source = "def forward(x):\n    if bool(x.any()):\n        return x.item()\n    return float(x[0]), bool(flag)\n"
    assert list(waiting(source)) == [("forward", 2, "bool"), ("forward", 3, "item"), ("forward", 4, "float")]


def step(layer: Bijection, x: Tensor, condition: Tensor | None) -> tuple[Tensor, ...]:
    """Both results and the gradients of everything that has one."""
    y, logdet = layer(x, condition)
    sources = [t for t in (x, condition, *layer.parameters()) if t is not None and t.requires_grad]
    return y, logdet, *torch.autograd.grad(y.sum() + logdet.sum(), sources, allow_unused=True)


@every_layer
def test_backward_runs_on_tensors_without_data(case: Case) -> None:
    layer = Compose(randomised(case))
    x, condition = inputs(case, case.shapes[-1])
    y = layer(x, condition)[0].detach()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:  # reading a value is an error
        c = None if condition is None else fake.from_tensor(condition)
        for given, direction in ((x, layer), (y, Inverse(layer))):
            for _ in range(2):
                moved, _, grad, *_ = step(direction, fake.from_tensor(given).requires_grad_(), c)
                assert grad.shape == given.shape and moved.shape[0] == given.shape[0]
                flowkit.reversible(direction)
            direction.reversal = None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_layer
def test_capture_and_replay(case: Case) -> None:
    layer = Compose(randomised(case)).cuda()
    x, condition = inputs(case, case.shapes[-1])
    y = layer(x.cuda(), None if condition is None else condition.cuda())[0].detach().cpu()
    for given, direction in ((x, layer), (y, Inverse(layer))):
        for _ in range(2):
            static = given.cuda().requires_grad_()
            c = None if condition is None else condition.cuda()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # warm up: libraries allocate their workspaces
                for _ in range(2):
                    step(direction, static, c)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = step(direction, static, c)
            with torch.no_grad():
                static.copy_(torch.randn_like(given).cuda() * 0.5)
            graph.replay()
            for replayed, eager in zip(captured, step(direction, static, c), strict=True):
                torch.testing.assert_close(replayed, eager, atol=1e-4, rtol=1e-4)
            flowkit.reversible(direction)
        direction.reversal = None
