"""BigGAN: sizes and keys of the published generators, what training changes, other layouts of the weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from flowkit import graph as g
from flowkit.graph import BuiltGraph
from zoo import downloads, published, registry, weights
from zoo.blocks import biggan, biggan_deep, biggan_deep_kinds
from zoo.blocks.image_kinds import SpectralConv2d
from zoo.experts import biggan as expert
from zoo.experts.biggan import BigGAN
from zoo.net2net.published import FILES

STATISTICS = ("running_mean", "running_var", "num_batches_tracked", "initialized")


def randomised(net: BuiltGraph) -> BuiltGraph:
    """Weights as spread as trained ones, statistics of batches included."""
    torch.manual_seed(3)
    for key, value in net.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(0.5 + torch.rand_like(value))
        elif value.dtype.is_floating_point:
            spread = 0.1 if value.ndim < 2 else value[0].numel() ** -0.5
            value.copy_((key.endswith("last_norm.weight")) + spread * torch.randn_like(value))
    return net


def tiny(**options: object) -> BuiltGraph:
    return randomised(zoo.build("net2net/tiny-biggan", **options)).eval()


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [
        ("net2net/biggan128", 70_531_242, 177),
        ("net2net/biggan256", 82_205_610, 207),
        ("net2net/ae-faces256", 43_024_704 + 92_173_698, 631),
    ],
)
def test_published_networks_have_the_authors_parameters_and_tensors(name: str, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        net = zoo.build(name)
    entries = published.layout(name, net, registry.entry(name).defaults).entries
    counted = [value.numel() for key, value in entries.items() if key.rpartition(".")[2] not in STATISTICS]
    assert (sum(counted), len(entries)) == (parameters, tensors)


def test_training_changes_statistics_and_weights_but_never_the_stored_vectors() -> None:
    x, condition = g.input("x", (8, 4, 4)), g.input("condition", 5)
    y = g.biggan_attention(biggan.block(x, condition, 8), name="attention")
    net = g.graph(y=g.biggan_linear(g.flatten(y), 3, name="last")).build()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(10):
        loss = net(x=torch.randn(4, 8, 4, 4), condition=torch.randn(4, 5)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    same = {key for key, value in net.state_dict().items() if torch.equal(value, before[key])}
    assert same == {key for key in before if key.endswith((".u", ".v"))} and len(same) == 24


def test_images_of_labels_and_of_embeddings_are_those_of_one_hot_classes() -> None:
    net = tiny()
    generator, z, labels = BigGAN(net), torch.randn(2, 120), torch.tensor([7, 0])
    with torch.no_grad():
        images = generator.generate(z, labels)
        assert torch.equal(images, generator.generate_from_embedding(z, generator.embed(labels)))
        assert torch.allclose(images, net(latent=z, classes=torch.eye(10)[labels]), atol=1e-6)
    assert images.shape == (2, 3, 128, 128) and images.abs().max() <= 1 and images.std() > 0.01
    with pytest.raises(ValueError, match="expected 0 to 9, got 3 to 10"):
        generator.embed(torch.tensor([3, 10]))
    with pytest.raises(ValueError, match="class numbers"):
        generator.embed(torch.rand(2))
    with pytest.raises(ValueError, match="'embed' and 'painter'"):
        BigGAN(nn.Linear(1, 1))


@pytest.mark.parametrize("layout", ["torch", "hub"])
@pytest.mark.parametrize("options", [{}, {"size": 256, "latent": 140}])
def test_other_layouts_are_read_and_written_exactly(layout: expert.Other, options: dict[str, int]) -> None:
    net, again = tiny(**options), zoo.build("net2net/tiny-biggan", **options)
    theirs = expert.write(net, layout)
    expert.read(again, theirs, layout)
    known = {key: value for key, value in again.state_dict().items() if not key.endswith((".v", "num_batches_tracked"))}
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in known.items())
    back = expert.write(again, layout)
    assert back.keys() == theirs.keys() and all(torch.equal(back[key], theirs[key]) for key in theirs)
    del theirs["shared.weight" if layout == "torch" else "linear/w/ema_b999900"]
    with pytest.raises(ValueError, match="missing"):
        expert.read(again, theirs, layout)


def test_the_torch_layout_turns_rows_and_columns() -> None:
    net = tiny()
    ours, theirs = net.state_dict(), expert.write(net)
    assert torch.equal(theirs["linear.weight"].reshape(64, 4, 4, 20)[5, 1, 2], ours["painter.first.weight"][6 * 64 + 5])
    gain, gamma = theirs["blocks.2.0.bn2.gain.weight"], ours["painter.block_2.norm_1.gamma.weight"]
    assert torch.equal(gain[:, :128], gamma[:, 20:]) and torch.equal(gain[:, 128:], gamma[:, :20])
    assert "blocks.3.1.o.weight" in theirs and "blocks.4.1.o.weight" not in theirs


def test_generators_of_both_conventions_agree_once_these_are_equal() -> None:
    net = tiny()
    z, labels = torch.randn(2, 120), torch.tensor([1, 4])
    equal, shipped = (zoo.build("net2net/tiny-biggan", unit=u, last_eps=e) for u, e in (("add", 1e-4), ("clamp", 1e-5)))
    images = []
    for other in (net, equal, shipped):
        expert.read(other, expert.write(net))
        with torch.no_grad():
            images.append(BigGAN(other.eval()).generate(z, labels))
    assert (images[0] - images[1]).abs().max() <= 1e-5
    assert 1e-5 < (images[0] - images[2]).abs().max() < 0.1


def test_a_published_file_may_lack_what_nothing_depends_on(tmp_path: Path) -> None:
    net, name = tiny(), "net2net/tiny-biggan"
    theirs = published.export(name, net, registry.entry(name).defaults)
    less = {key: value for key, value in theirs.items() if "num_batches_tracked" not in key}
    less = {key: torch.zeros(3) if key.endswith("weight_v") else value for key, value in less.items()}
    torch.save(less, tmp_path / "biggan.pth")
    loaded = zoo.load(name, tmp_path / "biggan.pth")
    z, labels = torch.randn(1, 120), torch.tensor([2])
    with torch.no_grad():
        assert torch.equal(BigGAN(loaded).generate(z, labels), BigGAN(net).generate(z, labels))
    del less["colorize.module.weight_u"]
    torch.save(less, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"missing: colorize\.module\.weight_u"):
        zoo.load(name, tmp_path / "less.pth")


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="expected one of 128, 256, got 64"):
        biggan.generator(64)
    with pytest.raises(ValueError, match="more than 100 numbers, got 100"):
        biggan.generator(128, latent=100)


@pytest.mark.parametrize(("name", "file"), [("net2net/biggan128", "biggan-128"), ("net2net/biggan256", "biggan-256")])
def test_the_published_files_give_images(name: str, file: str) -> None:
    if not (path := downloads.cache() / FILES[file].file).is_file():
        pytest.skip(f"the published file is not there: {path.name} in {path.parent}")
    net = zoo.load(name)
    with torch.no_grad():
        image = BigGAN(net).generate(torch.randn(1, net.graph.inputs[0].shape[0] or 0), torch.tensor([207]))
    assert image.isfinite().all() and image.abs().max() <= 1


def test_deep_statistics_are_interpolated_between_truncations() -> None:
    x = torch.randn(2, 1, 3, 3)
    images = {}
    for truncation, exchanged in ((0.5, False), (0.5, True), (0.625, False), (0.625, True), (1.0, True)):
        norm = biggan_deep_kinds.TruncatedNorm(1, truncation, statistics=5, exchanged=exchanged)
        norm.means.copy_(torch.arange(5.0)[:, None])
        images[truncation, exchanged] = ((x - norm(x) * (1 + 1e-4) ** 0.5).mean()).item()
    assert images == pytest.approx(
        {(0.5, False): 2, (0.5, True): 2, (0.625, False): 2.5, (0.625, True): 2.5, (1.0, True): 4}, abs=1e-5
    )
    assert biggan_deep_kinds.TruncatedNorm(1, 0.55, 5).part == pytest.approx(0.2)
    assert biggan_deep_kinds.TruncatedNorm(1, 0.55, 5, exchanged=True).part == pytest.approx(0.8)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        biggan_deep_kinds.TruncatedNorm(1, 1.5)


def test_a_fresh_deep_generator_paints_finite_images() -> None:
    """Its spectral norms begin with singular vectors; unrelated ones would divide by almost nothing, forty times."""
    torch.manual_seed(0)
    net = zoo.build("net2net/tiny-biggan-deep").eval()
    convolution = next(m for m in net.modules() if isinstance(m, SpectralConv2d))
    matrix = convolution.weight.detach().flatten(1)
    sigma = convolution.u @ (matrix @ convolution.v)
    assert float(sigma / torch.linalg.matrix_norm(matrix, 2)) == pytest.approx(1, abs=0.05)
    classes = torch.nn.functional.one_hot(torch.tensor([0, 3]), 5).float()
    with torch.no_grad():
        images = net(torch.randn(2, 6), classes)
    assert images.isfinite().all() and (images[0] - images[1]).abs().max() > 1e-4 and images.abs().mean() < 0.95


def test_the_published_layers_of_deep_generators() -> None:
    assert biggan_deep.published_layers(128)[2:6] == [(False, 16, 16), (True, 16, 8), (False, 8, 8), (True, 8, 4)]
    for size in biggan_deep.CHANNELS:
        layers = biggan_deep.published_layers(size)
        assert 4 * 2 ** sum(up for up, _, _ in layers) == size
        assert 4 * 2 ** sum(up for up, _, _ in layers[: biggan_deep.ATTENTION]) == 64
    with pytest.raises(ValueError, match="size: expected one of 128, 256, 512, got 64"):
        biggan_deep.published_layers(64)


def test_a_deep_generator_goes_to_the_published_keys_and_back(tmp_path: Path) -> None:
    name = "net2net/tiny-biggan-deep"
    options = {**registry.entry(name).defaults, "exchanged": True}
    model = registry.entry(name).graph(exchanged=True).build().eval()
    theirs = published.export(name, model, options)
    assert theirs["embeddings.weight"].shape == (6, 5) and "generator.layers.8.snconv1x1_theta.weight_orig" in theirs
    torch.save(theirs, tmp_path / "pytorch_model.bin")
    weights.save(published.load(name, tmp_path / "pytorch_model.bin", {}), tmp_path / "ours.safetensors")
    again = weights.load(tmp_path / "ours.safetensors")
    wanted, found = model.state_dict(), again.state_dict()
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert again.graph == model.graph and again.graph.output_shapes == {"image": (3, 128, 128)}
