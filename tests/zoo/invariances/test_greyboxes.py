"""Classifiers cut in two: the halves make the whole at every cut, layers are found by name, files of authors load."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.experts.classifiers import HOOKS, SIDE, SIDES, Greybox, classifier, greybox

NETWORKS = {"alexnet": 5, "resnet50": 4, "squeezenet1_1": 6}
SMALL = 64
CUTS = {
    "alexnet": ["input", *(f"features.{i}" for i in range(13)), "avgpool", "flatten"]
    + [f"classifier.{i}" for i in range(7)]
    + ["softmax", *HOOKS["alexnet"]],
    "resnet50": "input conv1 bn1 relu maxpool layer1 layer2 layer3 layer3.2 layer4 avgpool flatten fc softmax".split(),
    "squeezenet1_1": ["features.3", "fire9", "conv10", "classifier", "softmax"],
}


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: classifier(name, classes) for name, classes in NETWORKS.items()}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("name", "cut"), [(name, cut) for name, cuts in CUTS.items() for cut in cuts])
def test_halves_make_the_whole_at_every_cut(
    networks: dict[str, nn.Module], images: Tensor, name: str, cut: str
) -> None:
    box = Greybox(networks[name], HOOKS.get(name, {}).get(cut, cut), SMALL)
    with torch.no_grad():
        z = box.encode(images)
        before = z.clone()
        answer = box.decode(z)
        whole = networks[name](box.preprocess(images)).softmax(1)
    assert z.shape[1:] == box.shape and (len(box.shape) == 1 or max(box.shape[1:]) > 1)
    assert torch.equal(z, before)  # no in-place activation wrote into it
    assert torch.equal(answer, box(images))
    torch.testing.assert_close(answer, whole, atol=1e-6, rtol=1e-5)


def test_hooks_by_name_are_what_a_forward_hook_sees(networks: dict[str, nn.Module], images: Tensor) -> None:
    net, box = networks["alexnet"], Greybox(networks["alexnet"], "softmax", SMALL)
    seen: dict[str, Tensor] = {}
    handles = []
    for name, module in HOOKS["alexnet"].items():

        def keep(_: nn.Module, __: object, y: Tensor, name: str = name) -> None:
            seen[name] = y

        handles.append(net.get_submodule(module).register_forward_hook(keep))
    box.logits(images)
    for handle in handles:
        handle.remove()
    for name, module in HOOKS["alexnet"].items():
        assert torch.equal(Greybox(net, module, SMALL).encode(images), seen[name])
    assert seen["fc8"].shape == (2, NETWORKS["alexnet"]) and (seen["fc6"] >= 0).all() and (seen["fc7"] >= 0).all()


def test_published_sizes_of_representations() -> None:
    wanted = {"conv5": (256, 13, 13), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,), "softmax": (1000,)}
    net = classifier("alexnet")
    for cut, shape in wanted.items():
        assert Greybox(net, HOOKS["alexnet"].get(cut, cut), SIDES["alexnet"]).shape == shape
    assert greybox("resnet50", "layer4", 10).shape == (2048, 7, 7) and SIDE == 224


def test_preprocessing_normalises_once(networks: dict[str, nn.Module], images: Tensor) -> None:
    box = Greybox(networks["resnet50"], "input", SMALL)
    resized = F.interpolate(images, (SMALL, SMALL), mode="bilinear", align_corners=False, antialias=False)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = (0.5 * (resized + 1) - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(box.encode(images), wanted)
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\), got \(2, 1, 40, 48\)"):
        box.encode(images[:, :1])


def test_a_greybox_is_fixed_but_lets_gradients_through(networks: dict[str, nn.Module], images: Tensor) -> None:
    box = Greybox(networks["alexnet"], "classifier.2", SMALL).train()
    assert not any(module.training for module in box.modules()) and not any(p.requires_grad for p in box.parameters())
    x = images.clone().requires_grad_()
    F.cross_entropy(box.logits(x), torch.tensor([0, 1])).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_wrong_cuts_say_what_there_is(networks: dict[str, nn.Module]) -> None:
    with pytest.raises(ValueError, match="no bottleneck: .* also reads maxpool"):
        Greybox(networks["resnet50"], "layer1.0.conv1", SMALL)
    with pytest.raises(ValueError, match="expected the name of a module, such as .*, got 'layer9'"):
        Greybox(networks["resnet50"], "layer9", SMALL)
    with pytest.raises(ValueError, match="expected a network of torchvision"):
        classifier("alexnett")


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_files_of_authors_load_whatever_their_prefix(
    networks: dict[str, nn.Module], tmp_path: Path, prefix: str
) -> None:
    theirs = {prefix + key: value for key, value in networks["squeezenet1_1"].state_dict().items()}
    torch.save({"epoch": 60, "arch": "squeezenet", "state_dict": theirs}, tmp_path / "best.pth.tar")
    mine = classifier("squeezenet1_1", NETWORKS["squeezenet1_1"], tmp_path / "best.pth.tar")
    assert all(torch.equal(v, mine.state_dict()[k]) for k, v in networks["squeezenet1_1"].state_dict().items())
    with pytest.raises(ValueError, match="does not fit the network\n  misshapen: classifier.1.bias"):
        classifier("squeezenet1_1", 7, tmp_path / "best.pth.tar")
