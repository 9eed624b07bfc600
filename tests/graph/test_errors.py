"""Bad input: a ValueError that names the node or argument, on the line that made it."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable

import pytest
import torch

from flowkit import graph as g
from tests.graph.examples import translator

NET = g.nets.mlp(hidden=4)


def image() -> g.Value:
    return g.input("x", (3, 8, 8))


def vector(channels: int = 4) -> g.Value:
    return g.input("v", channels)


OUTER = g.input("outer", 3)

BUILDER: dict[str, tuple[Callable[[], object], str]] = {
    "unknown option": (lambda: g.affine_coupling(vector(), net=NET, clam="tanh"), "affine_coupling.*'clam'.*'clamp'"),
    "missing option": (lambda: g.conv2d(image(), name="first"), "'first' .*'out' is missing: expected int"),
    "option of another type": (lambda: g.linear(vector(), 2.5, name="head"), "'head'.*'out': expected int, got 2.5"),
    "value out of a list": (lambda: g.pool(image(), "maximum"), "'by': expected 'average' | 'max', got 'maximum'"),
    "unknown clamp": (lambda: g.affine_coupling(vector(), net=NET, clamp="tan"), "clamp: expected one of .*'tan'"),
    "network option": (
        lambda: g.affine_coupling(vector(), net={"kind": "mlp", "hiden": 3}),
        "net.*'hiden'. Did you mean 'hidden'",
    ),
    "unknown network": (lambda: g.affine_coupling(vector(), net={"kind": "mpl"}), "unknown network 'mpl'.*'mlp'"),
    "odd split": (lambda: g.split(image(), name="halves"), "'halves'.*even number.*got 3"),
    "sizes of a split": (lambda: g.split(image(), [1, 1]), "add up to 3, got \\[1, 1\\]"),
    "spatial sizes of concat": (lambda: g.concat(image(), g.input("y", (3, 4, 8))), "concat.*3 × 8 × 8 and 3 × 4 × 8"),
    "shapes of add": (lambda: image() + vector(), "add.*3 × 8 × 8 and 4"),
    "rank of linear": (lambda: g.linear(image(), 2), "linear.*0 spatial dimensions, got 2"),
    "rank of conv2d": (lambda: g.conv2d(vector(), 2), "conv2d.*2 spatial dimensions, got 0"),
    "squeeze of an odd size": (lambda: g.squeeze(g.input("y", (1, 7, 8))), "squeeze.*divisible by 2.*7"),
    "condition of another size": (
        lambda: g.affine_coupling(image(), condition=g.input("c", (2, 4, 4)), net=g.nets.convnet(), name="third"),
        "'third'.*'c' \\(2 × 4 × 4\\).*condition: expected a vector",
    ),
    "condition that nobody takes": (lambda: g.actnorm(image(), condition=vector()), "actnorm.*no condition"),
    "condition that is no value": (lambda: g.affine_coupling(vector(), condition=3, net=NET), "condition: .*got 3"),
    "too many values": (lambda: g.actnorm(image(), image()), "expected 1 values to read, got 2"),
    "no value": (lambda: g.actnorm(), "expected 1 values to read, got 0"),
    "permutation": (lambda: g.permutation(vector(), [0, 1, 1, 2]), "permutation.*each of 0..C-1 once"),
    "a step that changes the shape": (
        lambda: g.repeat(lambda x: g.conv2d(x, 4), image(), times=2, name="body"),
        "'body'.*expected 3 × 8 × 8, got 4 × 8 × 8",
    ),
    "a step that ignores a value": (
        lambda: g.repeat(lambda x, e: g.flip(x), image(), vector(), times=2),
        "input 'e': expected every input to be used",
    ),
    "a step with other values": (
        lambda: g.repeat(lambda x, e: x, image(), times=2),
        "takes 2 values \\(x, e\\), got 1",
    ),
    "a step that reads past its arguments": (
        lambda: g.repeat(lambda x: g.affine_coupling(x, condition=OUTER, net=NET), vector(), times=2),
        "input 'outer'.*every value that it reads as an argument",
    ),
    "times": (lambda: g.repeat(g.flip, image(), times=0), "'times': expected at least 1, got 0"),
    "too many times": (lambda: g.repeat(lambda x: g.flip(x), image(), times=10**6), "at most 10000, got 1000000"),
    "a residual that changes the shape": (lambda: g.residual(lambda x: g.conv2d(x, 4), image()), "keep the shape"),
    "values of a called graph": (lambda: g.call(translator(), vector(8)), "'call'.*2 values.*'condition'.*got 1"),
    "shape of a called graph": (lambda: g.call(translator(), vector(8), vector(6)), "takes 5 as 'condition', got 6"),
    "name": (lambda: g.flip(image(), name="a.b"), "expected a name of letters.*'a.b'"),
    "shape of an input": (lambda: g.input("x", (3, 0)), "input 'x': .*spatial size.*0"),
    "channels of an input": (lambda: g.input("x", (None, 4)), "input 'x': .*number of channels.*None"),
    "repeated name": (lambda: g.graph(z=g.flip(g.flip(vector(), name="a"), name="a")), "'a': expected unique names"),
    "unused input": (lambda: g.graph(inputs=[v := vector(), image()], z=g.flip(v)), "input 'x': .*to be used"),
    "input not stated": (lambda: g.graph(inputs=[], z=g.flip(vector())), "input 'v': .*not among the inputs"),
    "output called inputs": (lambda: g.graph(inputs=g.flip(vector())), "'inputs': .*choose another name"),
    "many parts": (lambda: g.chunk(g.input("y", 4096), 4096), "'parts': expected at most 1000, got 4096"),
    "many sizes": (lambda: g.split(g.input("y", 4096), [1] * 4096), "'sizes': expected at most 1000 entries, got 4096"),
    "output that is no value": (lambda: g.graph(z=3), "output 'z': expected a value of the graph, got int"),
}


@pytest.mark.parametrize("case", BUILDER)
def test_the_builder_names_what_is_wrong(case: str) -> None:
    make, message = BUILDER[case]
    with pytest.raises(ValueError, match=re.compile(message, re.S)):
        make()


def test_the_error_is_raised_on_the_line_that_makes_it() -> None:
    with pytest.raises(ValueError, match="add") as caught:
        x = image()
        x = g.actnorm(x)
        x = g.add(x, g.flip(vector()))  # here
        g.flip(x)
    own = [frame for frame in traceback.extract_tb(caught.tb) if frame.filename == __file__]
    assert own[-1].line == "x = g.add(x, g.flip(vector()))  # here"


def test_an_unknown_kind_suggests_the_close_one() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'actnorm'"):
        _ = g.actnrm
    with pytest.raises(ValueError, match="unknown kind 'actnrm'.*'actnorm'"):
        g.make("actnrm", image())


TEXT = translator().to_yaml()

YAML = {
    "no YAML": ("outputs:", "outputs: [", "cannot be read"),
    "version": ("flowkit_graph: 1", "flowkit_graph: 2", "expected format version 1, got 2"),
    "unknown key": ("outputs: {z: flow}", "output: {z: flow}", "output: unknown key. Did you mean 'outputs'"),
    "unknown kind": ("kind: shuffle", "kind: shufle", "'shuffle' reads|'shufle'. Did you mean 'shuffle'"),
    "unknown option": ("out: 8", "outs: 8", "'embedder' .*unknown option 'outs'. Did you mean 'out'"),
    "option of another type": ("out: 8", "out: eight", "'embedder'.*'out': expected int, got 'eight'"),
    "number as YAML 1.1 reads it": (
        "kind: actnorm",
        "kind: actnorm\n          eps: 1e-5",
        "expected float.*1e-05.*point",
    ),
    "unknown reference": ("reads: [x, embedder]", "reads: [x, embeder]", "'flow': reads unknown 'embeder'.*'embedder'"),
    "unknown port": ("{z: flow}", "{z: flow.first}", "output 'z'.*'flow.first'"),
    "unknown output": ("{z: flow}", "{z: flo}", "output 'z'.*'flo'. Did you mean 'flow'"),
    "cycle": ("reads: [condition]", "reads: [flow]", "'embedder'.*no cycle, got embedder -> flow -> embedder"),
    "unused input": (
        "condition: [5]",
        "condition: [5]\n  extra: [3]",
        "input 'extra': expected every input to be used",
    ),
    "unused node": ("outputs: {z: flow}", "outputs: {z: x}", "node 'flow': expected every node to be used"),
    "wrong channels": ("e: [8]", "e: [9]", "'flow' .*takes 9 as 'e', got 8"),
    "wrong shape": ("x: [8]", "x: [-8]", "input 'x': .*-8"),
    "name that is none": ("embedder:", "yes:", "names as keys, got True"),
    "name twice": ("x: [8]", "x: [8]\n  x: [8]", "'x' stands twice"),
    "alias": ("outputs: {z: flow}", "outputs: &a {z: *a}", "aliases"),
    "a tag that would run code": ("out: 8", "out: !!python/object/apply:os.system [echo]", "line 9: tags .*os.system"),
    "a tag": ("out: 8", "out: !!int '8'", "line 9: tags"),
    "a date": ("x: [8]", "x: 2020-99-99", "input 'x': expected channels .*'2020-99-99'"),
    "a date that is none": ("out: 8", "out: 2020-99-99", "'embedder'.*'out': expected int, got '2020-99-99'"),
    "a number to base 60": ("x: [8]", "x: [1:30]", "input 'x': .*'1:30'"),
    "a number to base 8": ("out: 8", "out: 010", "'out': expected int, got '010'"),
    "a long number": ("x: [8]", f"x: [{'9' * 5000}]", "line 3: expected an integer of at most 20 digits, got 5000"),
    "a merge key": ("x: [8]", "<<: {x: [8]}", "input: expected a name .*'<<'"),
    "a name of Python's": ("x: [8]", "__class__: [8]", "input: '__class__' has a meaning of its own"),
    "a name of the module's": ("embedder:", "state_dict:", "node 'state_dict': .*rename"),
    "times that is no number": ("times: 2", "times: two", "'times': expected int, got 'two'"),
    "many layers": ("hidden: [8]", f"hidden: [{', '.join(['4'] * 1001)}]", "'hidden': expected at most 1000 entries"),
    "an error inside a node": ("kind: actnorm", "kind: actnrm", "^in flow: node 'actnorm': unknown kind"),
    "times": ("times: 2", "times: 1000000", "'times': expected at most 10000, got 1000000"),
    "depth": ("depth: 1}", "depth: 1000000}", "'depth': expected at most 1000, got 1000000"),
    "missing reads": ("reads: [condition]", "read: [condition]", "'embedder': expected a key 'reads'"),
    "body of a plain kind": ("kind: shuffle", "kind: shuffle\n          body: {}", "expected at least one input"),
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_names_what_is_wrong(case: str) -> None:
    old, new, message = YAML[case]
    assert old in TEXT
    with pytest.raises(ValueError, match=re.compile(message, re.S)):
        g.Graph.from_yaml(TEXT.replace(old, new, 1))


def test_a_hostile_yaml_is_refused_soon() -> None:
    with pytest.raises(ValueError, match="levels"):
        g.Graph.from_yaml("flowkit_graph: 1\ninputs: " + "[" * 10_000)
    with pytest.raises(ValueError, match="characters"):
        g.Graph.from_yaml("\n" * 10_000_001)
    with pytest.raises(ValueError, match="number of channels"):
        g.Graph.from_yaml(TEXT.replace("x: [8]", "x: [2000000000]", 1))
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        g.Graph.from_yaml("nowhere.yaml")


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_error_in_yaml_names_the_graph_inside_once(depth: int) -> None:
    text = {"inputs": {"x": [4]}, "nodes": {"s": {"kind": "shufle", "reads": ["x"]}}, "outputs": {"z": "s"}}
    for level in range(depth):
        node = {"kind": "call", "reads": ["x"], "body": text}
        text = {"inputs": {"x": [4]}, "nodes": {f"n{level}": node}, "outputs": {"z": f"n{level}"}}
    place = ".".join(f"n{level}" for level in reversed(range(depth)))
    with pytest.raises(ValueError) as caught:
        g.Graph.from_yaml(json.dumps({"flowkit_graph": 1, **text}) + "\n")
    assert str(caught.value).startswith(f"in {place}: node 's': unknown" if depth else "node 's': unknown kind")


def test_limits_of_channels_and_of_repeats_inside_repeats() -> None:
    with pytest.raises(ValueError, match="1 to 1048576, got 16777216"):
        g.input("x", 2**24)
    inner = g.graph(x=g.repeat(g.flip, vector(), times=100))
    assert g.graph(z=g.repeat(inner, vector(), times=100)).repetitions == 10_000
    for step in (inner, lambda x: g.call(inner, x), lambda x: g.residual(inner, x)):
        with pytest.raises(ValueError, match="'times': expected at most 10000 .*got 101 times 100"):
            g.repeat(step, vector(), times=101)


CALLS: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "missing condition": ({"x": torch.zeros(2, 8)}, "condition: expected a tensor of shape \\(B × 5\\), got none"),
    "wrong channels": ({"x": torch.zeros(2, 7), "condition": torch.zeros(2, 5)}, "x: .*B × 8.*got \\(2, 7\\)"),
    "wrong rank": ({"x": torch.zeros(8), "condition": torch.zeros(2, 5)}, "x: .*got \\(8,\\)"),
    "unknown name": ({"y": torch.zeros(2, 8), "condition": torch.zeros(2, 5)}, "y: expected one of the arguments x"),
    "integers": ({"x": torch.zeros(2, 8).long(), "condition": torch.zeros(2, 5)}, "x: expected a floating-point"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_built_graph_names_the_argument(case: str) -> None:
    arguments, message = CALLS[case]
    with pytest.raises(ValueError, match=message):
        translator().build().eval()(**arguments)


def two_outputs() -> g.Graph:
    """Inverted from ``z`` and ``early``."""
    z, early = g.split(g.actnorm(vector()))
    return g.graph(z=g.flip(z), early=early)


def beside() -> g.Graph:
    """No log-det: an actnorm beside a network."""
    return g.graph(z=g.actnorm(g.input("x", 4)), w=g.mlp(g.input("c", 3), out=2))


def labelled() -> g.Graph:
    """A coupling conditioned on a class, whose embedding stands in a graph inside."""
    label = g.input("label", ())
    e = g.call(g.graph(e=g.embedding(label, 10, 3)), label)
    return g.graph(z=g.affine_coupling(g.input("x", 4), condition=e, net=NET))


X, C, Z, META = torch.zeros(3, 4), torch.zeros(3, 3), torch.zeros(3, 2), torch.device("meta")
EMBEDDED = translator(4, 3)

MISFITS: dict[str, tuple[Callable[[], g.Graph], str, dict[str, torch.Tensor], str]] = {
    "batch of an output": (two_outputs, "inverse", {"z": Z, "early": Z[:1]}, "early: .*batch of 3, like z's, got 1"),
    "type of an output": (two_outputs, "inverse", {"z": Z, "early": Z.long()}, "early: .*floating-point.*int64"),
    "device of an output": (two_outputs, "inverse", {"z": Z, "early": Z.to(META)}, "early: .*cpu, got one on meta"),
    "type of a condition": (lambda: EMBEDDED, "forward", {"x": X, "condition": C.int()}, "condition: .*point.*int32"),
    "truth values": (lambda: EMBEDDED, "forward", {"x": X, "condition": C.bool()}, "condition: .*got torch.bool"),
    "complex": (lambda: EMBEDDED, "forward", {"x": X, "condition": C.cfloat()}, "condition: .*got torch.complex64"),
    "device of a condition": (
        lambda: EMBEDDED, "forward", {"x": X, "condition": C.to(META)}, "condition: .*device cpu, got one on meta",
    ),
    "device of everything": (lambda: EMBEDDED, "forward", {"x": X.to(META), "condition": C.to(META)}, "x: .*module's"),
    "batch of a condition": (beside, "forward", {"x": X, "c": C[:2]}, "c: .*batch of 3, like x's, got 2"),
    "class indices": (labelled, "forward", {"x": X, "label": torch.zeros(3)}, "label: .*class indices.*float32"),
    "short class indices": (labelled, "forward", {"x": X, "label": torch.zeros(3).char()}, "label: .*indices.*int8"),
    "batch of class indices": (labelled, "forward", {"x": X, "label": torch.tensor([1, 2])}, "label: .*batch of 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_arguments_of_one_type_device_and_batch(case: str) -> None:
    make, method, arguments, message = MISFITS[case]
    with pytest.raises(ValueError, match=message):
        getattr(make().build().eval(), method)(**arguments)


def test_one_number_a_sample_may_be_an_integer_or_not() -> None:
    net = g.graph(y=g.broadcast(g.reshape(g.input("t", ()), [1]), g.input("image", (2, 4, 4)))).build()
    for t in (torch.zeros(3), torch.zeros(3).long()):
        assert net(t=t, image=torch.zeros(3, 2, 4, 4)).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match="t: expected a floating-point tensor, got torch.bool"):
        net(t=torch.zeros(3).bool(), image=torch.zeros(3, 2, 4, 4))


@pytest.mark.parametrize("make", [beside, lambda: g.graph(w=g.mlp(g.input("c", 3), out=2))])
def test_values_that_are_not_finite_are_not_loaded(make: Callable[[], g.Graph]) -> None:
    net = make().build()
    assert not isinstance(net, g.GraphBijection)
    state = net.state_dict()
    state["mlp.main.0.weight"] = state["mlp.main.0.weight"].clone().fill_(torch.nan)
    with pytest.raises(ValueError, match="'mlp.main.0.weight': expected finite values"):
        make().build().load_state_dict(state)


def test_positions_are_counted() -> None:
    net = translator().build().eval()
    x, c = torch.zeros(2, 8), torch.zeros(2, 5)
    with pytest.raises(ValueError, match="expected 2 tensors \\(x, condition\\), got 3"):
        net(x, c, c)
    with pytest.raises(ValueError, match="x: expected once"):
        net(x, x=x, condition=c)


def test_no_inverse_names_the_first_node_in_the_way() -> None:
    x = image()
    kept, lost = g.split(g.squeeze(x))
    cases = {
        "node 'look' \\(conv2d\\) is not invertible": g.graph(z=g.flip(g.conv2d(x, 3, name="look"))),
        "nothing reads 'split.1'": g.graph(z=g.actnorm(kept)),
        "node 'flow' \\(repeat\\) is not invertible: inside, node 'conv2d'": g.graph(
            z=g.repeat(lambda v: g.conv2d(v, 3), x, times=2, name="flow")
        ),
        "conditioned on 'conv2d'": g.graph(z=g.affine_coupling(x, condition=g.conv2d(x, 2), net=g.nets.convnet())),
        "determine already": g.graph(a=g.flip(x), b=g.actnorm(x)),
        "same value": g.graph(a=(z := g.flip(x)), b=z),
        "no data of its own": g.graph(z=g.concat(x, g.conv2d(g.input("y", (1, 8, 8)), 2))),
    }
    for message, graph in cases.items():
        assert not graph.invertible
        with pytest.raises(ValueError, match=message):
            graph.build().inverse()


@pytest.mark.parametrize("name", ["self", "__class__", "__init__", "__"])
def test_names_that_no_call_can_pass_are_refused(name: str) -> None:
    makers = (g.input, lambda n, _: g.flip(vector(), name=n), lambda n, _: g.graph(**{n: g.flip(vector())}))
    for make in makers:
        with pytest.raises(ValueError, match=f"'{name}' has a meaning of its own"):
            make(name, 4)


@pytest.mark.parametrize("name", ["forward", "inverse", "graph", "training", "channels", "state_dict", "_modules"])
def test_names_that_a_module_needs_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"node '{name}'.*rename"):
        g.graph(z=g.flip(vector(), name=name))


def test_a_long_chain_with_no_inverse_says_why() -> None:
    x = vector()
    for _ in range(1100):
        x = g.flip(x)
    graph = g.graph(z=g.linear(x, 4, name="last"))
    assert graph.paths.obstacle == "node 'last' (linear) is not invertible"
    x, _ = g.split(x)
    assert g.graph(z=x).paths.obstacle == "nothing reads 'split.1' and it is no output, so what it holds is lost"


def test_names_that_clash_in_a_call_are_refused_at_build() -> None:
    with pytest.raises(ValueError, match="input 'condition'.*rename"):
        g.graph(z=g.flip(g.input("condition", 4))).build()
    with pytest.raises(ValueError, match="output 'condition'.*rename"):
        g.graph(condition=g.flip(vector())).build()
    c = g.input("c", 2)
    with pytest.raises(ValueError, match="output 'c'.*rename"):
        g.graph(c=g.affine_coupling(vector(), condition=c, net=NET)).build()
