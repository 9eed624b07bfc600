"""Names stand for graphs; what does not exist is refused with what does."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo
from flowkit import graph as g
from zoo import registry


def test_every_registered_name_gives_the_graph_and_the_module_of_that_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, fillers in ((nn.init, ("kaiming_uniform_", "kaiming_normal_", "uniform_")), (F, ("normalize",))):
        for name in fillers:  # slow on "meta", where there are no values
            monkeypatch.setattr(owner, name, lambda values, *_, **__: values)
    monkeypatch.setattr(torch, "randn", torch.empty)
    names, written = zoo.list(), set()
    assert {"demo/autoencoder", "demo/classifier", "demo/translator"} <= set(names)
    for name in names:
        with torch.device("meta"):
            module = zoo.build(name)
        assert sum(p.numel() for p in module.parameters()) == module.graph.parameters
        make = registry.entry(name).make
        if make not in written:  # configurations of one function are written alike
            written.add(make)
            assert module.graph == zoo.graph(name) == g.Graph.from_yaml(module.graph.to_yaml())


def test_patterns_select_names() -> None:
    assert zoo.list("demo/translator*") == ["demo/translator", "demo/translator_small"]
    assert zoo.list("nothing/*") == []


def test_overrides_stand_in_place_of_the_configuration() -> None:
    assert zoo.graph("demo/translator", dim=6).input_shapes["x"] == (6,)
    assert zoo.graph("demo/translator_small", dim=16).input_shapes == {"x": (16,), "condition": (16,)}


def test_unknown_names_and_options_are_refused_with_what_exists() -> None:
    with pytest.raises(
        ValueError, match="did you mean 'demo/translator'.*demo/autoencoder, .*demo/translator"
    ) as error:
        zoo.graph("demo/translater")
    assert "iin/" not in str(error.value)
    with pytest.raises(ValueError, match="demo/autoencoder, .*iin/celeba"):
        zoo.graph("translator")
    with pytest.raises(ValueError, match="options among dim, condition, depth, .* got colour"):
        zoo.graph("demo/translator", colour=3)
    with pytest.raises(ValueError, match="depth expects int, got 2.5"):
        zoo.build("demo/translator", depth=2.5)
    with pytest.raises(ValueError, match="depth expects int, got True"):
        zoo.build("demo/translator", depth=True)


def test_registering_checks_names_options_and_defaults() -> None:
    with pytest.raises(ValueError, match="options among width, got depth"):

        @registry.register({"wide": {"depth": 3}})
        def network(width: int = 1) -> g.Graph:
            raise NotImplementedError

    with pytest.raises(ValueError, match="width has none"):

        @registry.register()
        def bare(width: int) -> g.Graph:
            raise NotImplementedError


def test_import_zoo_needs_no_training_package() -> None:
    heavy = ("lightning", "matplotlib", "sklearn", "torchmetrics", "safetensors", "rich")
    code = f"import sys, zoo; zoo.list(); print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
