"""Arguments that do not fit: a ValueError that names the layer and the argument, what was expected and what came."""

import math

import pytest
import torch

from flowkit import nets
from flowkit.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    AutoregressiveConv,
    Compose,
    EmergingConv,
    Flip,
    Haar,
    Inverse,
    InvertibleConv1x1,
    InvertibleLinear,
    LeakyReLU,
    Merge,
    MultiScale,
    PeriodicConv,
    Permutation,
    Shuffle,
    Split,
    Squeeze,
    Swap,
    Unsqueeze,
    WoodburyTransform,
)

MLP = nets.mlp(hidden=4, depth=0)
FLOW = Compose(norm=ActNorm(4), mix=AffineCoupling(4, MLP, condition=3)).eval()
X, C = torch.randn(2, 4), torch.randn(2, 3)
IMAGE = torch.randn(2, 4, 5, 6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: FLOW(torch.randn(2, 5), C), r"layer 'norm': ActNorm: x: expected 4 channels, got 5"),
        (lambda: FLOW.inverse(torch.randn(2, 5), C), r"layer 'mix': AffineCoupling: y: expected 4 channels, got 5"),
        (lambda: FLOW(X), r"'mix'.*condition: expected shape \(2, 3\), got none"),
        (lambda: FLOW(X, torch.randn(2, 7)), r"'mix'.*condition: expected shape \(2, 3\).*, got \(2, 7\)"),
        (lambda: FLOW(X, torch.randn(3, 3)), r"'mix'.*condition: expected shape \(2, 3\).*, got \(3, 3\)"),
        (
            lambda: FLOW(IMAGE, torch.randn(2, 3, 6, 5)),
            r"condition: expected .* or \(2, 3, 5, 6\) .*got \(2, 3, 6, 5\)",
        ),
        (lambda: FLOW(X, torch.ones(2, 3, dtype=torch.int64)), r"condition: expected a floating-point .*torch.int64"),
        (lambda: FLOW(X, [1.0, 2.0, 3.0]), r"'mix'.*condition: expected a tensor of shape \(2, 3\), got a list"),
        (lambda: FLOW(X.int(), C), r"'norm'.*x: expected a floating-point tensor, got torch.int32; use x.float\(\)"),
        (lambda: FLOW(X[0], C), r"'norm'.*x: expected shape \(B, C, \*spatial\).*got \(4,\)"),
        (lambda: FLOW(X.to("meta"), C), r"'norm'.*x: expected a tensor on the layer's device cpu, got one on meta"),
        (lambda: FLOW(X, C.to("meta")), r"'mix'.*condition: expected a tensor on cpu, like x, got one on meta"),
        (lambda: Inverse(ActNorm(4)).eval()(IMAGE[:, :3]), r"ActNorm: y: expected 4 channels, got 3"),
        (lambda: Squeeze()(IMAGE), r"Squeeze: x: expected spatial sizes divisible by 2, got \(5, 6\)"),
        (lambda: Squeeze()(X), r"Squeeze: x: expected spatial sizes divisible by 2, got none"),
        (lambda: Unsqueeze()(IMAGE[:, :3]), r"Squeeze: y: expected a multiple of 4 channels.*\(3, 5, 6\)"),
        (lambda: Haar().inverse(IMAGE[:, :3]), r"Haar: y: expected a multiple of 4 channels.*\(3, 5, 6\)"),
        (lambda: Merge(4)((X, X)), r"Split: y: expected a pair .*\(2, 2\) and \(2, 2\), got \[\(2, 4\), \(2, 4\)\]"),
        (lambda: Merge(4)(X), r"Split: y: expected a pair"),
        (lambda: Compose(Split(4), LeakyReLU())(X), r"layer '1': LeakyReLU: x: expected one tensor, got tuple"),
        (lambda: AffineCoupling(4, MLP, mask="checkerboard")(X), r"x: expected spatial dimensions for a checkerboard"),
        (
            lambda: AffineCoupling(4, MLP, mask=torch.eye(6)[None])(IMAGE),
            r"x: expected spatial sizes \(6, 6\), as the mask has, got \(2, 4, 5, 6\)",
        ),
        (lambda: MultiScale(4, Squeeze())(IMAGE[..., :4, :]), r"MultiScale: rest: expected .*\(2, 4, 6\).*\(8, 2, 3\)"),
        (lambda: MultiScale(4, Squeeze()).output_shape((4, 2, 2)), r"MultiScale: rest: expected"),
        (lambda: AutoregressiveConv(4, [3])(IMAGE), r"AutoregressiveConv: x: expected 1 spatial dimensions, got 2"),
        (lambda: EmergingConv(4)(X), r"layer 'before': AutoregressiveConv: x: expected 2 spatial dimensions, got 0"),
        (lambda: PeriodicConv(4, 7)(IMAGE), r"x: expected spatial sizes of at least .*\(7, 7\), got \(5, 6\)"),
        (lambda: PeriodicConv(4, 7).input_shape((4, 7, 6)), r"PeriodicConv: y: expected spatial sizes .*\(7, 6\)"),
        (lambda: WoodburyTransform((4, 6, 5))(IMAGE), r"x: expected \(C, \*spatial\) = \(4, 6, 5\), got \(4, 5, 6\)"),
        (lambda: FLOW.output_shape((3,)), r"layer 'norm': ActNorm: x: expected 4 channels, got 3"),
    ],
)
def test_calls(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_input_that_passes_anywhere_is_not_changed_by_the_checks() -> None:
    assert FLOW(IMAGE, C)[0].shape == IMAGE.shape
    assert FLOW(IMAGE, torch.randn(2, 3, 5, 6))[0].shape == IMAGE.shape


def test_a_condition_nobody_takes_is_ignored() -> None:
    torch.testing.assert_close(LeakyReLU()(X, C), LeakyReLU()(X))


SINGULAR = torch.tensor([[1.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Split(5), r"Split: channels: expected an even number, got 5"),
        (lambda: MultiScale(5, LeakyReLU()), r"Split: channels: expected an even number, got 5"),
        (lambda: Split(4, keep=4), r"Split: keep: expected an integer from 1 to 3, got 4"),
        (lambda: InvertibleConv1x1(2, weight=SINGULAR), r"InvertibleConv1x1: weight: expected an invertible matrix"),
        (lambda: InvertibleLinear(2, weight=SINGULAR, parameterization="lu"), r"weight: expected an invertible matrix"),
        (lambda: InvertibleLinear(3, weight=torch.eye(2)), r"weight: expected shape \(3, 3\), got \(2, 2\)"),
        (lambda: InvertibleLinear(1, weight=torch.tensor([[torch.nan]])), r"weight: expected finite values"),
        (lambda: InvertibleLinear(2, parameterization="svd"), r"parameterization: expected one of dense, lu.*'svd'"),
        (
            lambda: InvertibleLinear(2, parameterization="soft_permutation", weight=2 * torch.eye(2)),
            r"weight: expected an orthogonal matrix",
        ),
        (
            lambda: Permutation(torch.tensor([0, 0, 1])),
            r"Permutation: permutation: expected each of 0..C-1.*\[0, 0, 1\]",
        ),
        (lambda: Permutation(torch.tensor([0.0, 1.0])), r"Permutation: permutation: expected"),
        (lambda: AutoregressiveConv(4, 2), r"AutoregressiveConv: kernel_size: expected an odd size, or 1 to 3.* got 2"),
        (lambda: AutoregressiveConv(4, [3, 4]), r"kernel_size: expected an odd size, or 1 to 3 of them, got \[3, 4\]"),
        (lambda: AutoregressiveConv(4, -3), r"kernel_size: expected an integer >= 1, got -3"),
        (lambda: AutoregressiveConv(4, dilation=0), r"dilation: expected an integer >= 1, got 0"),
        (lambda: AutoregressiveConv(4, dilation=[1]), r"dilation: expected one number or 2, got \[1\]"),
        (lambda: EmergingConv(0), r"AutoregressiveConv: channels: expected an integer >= 1, got 0"),
        (lambda: PeriodicConv(4, []), r"PeriodicConv: kernel_size: expected an odd size, or 1 to 3 of them, got \[\]"),
        (lambda: WoodburyTransform((4,)), r"shape: expected \(C, \*spatial\) with 1 to 3 spatial .*got \(4,\)"),
        (lambda: WoodburyTransform((4, None, 2)), r"WoodburyTransform: shape: expected an integer >= 1, got None"),
        (lambda: WoodburyTransform((4, 2, 2), 0), r"channel_rank: expected an integer >= 1, got 0"),
        (lambda: LeakyReLU(-1), r"LeakyReLU: slope: expected a positive number, got -1"),
        (lambda: Squeeze(order="rows"), r"Squeeze: order: expected 'channel' or 'space', got 'rows'"),
        (lambda: Squeeze(0), r"Squeeze: factor: expected an integer >= 1, got 0"),
        (lambda: Haar(rebalance=0.0), r"Haar: rebalance: expected a positive number"),
        (lambda: AffineCoupling(4, MLP, clamp="exp"), r"AffineCoupling: clamp: expected one of none, tanh.*'exp'"),
        (lambda: AffineCoupling(4, MLP, form="s"), r"AffineCoupling: form: expected one of s\*x\+t.*got 's'"),
        (lambda: AffineCoupling(4, MLP, factor=2.0), r"factor: expected a positive number, 1 unless .* got 2.0"),
        (lambda: AffineCoupling(4, MLP, clamp="hard", offset=1.0), r"offset: expected .* None for a hard clamp"),
        (lambda: AffineCoupling(4, MLP, clamp="hard", bound=1.0), r"bound: expected a pair \(least, largest\)"),
        (lambda: AffineCoupling(4, MLP, clamp="softclip", bound=0.0), r"bound: expected a finite number > 0, got 0.0"),
        (lambda: AffineCoupling(4, MLP, volume_preserving="pixels"), r"volume_preserving: expected None, 'channels'"),
        (
            lambda: AffineCoupling(4, MLP, volume_preserving="all", mask="checkerboard"),
            r"volume_preserving: expected None beside a mask of places",
        ),
        (lambda: AffineCoupling(4, MLP, mask="stripes"), r"mask: expected a tensor or 'checkerboard', got 'stripes'"),
        (lambda: AffineCoupling(4, MLP, mask=torch.ones(3)), r"mask: expected shape \(4,\), \(1, \*spatial\) or"),
        (lambda: AffineCoupling(4, MLP, mask=torch.ones(4)), r"mask: expected both passive and transformed entries"),
        (lambda: AffineCoupling(2, MLP, mask=torch.tensor([2, 1])), r"mask: expected booleans, or numbers 0 and 1"),
        (lambda: AffineCoupling(2, MLP, mask=torch.tensor([0, 1]), split=1), r"split: expected none beside a mask"),
        (
            lambda: AffineCoupling(2, MLP, mask=torch.tensor([0, 1]), permutation="swap"),
            r"permutation: expected None, 'flip', 'shuffle' or a tensor beside a mask",
        ),
        (lambda: AffineCoupling(4, MLP, layout="rows"), r"AffineCoupling: layout: expected one of"),
        (lambda: AffineCoupling(4, MLP, split=4), r"AffineCoupling: split: expected an integer from 1 to 3, got 4"),
        (
            lambda: AffineCoupling(1, MLP),
            r"channels: expected an integer >= 2, got 1; one channel can only be driven by a cond",
        ),
        (lambda: AffineCoupling(4, (MLP,)), r"net: expected a factory or a pair of them, got 1 factories"),
        (lambda: AdditiveCoupling(4, (MLP, MLP)), r"AdditiveCoupling: net: expected a factory, got 2 factories"),
        (
            lambda: AffineCoupling(4, MLP, permutation="mix"),
            r"permutation: expected None, 'swap', 'flip', 'shuffle' or a tensor",
        ),
        (lambda: AffineCoupling(4, MLP, permutation=torch.arange(3)), r"permutation: expected 4 channels, got 3"),
        (lambda: AffineCoupling(-1, MLP), r"AffineCoupling: channels: expected an integer >= 2, got -1"),
        (lambda: AffineCoupling(0, MLP, condition=2), r"channels: expected an integer >= 1, got 0"),
        (lambda: AffineCoupling(4, MLP, condition=-1), r"AffineCoupling: condition: expected an integer >= 0, got -1"),
        (lambda: AffineCoupling(4, MLP, bound=math.nan), r"AffineCoupling: bound: expected a finite number, got nan"),
        (lambda: AffineCoupling(4, MLP, bound=math.inf), r"AffineCoupling: bound: expected a finite number, got inf"),
        (
            lambda: AffineCoupling(4, MLP, clamp="sigmoid", bound=-0.1),
            r"bound: expected a finite number >= 0, got -0.1",
        ),
        (lambda: AffineCoupling(4, MLP, gain=math.nan), r"AffineCoupling: gain: expected a finite number, got nan"),
        (lambda: AffineCoupling(4, None), r"AffineCoupling: net: expected a factory net\(.*, got None"),
        (lambda: AdditiveCoupling(4, "mlp"), r"AdditiveCoupling: net: expected a factory net\(.*, got 'mlp'"),
        (lambda: AffineCoupling(4, (MLP, 3)), r"AffineCoupling: net: expected a factory net\(.*, got 3"),
        (lambda: AffineCoupling(4, MLP(2, 4)), r"net: expected a factory .*, got the built module MLP; use lambda"),
        (lambda: AffineCoupling(4, lambda a, b: abs), r"net: expected .*, got a factory that returns a builtin"),
        (lambda: ActNorm(0), r"ActNorm: channels: expected an integer >= 1, got 0"),
        (lambda: ActNorm(-1), r"ActNorm: channels: expected an integer >= 1, got -1"),
        (lambda: ActNorm(2.0), r"ActNorm: channels: expected an integer >= 1, got 2.0"),
        (lambda: ActNorm(2, eps=-1), r"ActNorm: eps: expected a finite number >= 0, got -1"),
        (lambda: InvertibleLinear(0), r"InvertibleLinear: channels: expected an integer >= 1, got 0"),
        (lambda: InvertibleLinear(2, weight=torch.eye(2).long()), r"weight: expected a floating.*got torch.int64"),
        (lambda: InvertibleLinear(1, weight=[[1.0]]), r"weight: expected a floating-point tensor, got a list"),
        (lambda: Swap(4, 9), r"Swap: split: expected an integer from 0 to 4, got 9"),
        (lambda: Swap(0), r"Swap: channels: expected an integer >= 1, got 0"),
        (lambda: Shuffle(-1), r"Shuffle: channels: expected an integer >= 1, got -1"),
        (lambda: Flip(0), r"Flip: channels: expected an integer >= 1, got 0"),
        (lambda: Split(0), r"Split: channels: expected an integer >= 2, got 0"),
        (lambda: Compose(torch.nn.Linear(2, 2)), r"Compose: layer '0': expected a Bijection, got Linear"),
        (lambda: Compose(forward=LeakyReLU()), r"Compose: layer name: expected .*, got 'forward'"),
    ],
)
def test_constructors(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def _change(layer, key, value):
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state[key] = value
    return lambda: layer.load_state_dict(state)


@pytest.mark.parametrize(
    "load, message",
    [
        (_change(FLOW, "norm.scale", torch.full((4,), torch.nan)), r"'norm.scale': expected finite values, got 4 of 4"),
        (_change(FLOW, "mix.net.main.0.bias", torch.full((4,), torch.inf)), r"'mix.net.main.0.bias': expected finite"),
        (
            _change(ActNorm(2, log_scale=False), "scale", torch.zeros(2)),
            r"ActNorm: scale: expected values other",
        ),
        (_change(InvertibleLinear(2), "matrix.weight", SINGULAR), r"matrix.weight: expected an invertible matrix"),
        (_change(InvertibleLinear(2, parameterization="qr"), "matrix.sign", torch.zeros(2)), r"matrix.sign: expected"),
        (
            _change(InvertibleLinear(2, parameterization="lu"), "matrix.rows", torch.tensor([0, 0])),
            r"InvertibleLinear: matrix.rows: expected each of 0..C-1 once.*\[0, 0\]",
        ),
        (
            _change(InvertibleLinear(2, parameterization="lu"), "matrix.log_diagonal", torch.tensor([0.0, 200.0])),
            r"matrix.log_diagonal: expected logarithms of positive finite torch.float32 numbers, got 0 to 200",
        ),
        (
            _change(InvertibleLinear(2, parameterization="qr"), "matrix.log_diagonal", torch.tensor([0.0, -200.0])),
            r"matrix.log_diagonal: expected logarithms of positive finite .*got -200 to 0",
        ),
        (_change(Shuffle(3), "permutation", torch.tensor([0, 1, 7])), r"Shuffle: permutation: expected each of 0..C-1"),
        (
            _change(
                Compose(AffineCoupling(2, MLP, permutation=torch.arange(2))), "0.permutation", torch.tensor([0, 0])
            ),
            r"AffineCoupling: permutation: expected each of 0..C-1",
        ),
    ],
)
def test_loading(load, message) -> None:
    with pytest.raises(ValueError, match=message):
        load()


def test_nothing_is_loaded_when_one_entry_is_bad() -> None:
    layer = Compose(LeakyReLU(), ActNorm(2))
    state = {"1.scale": torch.ones(2), "1.shift": torch.full((2,), torch.nan), "1.initialized": torch.tensor(True)}
    with pytest.raises(ValueError, match="1.shift"):
        layer.load_state_dict(state)
    assert not layer[1].scale.any()


def _of_width(width: int):
    return lambda inputs, outputs: torch.nn.Linear(inputs, width)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize(
    "layer, message",
    [
        (AffineCoupling(4, _of_width(3)), r"AffineCoupling: net: expected .* of 4 channels, .*got .* \(2, 3\)"),
        (AffineCoupling(4, _of_width(2)), r"AffineCoupling: net: expected .* of 4 channels, .*got .* \(2, 2\)"),
        (AffineCoupling(4, (MLP, _of_width(1))), r"AffineCoupling: net: expected .* of 2 channels, .*got .* \(2, 1\)"),
        (AffineCoupling(4, (_of_width(4), MLP)), r"AffineCoupling: net: expected .* of 2 channels, .*got .* \(2, 4\)"),
        (AdditiveCoupling(4, _of_width(1)), r"AdditiveCoupling: net: expected .* of 2 channels, .*got .* \(2, 1\)"),
        (
            AdditiveCoupling(4, lambda inputs, outputs: torch.nn.LSTM(inputs, outputs)),
            r"AdditiveCoupling: net: expected an output of 2 channels, .*got a tuple",
        ),
    ],
)
def test_a_conditioner_of_another_width(layer, message, direction) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(layer, direction)(X)


def test_a_network_of_another_type_than_x() -> None:
    message = (
        r"AffineCoupling: net: expected an input of its own type torch.float32, got torch.float64; use layer.double"
    )
    for net, x in ((MLP, X), (nets.convnet(hidden=4), IMAGE)):
        layer = AffineCoupling(4, net)
        with pytest.raises(ValueError, match=message):
            layer(x.double())
        assert layer.double()(x.double())[0].dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert AffineCoupling(4, net)(x)[0].dtype == torch.float32


def test_an_error_inside_a_network_stays_what_it_is() -> None:
    class Broken(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        AffineCoupling(4, Broken)(X)
