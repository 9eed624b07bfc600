"""The authors' key names and ours: there and back without loss, and what does not fit is reported as a whole."""

import pytest
import torch
from torch import Tensor

import zoo
from flowkit import graph as g
from zoo.layouts import CHANNELS, FLAG, Layout, Rule
from zoo.net2net.published import translator_rules


@pytest.fixture
def layout() -> Layout:
    return Layout(zoo.build("net2net/tiny"), translator_rules(2, "none"))


def theirs(layout: Layout) -> dict[str, Tensor]:
    """A file of the authors with numbers in it."""
    torch.manual_seed(1)
    ours = zoo.build("net2net/tiny").state_dict()
    return layout.write({key: torch.randn_like(v) if v.is_floating_point() else v for key, v in ours.items()})


def test_there_and_back_is_lossless(layout: Layout) -> None:
    state = theirs(layout)
    again = layout.write(layout.read(state))
    assert again.keys() == state.keys() == layout.entries.keys()
    for key, value in state.items():
        assert torch.equal(again[key], value) and again[key].dtype == value.dtype == layout.entries[key].dtype


def test_the_way_back_of_a_shuffle_is_written_and_not_needed(layout: Layout) -> None:
    state = theirs(layout)
    order, back = (state[f"sub_layers.0.shuffle.{way}_shuffle_idx"] for way in ("forward", "backward"))
    assert order[back].tolist() == list(range(8))
    needless = {key: value for key, value in state.items() if "backward" not in key}
    assert layout.read(needless).keys() == layout.read(state).keys()


def test_all_that_does_not_fit_is_one_message(layout: Layout) -> None:
    state = theirs(layout)
    del state["sub_layers.0.norm_layer.loc"]
    state["sub_layers.1.norm_layer.loc"] = torch.zeros(8)
    state["loss.logvar"] = torch.zeros(())
    with pytest.raises(ValueError) as error:
        layout.read(state)
    for line in (
        "missing: sub_layers.0.norm_layer.loc (1, 8, 1, 1)",
        "unexpected: loss.logvar ()",
        "misshapen: sub_layers.1.norm_layer.loc: expected (1, 8, 1, 1), got (8,)",
    ):
        assert line in str(error.value)


def test_what_lies_beside_is_left_alone_and_what_is_optional_may_be_there(layout: Layout) -> None:
    state = {**theirs(layout), "loss.logvar": torch.zeros(())}
    assert layout.read(state, beside=("loss.",)).keys() == layout.names.keys()
    lenient = Layout(zoo.build("net2net/tiny"), translator_rules(2, "none"), optional=(r"loss\.\w+",))
    assert lenient.read(state).keys() == layout.names.keys()


def test_every_key_needs_a_rule_and_a_name_of_its_own() -> None:
    net = g.graph(y=g.linear(g.input("x", 3), 2)).build()
    with pytest.raises(ValueError, match="no rule for our key 'linear.bias'"):
        Layout(net, [Rule(r"linear\.weight", "weight")])
    with pytest.raises(ValueError, match="'w' stands for"):
        Layout(net, [Rule(r"linear\.\w+", "w")])


def test_gradients_lie_as_the_authors_have_them() -> None:
    net = g.graph(y=g.actnorm(g.input("x", 3), log_scale=False)).build().eval()
    rules = [Rule(r"actnorm\.shift", "loc", CHANNELS), Rule(r"actnorm\.scale", "scale", CHANNELS)]
    found = Layout(net, [*rules, Rule(r"actnorm\.initialized", "initialized", FLAG)])
    net(torch.ones(2, 3))[0].sum().backward()
    assert {key: grad.shape for key, grad in found.gradients(net).items()} == dict.fromkeys(
        ("loc", "scale"), (1, 3, 1, 1)
    )
    torch.testing.assert_close(found.gradients(net)["scale"], torch.full((1, 3, 1, 1), 2.0))
