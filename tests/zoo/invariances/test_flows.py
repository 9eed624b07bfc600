"""The cINN and the concept flow: inverses and log-dets against autograd, embeddings, published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import zoo
from flowkit.graph import BuiltGraph
from zoo import published, registry
from zoo.invariances.published import FILES, PUBLISHED

FIXTURES = Path(__file__).parents[2] / "parity" / "fixtures"


def flow(seed: int = 0, **options: object) -> BuiltGraph:
    """A small cINN in float64 with every tensor random, nothing at its neutral start."""
    net = zoo.build("invariances/tiny", **options).double()
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_((0.2 * drawn).exp() if name.endswith("norm.scale") else 0.3 * drawn)
        elif name.endswith("initialized"):
            value.fill_(True)
    return net.eval()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def true_logdet(net: BuiltGraph, x: Tensor, z: Tensor) -> Tensor:
    rows = [
        torch.autograd.functional.jacobian(lambda v, i=i: net(v[None], z[i : i + 1])[0][0], x[i]) for i in range(len(x))
    ]
    return torch.stack([torch.linalg.slogdet(row).logabsdet for row in rows])


@given(
    batch=st.integers(1, 3),
    dim=st.integers(2, 9),
    activation=st.sampled_from(["none", "lrelu"]),
    conditioning=st.sampled_from(["none", "sequential"]),
)
@settings(max_examples=10, deadline=None)
def test_inverse_and_logdet(batch: int, dim: int, activation: str, conditioning: str) -> None:
    net = flow(dim=dim, condition=5, depth=3, activation=activation, conditioning=conditioning)
    x, z = draw(batch, dim), draw(batch, 5)
    v, logdet = net(x, z)
    back, minus = net.inverse(v, z)
    torch.testing.assert_close(back, x, atol=1e-10, rtol=0)
    torch.testing.assert_close(minus, -logdet, atol=1e-9, rtol=0)
    torch.testing.assert_close(logdet, true_logdet(net, x, z), atol=1e-8, rtol=0)


def test_a_feature_map_as_condition() -> None:
    net = zoo.build("invariances/tiny-spatial").double()
    x, z = draw(3, 8), draw(3, 4, 7, 7)
    v, logdet = net(x, z)
    torch.testing.assert_close(net.inverse(v, z)[0], x, atol=1e-10, rtol=0)
    torch.testing.assert_close(logdet, true_logdet(net.eval(), x, z), atol=1e-8, rtol=0)
    assert not torch.allclose(net(x, z.flip(0))[0], v)


def test_the_compat_switch_reports_no_logdet_for_the_activation() -> None:
    exact = flow(activation="lrelu", depth=1)
    published_ = zoo.build("invariances/tiny", activation="lrelu", exact_logdet=False, depth=1).double().eval()
    published_.load_state_dict(exact.state_dict())
    x, z = draw(16, 8), draw(16, 20)
    (v, logdet), (same, theirs) = exact(x, z), published_(x, z)
    torch.testing.assert_close(same, v)
    negative = (exact.get_submodule("flow.0.norm")(x)[0] < 0).sum(1)
    torch.testing.assert_close(logdet - theirs, negative.double() * np.log(0.9))
    assert negative.any()


def test_initialisation_needs_more_than_one_sample() -> None:
    net = zoo.build("invariances/tiny")
    with pytest.raises(ValueError, match="expected two or more values a channel"):
        net(torch.randn(1, 8), torch.randn(1, 20))
    v, _ = net(torch.randn(64, 8) * 3 + 1, torch.randn(64, 20))
    assert v.isfinite().all() and all(v for k, v in net.state_dict().items() if k.endswith("initialized"))


def test_concepts_are_a_split_of_the_flow() -> None:
    net = zoo.build("invariances/concepts-tiny").double().eval()
    x = draw(4, 10)
    *parts, logdet = net(x)
    assert [part.shape[1] for part in parts] == [2, 3, 5]
    torch.testing.assert_close(net.inverse(*parts)[0], x, atol=1e-10, rtol=0)
    jacobian = torch.autograd.functional.jacobian(lambda one: torch.cat(net(one[None])[:-1], 1)[0], x[0])
    torch.testing.assert_close(logdet[0], torch.linalg.slogdet(jacobian).logabsdet, atol=1e-8, rtol=0)
    sizes = registry.graph("invariances/concepts").output_shapes
    assert list(sizes)[-1] == "residual" and sum(shape[0] or 0 for shape in sizes.values()) == 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedder_dims": (20, 9)}, "expected widths that end with dim=8"),
        ({"embedder_dims": (7, 8)}, "expected two or more widths that start with 20"),
        ({"embedder_depth": 1}, "expected a depth of 2 or more"),
        ({"size": 7, "down": 3}, "expected a square map that can be halved 3"),
        ({"conditioning": "parallel"}, "conditioning expects one of none, sequential"),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.graph("invariances/tiny", **options)


def test_published_sizes() -> None:
    parameters = {
        "alexnet-conv5": 189_540_864,
        "alexnet-fc7": 204_577_135,
        "alexnet-softmax": 190_062_055,
        "stylized-resnet50-avgpool": 216_416_127,
        "resnet101-input": 206_570_496,
        "resnet101-avgpool": 196_221_824,
        "resnet101-fc": 189_016_285,
    }
    for name, count in parameters.items():
        assert zoo.graph(f"invariances/{name}").parameters == count


def test_published_flows_have_the_keys_shapes_and_types_of_their_files() -> None:
    """One for each kind of embedder; the parity component "layouts" compares all files."""
    with np.load(FIXTURES / "invariances_layouts.npz") as file:
        layouts = {key.removeprefix("layout/"): json.loads(str(file[key])) for key in file.files if "/" in key}
    assert layouts.keys() == FILES.keys() and len(FILES) == 23
    flows = {name: known for name, known in PUBLISHED.items() if known.file and known.file.startswith("cinn")}
    assert len(flows) == 16
    for cut in ("alexnet-conv5", "resnet101-avgpool", "stylized-resnet50-avgpool"):
        name = f"invariances/{cut}"
        with torch.device("meta"):
            net = zoo.build(name)
        entries = published.layout(name, net, registry.entry(name).defaults).entries
        ours = {key: [list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in entries.items()}
        assert ours == layouts[str(flows[name].file)]["state"], name


def test_a_file_of_the_authors_loads_and_comes_back(tmp_path: Path) -> None:
    net = flow().float()
    theirs = published.export("invariances/tiny", net, registry.entry("invariances/tiny").defaults)
    torch.save(theirs, tmp_path / "model.ckpt")
    loaded = zoo.load("invariances/tiny", tmp_path / "model.ckpt")
    x, z = draw(3, 8).float(), draw(3, 20).float()
    assert torch.equal(loaded(x, z)[0], net(x, z)[0]) and not loaded.training
    assert theirs["embedder.net.0.weight"].shape == (16, 20, 1, 1)
