"""Every layer with its input shapes: add a name here and the layer is tested for all that a bijection promises."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from flowkit import nets
from flowkit.bijections import (
    ActNorm,
    AdditiveCoupling,
    AdditiveStep,
    AffineCoupling,
    AffineStep,
    AllInOneBlock,
    AutoregressiveConv,
    Bijection,
    CheckerboardSqueeze,
    CheckerboardUnsqueeze,
    Compose,
    EmergingConv,
    FixedLinear,
    Flip,
    Haar,
    Inverse,
    InvertibleConv1x1,
    InvertibleLinear,
    LeakyReLU,
    MaskedAutoregressive,
    MixtureLogisticCoupling,
    MultiScale,
    NormalizedLinear,
    PeriodicConv,
    Permutation,
    RationalQuadraticCoupling,
    RationalQuadraticSpline,
    Shuffle,
    Squeeze,
    Swap,
    Unsqueeze,
    WoodburyTransform,
)


class Case(NamedTuple):
    """A layer to test: its constructor, the shapes of x it takes (no batch), the shape of the condition (no batch)."""

    name: str
    make: Callable[[], Bijection]
    shapes: tuple[tuple[int, ...], ...]
    condition: tuple[int, ...] | None = None


MLP = nets.mlp(hidden=8, depth=1, activation="tanh")
PAIR = (nets.mlp(hidden=8, depth=0, activation="tanh", tanh_last=True), nets.mlp(hidden=8, depth=0, activation="silu"))
CONV = nets.convnet(hidden=6, activation="elu")
ODD, PLACES = torch.arange(5) % 2 == 1, torch.tensor([[[1, 0, 0], [0, 1, 1]], [[0, 0, 1], [1, 0, 1]]])
MADE = nets.made(hidden=9, depth=1, activation="tanh")
REFLECTED = {"reflections": 2, "reverse_permutation": True}
VECTOR, IMAGE, ANY = ((4,),), ((4, 2, 3),), ((4,), (4, 3), (4, 2, 3), (4, 2, 1, 2))


def _glow() -> Compose:
    """Two scales of Glow with a condition, named as a graph would name them."""

    def step(channels: int) -> list[Bijection]:
        coupling = AffineCoupling(channels, CONV, condition=2, permutation="swap", clamp="sigmoid", bound=0.1)
        return [ActNorm(channels), InvertibleConv1x1(channels, parameterization="lu"), coupling]

    coarse = Compose(Squeeze(), *step(8), Unsqueeze())
    return Compose(squeeze=Squeeze(), fine=Compose(*step(4)), coarse=MultiScale(4, coarse), unsqueeze=Unsqueeze())


def _linear(parameterization: str) -> Callable[[], Bijection]:
    def make() -> Bijection:
        return InvertibleLinear(4, parameterization=parameterization, bias=True)

    return make


def _affine(**options: object) -> Callable[[], Bijection]:
    return lambda: AffineCoupling(4, MLP, **options)  # type: ignore[arg-type]


def _all_in_one(channels: int, **options: object) -> Callable[[], Bijection]:
    return lambda: AllInOneBlock(channels, MLP, **options)  # type: ignore[arg-type]


def _clamped(clamp: str, layout: str, **options: object) -> Case:
    return Case(f"affine_{clamp}_{layout}", _affine(clamp=clamp, layout=layout, **options), VECTOR + IMAGE)


def _maf(net: nets.Recipe = MADE, **options: object) -> Callable[[], Bijection]:
    return lambda: MaskedAutoregressive(4, net, **options)  # type: ignore[arg-type]


def _rqs(**options: object) -> Callable[[], Bijection]:
    return lambda: RationalQuadraticCoupling(4, MLP, bins=3, **options)  # type: ignore[arg-type]


MIXED: dict[str, object] = {"tails": ("circular", "identity"), "bound": (torch.pi, 2.0)}

CASES = [
    Case("actnorm", lambda: ActNorm(4), ANY),
    Case("actnorm_scale", lambda: ActNorm(4, log_scale=False), ANY),
    Case("leaky_relu", lambda: LeakyReLU(0.6), ANY),
    Case("permutation", lambda: Permutation(torch.tensor([2, 0, 3, 1])), ANY),
    Case("shuffle", lambda: Shuffle(5, seed=3), ((5,), (5, 2, 2))),
    Case("swap", lambda: Swap(5), ((5,), (5, 2, 2))),
    Case("flip", lambda: Flip(4), ANY),
    _clamped("none", "scale_shift", gain=0.1),
    _clamped("tanh", "shift_scale", bound=2.0, gain=0.5),
    _clamped("atan", "scale_shift_interleaved"),
    _clamped("sigmoid", "shift_scale_interleaved", bound=1e-3),
    _clamped("softplus", "shift_scale", bound=1e-2, form="s*(x+t)"),
    _clamped("softclip", "scale_shift_interleaved", bound=2.0, form="x/s+t"),
    _clamped("hard", "scale_shift", bound=(-9.0, 9.0)),
    Case("affine_jet", _affine(clamp="sigmoid", offset=0.0, factor=2.0, form="s*(x+t)"), VECTOR + IMAGE),
    Case("affine_gin", _affine(clamp="atan", volume_preserving="channels", permutation="swap"), ANY),
    Case("affine_gin_all", _affine(volume_preserving="all", form="x/s+t"), ANY),
    Case("affine_channel_mask", _affine(mask=torch.tensor([1, 0, 0, 1]), condition=2, permutation="flip"), ANY, (2,)),
    Case("affine_odd_mask", lambda: AffineCoupling(5, MLP, mask=ODD, transform_first=True), ((5,), (5, 2))),
    Case("affine_checkerboard", lambda: AffineCoupling(3, CONV, mask="checkerboard", clamp="sigmoid"), ((3, 3, 2),)),
    Case("affine_places", lambda: AffineCoupling(2, PAIR, mask=PLACES, permutation=torch.tensor([1, 0])), ((2, 2, 3),)),
    Case("affine_any_rank", _affine(permutation="flip"), ANY),
    Case("affine_odd_first", lambda: AffineCoupling(5, MLP, transform_first=True, permutation="swap"), ((5,), (5, 2))),
    Case("affine_split", _affine(split=1, permutation=torch.tensor([1, 3, 0, 2])), VECTOR + IMAGE),
    Case("affine_pair", lambda: AffineCoupling(4, PAIR, condition=3, permutation="swap"), VECTOR + IMAGE, (3,)),
    Case("affine_condition_only", _affine(split=0, condition=3), VECTOR + IMAGE, (3,)),
    Case("affine_vector_on_image", lambda: AffineCoupling(4, CONV, condition=3), IMAGE, (3,)),
    Case("affine_image_on_image", lambda: AffineCoupling(4, CONV, condition=3), IMAGE, (3, 2, 3)),
    Case("additive", lambda: AdditiveCoupling(4, MLP, permutation="swap"), ANY),
    Case("additive_first", lambda: AdditiveCoupling(5, MLP, condition=2, transform_first=True), ((5,), (5, 2)), (2,)),
    Case("additive_mask", lambda: AdditiveCoupling(5, MLP, mask=ODD, permutation="flip"), ((5,), (5, 2))),
    Case("additive_checkerboard", lambda: AdditiveCoupling(1, CONV, mask="checkerboard"), ((1, 4, 4), (1, 2, 1))),
    Case("rqs_nflows", _rqs(permutation="swap"), ANY),
    Case("rqs_identity", _rqs(preset="nflows_identity", bound=4.0, mask=torch.tensor([1, 0, 0, 1])), VECTOR + IMAGE),
    Case("rqs_interval", _rqs(tails="interval", box=(-1.0, 1.0, 0.0, 3.0)), VECTOR + IMAGE),
    Case("rqs_circular", _rqs(tails="circular", transform_first=True), VECTOR + IMAGE),
    Case("rqs_zuko", _rqs(preset="zuko", condition=3, permutation="flip"), VECTOR + IMAGE, (3,)),
    Case("rqs_freia", _rqs(preset="freia"), VECTOR + IMAGE),
    Case("rqs_freia_identity", _rqs(preset="freia_identity"), VECTOR + IMAGE),
    Case("rqs_mixed", _rqs(permutation="flip", **MIXED), VECTOR + IMAGE),
    Case("mixture", lambda: MixtureLogisticCoupling(4, MLP, components=3, permutation="swap"), ANY),
    Case("mixture_bound", lambda: MixtureLogisticCoupling(4, MLP, condition=2, components=1, bound=2.0), IMAGE, (2,)),
    Case("rqs_spline", lambda: RationalQuadraticSpline(4, bins=3), ANY),
    Case("rqs_spline_part", lambda: RationalQuadraticSpline(4, begin=1, count=2, bins=3, **MIXED), VECTOR + IMAGE),
    Case("maf_spline", _maf(transform="rational_quadratic", bins=3, preset="zuko", condition=2), VECTOR + IMAGE, (2,)),
    Case("maf", _maf(), ANY),
    Case("maf_condition", _maf(condition=3, order="reverse"), VECTOR + IMAGE, (3,)),
    Case("maf_image_on_image", _maf(condition=3, order=(2, 0, 3, 1)), IMAGE, (3, 2, 3)),
    Case("maf_coupling", _maf(order=(0, 1, 0, 1), clamp="softclip", layout="shift_scale_interleaved"), VECTOR),
    Case("maf_residual", _maf(nets.made(hidden=9, activation="elu", residual="activated"), clamp="softplus"), VECTOR),
    Case("maf_residual_linear", _maf(nets.made(hidden=9, depth=1, residual="linear", activation="silu")), VECTOR),
    Case("iaf", lambda: Inverse(_maf(condition=2)()), VECTOR, (2,)),
    Case("affine_step", lambda: AffineStep(4, MLP, permutation="swap"), ANY),
    Case("affine_step_scale", lambda: AffineStep(4, PAIR, condition=3, log_scale=False), VECTOR + IMAGE, (3,)),
    Case("affine_step_first", lambda: AffineStep(5, MLP, transform_first=True, permutation="shuffle"), ((5,), (5, 2))),
    Case("additive_step", lambda: AdditiveStep(4, MLP, permutation="flip"), ANY),
    Case("all_in_one", _all_in_one(5), ((5,), (5, 2, 3))),
    Case("all_in_one_rotation", _all_in_one(4, scale="sigmoid", mix="rotation", condition=3), VECTOR + IMAGE, (3,)),
    Case("all_in_one_gin", _all_in_one(4, volume_preserving=True, reverse_permutation=True, gain=1.0), VECTOR + IMAGE),
    Case("all_in_one_reflections", _all_in_one(3, scale="exp", mix="rotation", **REFLECTED), ((3,), (3, 2))),
    Case("linear_dense", _linear("dense"), ANY),
    Case("linear_lu", _linear("lu"), ANY),
    Case("linear_qr", _linear("qr"), ANY),
    Case("linear_soft_permutation", _linear("soft_permutation"), ANY),
    Case("normalized_linear", lambda: NormalizedLinear(4), ANY),
    Case("normalized_linear_after", lambda: NormalizedLinear(4, bias=True, norm_first=False, log_scale=False), ANY),
    Case("fixed_linear", lambda: FixedLinear(4), ANY),
    Case("conv1x1", lambda: InvertibleConv1x1(4), IMAGE),
    Case("autoregressive", lambda: AutoregressiveConv(4), IMAGE),
    Case("autoregressive_after", lambda: AutoregressiveConv(3, [5, 3], dilation=[1, 2], reverse=True), ((3, 4, 5),)),
    Case("autoregressive_line", lambda: AutoregressiveConv(2, [5]), ((2, 7),)),
    Case("autoregressive_volume", lambda: AutoregressiveConv(2, [3, 3, 3]), ((2, 2, 3, 2),)),
    Case("emerging", lambda: EmergingConv(4), IMAGE),
    Case("periodic", lambda: PeriodicConv(2), ((2, 3, 4), (2, 4, 3))),
    Case("periodic_line", lambda: PeriodicConv(3, [5]), ((3, 6),)),
    Case("periodic_volume", lambda: PeriodicConv(2, [1, 3, 3]), ((2, 2, 3, 4),)),
    Case("woodbury", lambda: WoodburyTransform((4, 2, 3), 2, 3), IMAGE),
    Case("woodbury_separate", lambda: WoodburyTransform((4, 2, 3), 2, 1, separate=True), IMAGE),
    Case("squeeze", lambda: Squeeze(), ((1, 4), (2, 2, 4), (1, 2, 2, 4))),
    Case("squeeze_space", lambda: Squeeze(3, order="space"), ((2, 3), (2, 3, 6))),
    Case("unsqueeze", lambda: Unsqueeze(order="space"), ((4, 3), (8, 1, 2))),
    Case("checkerboard_squeeze", lambda: CheckerboardSqueeze(), ((2, 4), (3, 3, 2), (1, 2, 1, 4))),
    Case("checkerboard_unsqueeze", lambda: CheckerboardUnsqueeze(even_first=True), ((4, 3), (2, 2, 1))),
    Case("haar", lambda: Haar(), ((2, 4), (2, 2, 4), (1, 2, 2, 4))),
    Case("haar_space", lambda: Haar(order="space", rebalance=0.5), ((3, 2, 4),)),
    Case("multiscale", lambda: MultiScale(5, AffineCoupling(3, MLP, condition=2), keep=3), ((5,), (5, 2, 2)), (2,)),
    Case("inverse", lambda: Inverse(AffineCoupling(4, MLP, condition=2)), VECTOR + IMAGE, (2,)),
    Case("empty", lambda: Compose(), ANY),
    Case("compose", lambda: Compose(ActNorm(4), LeakyReLU(), AffineCoupling(4, MLP), Shuffle(4), _linear("lu")()), ANY),
    Case("glow", _glow, ((1, 4, 4),), (2,)),
]
