"""The shared image networks: their authors' key names and sizes, and what a call may and may not change."""

import pytest
import torch
from torch import nn

import zoo
from flowkit import graph as g
from zoo.blocks import autoencoder, biggan, discriminator, gaussian, resnet
from zoo.layouts import Layout
from zoo.published import layout
from zoo.registry import entry


def authors_count(model: nn.Module) -> int:
    """Parameters, and the vectors of spectral norms: buffers of ours that are (frozen) parameters of theirs."""
    beside = [value for key, value in model.named_buffers() if key.rpartition(".")[2] in ("u", "v")]
    return sum(value.numel() for value in (*model.parameters(), *beside))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("net2net/ae-faces32", 6_301_184),
        ("net2net/ae-faces256", 43_024_704 + 92_173_698),
        ("net2net/dequantiser", 155_243_008),
        ("iin/celeba-ae", 7_087_488),
        ("iin/cifar-ae", 5_907_840),
        ("iin/mnist-ae", 5_903_744),
        ("iin/cmnist-classifier", 2_889_290),
    ],
)
def test_published_sizes(name, parameters):
    with torch.device("meta"):
        assert authors_count(zoo.build(name)) == parameters


def test_the_discriminator_has_the_published_size():
    assert discriminator.discriminator().parameters == 2_765_633


def test_the_big_autoencoder_has_the_authors_631_tensors():
    with torch.device("meta"):
        model = zoo.build("net2net/ae-faces256")
    names = layout("net2net/ae-faces256", model, entry("net2net/ae-faces256").defaults).entries
    assert len(names) == 631
    assert names["encoder.model.fc.sub_layers.0.weight"].shape == (256, 2048, 1, 1)
    assert names["decoder.decoder.G_linear.module.weight_bar"].shape == (16 * 16 * 96, 8)
    assert names["decoder.map_to_class_embedding.main.0.weight"].shape == (2000, 128)
    assert names["decoder.decoder.ScaledCrossReplicaBN.loc"].shape == (1, 96, 1, 1)
    assert names["decoder.decoder.GBlock.5.HyperBN.bn.running_var"].shape == (192,)


def test_every_weight_of_an_autoencoder_survives_the_way_to_the_authors_names_and_back():
    model = autoencoder.autoencoder(16, 3, 2, 5, width=4).build()
    names = Layout(model, autoencoder.autoencoder_rules())
    back = names.read(names.write(model.state_dict()))
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in back.items())


def test_published_encoders_normalise_twice():
    once, twice = (resnet.encoder(32, out=4, layers=18, norm="batch", normalised=n).build().eval() for n in (1, 2))
    twice.load_state_dict(once.state_dict())
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(twice(x)[0], once((0.5 * (x + 1) - mean) / std)[0])
        assert (twice(x)[0] - once(x)[0]).abs().max() > 1e-4
    extremes = g.graph(y=g.imagenet_normalise(g.input("x", (3, 1, 1)), times=2)).build()
    red = extremes(torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1))[:, 0, 0, 0]
    torch.testing.assert_close(red, torch.tensor([-4.56, 5.00]), atol=0.06, rtol=0)
    assert zoo.published.published("net2net/ae-faces256").options["normalised"] == 2
    assert entry("net2net/ae-faces256").defaults["normalised"] == 1


def small_generator() -> nn.Module:
    """A first layer, a block and an attention, as in a generator."""
    torch.manual_seed(0)
    z, condition = g.input("z", 6), g.input("condition", 5)
    x = g.channels_last_image(g.biggan_linear(z, 16 * 8, name="first"))
    x = g.biggan_attention(biggan.block(x, condition, 8), name="attention")
    return g.graph(inputs=(z, condition), y=x).build()


def inputs(batch: int = 2):
    return torch.randn(batch, 6), torch.randn(batch, 5)


def vectors(net: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items() if key.rpartition(".")[2] in ("u", "v")}


@pytest.mark.parametrize("training", [False, True])
def test_a_call_leaves_the_spectral_vectors_alone(training):
    net = small_generator().train(training)
    before = vectors(net)
    net(*inputs())
    assert before
    assert all(torch.equal(value, before[key]) for key, value in vectors(net).items())


def test_running_statistics_move_in_training_alone():
    net = small_generator()
    statistics = {key for key in net.state_dict() if key.endswith(("running_mean", "running_var"))}
    before = {key: net.state_dict()[key].clone() for key in statistics}
    net.eval()(*inputs())
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in statistics)
    net.train()(*inputs())
    assert statistics
    assert not any(torch.equal(net.state_dict()[key], before[key]) for key in statistics)


def test_a_spectrally_normalised_weight_is_a_function_of_weight_and_u_with_a_gradient_through_both():
    layer = g.graph(y=g.biggan_linear(g.input("x", 4), 3, name="layer")).build().double()
    weight, u = layer.layer.weight.detach(), layer.layer.u.detach()

    def unit(t: torch.Tensor) -> torch.Tensor:
        return t / (t.norm() + 1e-4)

    def normalised(w: torch.Tensor) -> torch.Tensor:
        image = w @ unit(w.T @ u)
        return w / (unit(image) @ image)

    torch.testing.assert_close(layer.layer.normalised(), normalised(weight))
    layer(torch.eye(4, dtype=torch.float64)).square().sum().backward()
    w = weight.clone().requires_grad_()
    (normalised(w).T + layer.layer.bias.detach()).square().sum().backward()
    torch.testing.assert_close(layer.layer.weight.grad, w.grad)


def test_a_gaussian_agrees_with_torchs():
    moments = torch.randn(3, 8, 2, 2, dtype=torch.float64)
    ours, other = (gaussian.DiagonalGaussian.of(m) for m in (moments, moments.flip(0)))
    torchs, torchs_other = (torch.distributions.Normal(d.mean, d.std) for d in (ours, other))
    x = torch.randn_like(ours.mean)
    torch.testing.assert_close(ours.nll(x), -torchs.log_prob(x).sum((1, 2, 3)))
    torch.testing.assert_close(ours.kl(other), torch.distributions.kl_divergence(torchs, torchs_other).sum((1, 2, 3)))
    unit = torch.distributions.Normal(torch.zeros_like(x), torch.ones_like(x))
    torch.testing.assert_close(ours.kl(), torch.distributions.kl_divergence(torchs, unit).sum((1, 2, 3)))
    assert gaussian.DiagonalGaussian.of(torch.full((1, 2), 1e3)).logvar.item() == 10
    assert gaussian.DiagonalGaussian.of(torch.full((1, 2), -1e3)).logvar.item() == -30
