"""check_bijection: passes what is right, and names the layer that is not."""

import pytest
import torch
from torch import Tensor, nn

from flowkit import nets
from flowkit.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    Inverse,
    InvertibleLinear,
    LeakyReLU,
    Merge,
    MultiScale,
    Shuffle,
    Split,
)
from flowkit.testing import BijectionError, check_bijection


class Double(Bijection):
    """``y = 2 x``, with one thing wrong on request."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong
        self.unused = nn.Parameter(torch.zeros(1)) if wrong == "unused" else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        size = x[0].numel() * torch.tensor(2.0, dtype=x.dtype).log()
        logdet = size.expand(1 if self.wrong == "shape" else len(x))
        if self.wrong == "logdet":
            logdet = torch.zeros_like(logdet)
        return (2 * x.detach() if self.wrong == "gradient" else 2 * x), logdet + 0 * x.sum()

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        sign = 1 if self.wrong == "sign" else -1
        logdet = sign * self.forward(y)[1]
        return y / (2.1 if self.wrong == "inverse" else 2), torch.nan * logdet if self.wrong == "nan" else logdet


def flow(layer: Bijection) -> Compose:
    mlp = nets.mlp(hidden=8, depth=0)
    mix = AffineCoupling(4, mlp, condition=2, permutation="swap")
    deep = Compose(InvertibleLinear(4, parameterization="qr"), probe=layer)
    pair = Compose(Split(4), Merge(4))
    return Compose(norm=ActNorm(4), mix=mix, act=LeakyReLU(), deep=Inverse(deep), pair=pair, end=Shuffle(4))


X, C = torch.randn(3, 4, 2), torch.randn(3, 2)


def test_a_sound_flow_passes_and_every_layer_is_listed() -> None:
    report = check_bijection(flow(Double()), X, C)
    names = [layer.name for layer in report.layers]
    assert names[:3] == ["norm", "mix", "act"] and "deep.bijection.probe" in names and names[-1] == ""
    assert report.broken is None
    text = str(report)
    assert text.splitlines()[0].startswith("layer") and "(whole)" in text and text.count("ok") == len(names)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("inverse", "round trip: error"),
        ("logdet", "log-det against the Jacobian: error"),
        ("sign", "sum of both log-dets: error"),
        ("nan", "sum of both log-dets: error nan"),
        ("shape", r"log-det of forward has shape \(1,\), expected \(3,\)"),
        ("gradient", "gradient: error"),
        ("unused", "no gradient reaches parameter 'unused'"),
    ],
)
def test_the_first_layer_that_breaks_is_named(wrong: str, message: str) -> None:
    with pytest.raises(BijectionError, match=rf"layer 'deep.bijection.probe' \(Double\): .*{message}") as caught:
        check_bijection(flow(Double(wrong)), X, C)
    assert caught.value.report.broken.kind == "Double" and isinstance(caught.value, AssertionError)


def test_a_layer_alone_is_named_by_its_class() -> None:
    with pytest.raises(AssertionError, match="^Double: log-det"):
        check_bijection(Double("logdet"), X)


def test_a_flow_that_loses_digits_is_told_from_one_that_is_wrong() -> None:
    steep = Compose(*[AffineCoupling(4, nets.mlp(hidden=8), bound=1.0) for _ in range(2)], LeakyReLU(1e-7))
    report = check_bijection(steep, X)
    assert all(layer.round_trip_64 < 1e-9 for layer in report.layers)
    with pytest.raises(BijectionError, match=r"round trip: error .* > 1e-09"):
        check_bijection(steep, X, tolerance=1e-9)


def test_the_flow_and_its_input_stay_as_they_are() -> None:
    layer, x = flow(Double()), X.clone()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    check_bijection(layer, x, C)
    assert layer.training and layer.norm.training and not layer.norm.initialized
    assert torch.equal(x, X) and not x.requires_grad and not layer._forward_hooks and not layer.norm._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_large_samples_skip_the_jacobian_and_say_so() -> None:
    report = check_bijection(LeakyReLU(), torch.randn(1, 600))
    assert report.layers[0].logdet is None and "-" in str(report)


def test_multi_scale_flows_and_empty_batches() -> None:
    layer = MultiScale(4, AffineCoupling(2, nets.mlp(hidden=4)))
    assert len(check_bijection(layer, X).layers) == 2
    check_bijection(layer, X[:0])


def test_an_x_of_integers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"check_bijection: x: expected a floating-point tensor, got torch.int64"):
        check_bijection(LeakyReLU(), torch.ones(2, 2, dtype=torch.int64))
