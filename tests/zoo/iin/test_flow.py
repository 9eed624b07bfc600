"""The IIN's flow: exact both ways, exact log-det, the published sizes and key names, clear refusals."""

import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo import published, registry
from zoo.iin.factors import chunks


@settings(max_examples=12, deadline=None)
@given(
    half=st.integers(1, 5), depth=st.integers(1, 3), batch=st.integers(1, 4), count=st.integers(2, 3),
    seed=st.integers(0, 2**16),
)  # fmt: skip
def test_inverse_and_log_det_are_exact(half: int, depth: int, batch: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    names = [f"factor_{k}" for k in range(len(chunks(2 * half, count)))]
    if len(names) < 2:
        return
    options = {"dim": 2 * half, "depth": depth, "hidden": 7, "factors": ",".join(names)}
    net = zoo.build("iin/tiny-factors", **options).double().eval()
    for key, parameter in net.named_parameters():
        if key.endswith("norm.scale"):
            parameter.data.uniform_(0.5, 1.5).mul_(torch.where(torch.rand(2 * half) < 0.5, -1.0, 1.0))
        elif key.endswith("norm.shift"):
            parameter.data.normal_()
    x = torch.randn(batch, 2 * half, dtype=torch.double)
    *factors, logdet = net(x)
    assert [z.shape[1] for z in factors] == chunks(2 * half, count)
    assert (net.inverse(*factors)[0] - x).abs().max() < 1e-10
    for row, value in zip(x, logdet, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: torch.cat(net(v[None])[:-1], 1)[0], row)
        assert abs(torch.linalg.slogdet(jacobian)[1] - value) < 1e-8


@pytest.mark.parametrize("name", ["iin/mnist", "iin/cmnist-classifier-factors"])
def test_published_flows_have_the_published_size_and_keys(name: str) -> None:
    entry = registry.entry(name)
    graph = entry.graph()
    entries = published.layout(name, graph.build(), entry.defaults).entries
    assert graph.parameters == 26_815_488
    assert len(entries) == 444
    blocks = {"flow.0.loc": (1, 64, 1, 1), "flow.0.scale": (1, 64, 1, 1), "flow.0.initialized": ()}
    blocks |= {f"flow.2.{way}_shuffle_idx": (64,) for way in ("forward", "backward")}
    layers = {0: (512, 32), 2: (512, 512), 4: (512, 512), 6: (32, 512)}
    for net in ("s.0", "s.1", "t.0", "t.1"):
        for index, shape in layers.items():
            blocks[f"flow.1.{net}.main.{index}.weight"] = shape
            blocks[f"flow.1.{net}.main.{index}.bias"] = shape[:1]
    wanted = {f"realnvp.flow.{i}.{key}": shape for i in range(12) for key, shape in blocks.items()}
    assert {key: tuple(value.shape) for key, value in entries.items()} == wanted


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("iin/cmnist-factors", {"digit": 22, "colour": 22, "residual": 20}),
        ("iin/cmnist-classifier-factors", {"digit": 22, "colour": 11, "residual": 31}),
        ("iin/celeba-factors", {"eyeglasses": 13, "male": 13, "no_beard": 13, "smiling": 13, "residual": 12}),
    ],
)
def test_published_factors(name: str, sizes: dict[str, int]) -> None:
    assert {factor: shape[0] for factor, shape in zoo.graph(name).output_shapes.items()} == sizes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": "22,11,30"}, "add up to 64, got 3 that add up to 63"),
        ({"sizes": "64"}, "expected 3"),
        ({"sizes": "22,42,0"}, "positive whole numbers"),
        ({"factors": "digit,digit"}, "different names"),
        ({"factors": ",".join(f"f{k}" for k in range(9))}, "64 channels in 9 equal chunks are 8 of 8"),
        ({"dim": 7, "factors": "a,b"}, "even number"),
    ],
)
def test_wrong_factors_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.graph("iin/cmnist-factors", **options)


@pytest.mark.parametrize(
    ("name", "parameters", "kernel"),
    [
        ("iin/celeba-ae", 7_087_488, 4),
        ("iin/cmnist-ae", 5_907_840, 2),
        ("iin/mnist-ae", 5_903_744, 2),
        ("iin/cmnist-classifier", 2_889_290, 2),
    ],
)
def test_published_first_stages_have_the_published_size_and_keys(name: str, parameters: int, kernel: int) -> None:
    entry = registry.entry(name)
    graph = entry.graph()
    assert graph.parameters == parameters
    entries = {k: tuple(v.shape) for k, v in published.layout(name, graph.build(), entry.defaults).entries.items()}
    layers = [f"feature_layers.{i}.sub_layers" for i in range(4)]
    dense = ["dense_encode.sub_layers.0.weight", "dense_encode.sub_layers.0.bias"]
    if name.endswith("-ae"):
        layers += [f"decoder_layers.{i}.sub_layers" for i in range(3)]
        dense += ["dense_decode.sub_layers.0.weight", "dense_decode.sub_layers.0.bias"]
        dense.append("image_layer.sub_layers.0.weight")
        assert entries["dense_encode.sub_layers.0.weight"] == (128, 512, kernel, kernel)
        assert entries["dense_decode.sub_layers.0.weight"] == (64, 512, kernel, kernel)
        assert entries["decoder_layers.2.sub_layers.0.weight"] == (512, 256, 4, 4)
    else:
        dense += ["classifier.weight", "classifier.bias"]
        assert entries["dense_encode.sub_layers.0.weight"] == (64, 512, kernel, kernel)
    inner = ("0.weight", "1.loc", "1.scale", "1.initialized")
    assert entries.keys() == {f"{layer}.{part}" for layer in layers for part in inner} | {*dense}
    assert entries["feature_layers.1.sub_layers.1.loc"] == (1, 128, 1, 1)


def test_a_checkpoint_is_found_in_the_published_archive(tmp_path: Path) -> None:
    """By the pattern of its run; also a checkpoint without losses, as the classifier's."""
    options = {"dim": 8, "depth": 2, "hidden": 16}
    net = zoo.build("iin/tiny", **options)
    runs = {"2020-01-01_mnist_iin": 105600, "2020-01-01_fashionmnist_iin": 110400}
    archive = tmp_path / "logs.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for run, step in runs.items():
            file = tmp_path / "model.ckpt"
            torch.save({"model": published.export("iin/tiny", net, registry.entry("iin/tiny").defaults)}, file)
            tar.add(file, f"logs/{run}/train/checkpoints/model-{step}.ckpt")
    member = published.published("iin/mnist").member
    assert member is not None
    path = published.extract(archive, member)
    loaded = zoo.load("iin/tiny", path)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(ValueError, match="there are none"):
        published.extract(archive, "logs/*_cifar_iin/*")
