"""Couplings in one call with their network equal the parts one by one, and are the bijections they should be."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from flowkit import _native, nets, ops
from flowkit.bijections import AffineCoupling, AffineStep
from flowkit.ops.affine import CLAMPS, FORMS, LAYOUTS
from flowkit.ops.mlp_coupling import _has_one_call
from flowkit.ops.stacked_linear import MOST_SAMPLES

native = pytest.mark.skipif(not _native.available, reason="the kernels are not compiled")
Layer = AffineCoupling | AffineStep
KINDS: dict[str, Callable[..., nn.Module]] = {"pair": nets.PairedMLP, "one": nets.MLP}


def layer(net: Callable[..., nn.Module], step: bool, channels: int, condition: int, **options: Any) -> Layer:
    """A coupling or a step with random weights, permutation and norm included, ready for inference."""
    made = (AffineStep if step else AffineCoupling)(channels, net, condition=condition, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    return made.double().eval()


@contextmanager
def counted() -> Iterator[list[bool]]:
    """The calls of the operator that a layer makes."""
    calls: list[bool] = []
    original = ops.mlp_coupling

    def count(*args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        calls.append(True)
        return original(*args, **options)

    with patch.object(ops, "mlp_coupling", count):
        yield calls


def without_gradients_by_parts(
    made: Layer, x: Tensor, condition: Tensor | None, inverse: bool
) -> tuple[Tensor, Tensor]:
    """The parts one by one all the same."""
    with patch.object(type(made), "_whole", lambda *args, **options: None), torch.no_grad():
        found: tuple[Tensor, Tensor] = (made.inverse if inverse else made)(x, condition)
    return found


def by_parts(made: Layer, x: Tensor, condition: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
    """With gradients wanted, so in parts, and these in float64."""
    call = made.inverse if inverse else made
    with torch.enable_grad():
        y, logdet = call(x.clone().requires_grad_(), condition)
    return y.detach(), logdet.detach()


@native
@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    step=st.booleans(),
    channels=st.integers(2, 40),
    condition=st.integers(0, 9),
    samples=st.integers(1, MOST_SAMPLES),
    hidden=st.integers(1, 40),
    depth=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    activation=st.sampled_from([name for name in nets.ACTIVATIONS if name != "gelu"]),
    clamp=st.sampled_from(CLAMPS),
    form=st.sampled_from(FORMS),
    layout=st.sampled_from(LAYOUTS),
    permutation=st.sampled_from([None, "swap", "flip", "shuffle"]),
    transform_first=st.booleans(),
    share=st.floats(0.05, 0.95),
    log_scale=st.booleans(),
)
def test_one_call_is_the_parts_one_by_one(
    kind: str,
    step: bool,
    channels: int,
    condition: int,
    samples: int,
    hidden: int,
    depth: int,
    dtype: torch.dtype,
    activation: str,
    share: float,
    log_scale: bool,
    **options: Any,
) -> None:
    torch.manual_seed(channels * samples)
    net = lambda a, b: KINDS[kind](a, b, hidden=hidden, depth=depth, activation=activation)  # noqa: E731
    split = min(channels - 1, max(0 if condition else 1, round(share * channels)))
    norm = {"log_scale": log_scale} if step else {}
    made = layer(net, step, channels, condition, split=split, **options, **norm)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    made = made.to(wide)
    if dtype is torch.bfloat16 and isinstance(made.net, nets.PairedMLP):
        made.net.narrow(dtype)
    x = torch.randn(samples, channels, dtype=wide)
    c = torch.randn(samples, condition, dtype=wide) if condition else None
    for inverse in (False, True):
        expected = by_parts(deepcopy(made).double(), x.double(), None if c is None else c.double(), inverse)
        with torch.no_grad():
            call = made.inverse if inverse else made
            found = call(x, c)
            space = ops.Workspace(x)
            started = space.logdet.clone().normal_()
            space.logdet.copy_(started)
            buffered = call(x, c, out=space)
            assert _has_one_call(x, c, made.net.stacked_layers(), None)  # type: ignore[operator,union-attr]
        if kind == "pair":  # whose parts are the same kernels
            near = 1e-12 if wide is torch.float64 else 1e-6
            torch.testing.assert_close(found, without_gradients_by_parts(made, x, c, inverse), rtol=near, atol=near)
        assert [t.dtype for t in found] == [wide, wide]
        error = 1e-10 if wide is torch.float64 else 2e-3
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=error, atol=error)
        torch.testing.assert_close(buffered[0], found[0], rtol=0, atol=0)
        torch.testing.assert_close(buffered[1], started + found[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("permutation", [None, "swap", "flip", "shuffle"])
def test_it_is_a_bijection_with_its_log_det(kind: str, step: bool, permutation: str | None) -> None:
    torch.manual_seed(0)
    made = layer(KINDS[kind], step, 7, 3, permutation=permutation)
    x, c = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        y, logdet = made(x, c)
        back, minus = made.inverse(y, c)
    torch.testing.assert_close(back, x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(minus, -logdet, rtol=1e-10, atol=1e-10)
    for n in range(5):
        given = c[n : n + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, given=given: made(v[None], given)[0][0], x[n])
        torch.testing.assert_close(logdet[n], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-10, atol=1e-10)


@native
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_plain_goes_part_by_part(kind: str) -> None:
    def calls(made: Layer, batch: int = 3) -> list[bool]:
        x, c = torch.randn(batch, 6, dtype=torch.float64), torch.randn(batch, 2, dtype=torch.float64)
        with torch.no_grad(), counted() as seen:
            y, logdet = made(x, c)
        expected = by_parts(made, x, c, False)
        torch.testing.assert_close((y, logdet), expected, rtol=1e-10, atol=1e-10)
        return seen

    assert calls(layer(KINDS[kind], True, 6, 2)) == [True]
    assert calls(layer(KINDS[kind], True, 6, 2), MOST_SAMPLES + 1) == []
    assert calls(layer(KINDS[kind], False, 6, 2, mask=torch.tensor([1, 0, 1, 0, 1, 1]))) == []
    assert calls(layer(KINDS[kind], False, 6, 2, volume_preserving="all")) == []
    hooked = layer(KINDS[kind], True, 6, 2)
    ran = []
    hooked.net.register_forward_hook(lambda *args: ran.append(True))
    assert calls(hooked) == [] and ran == [True, True]
    heir: Any = type("Heir", (KINDS[kind],), {"forward": lambda self, x: x.new_ones(len(x), 6)})
    assert calls(layer(heir, True, 6, 2)) == []


@native
@pytest.mark.parametrize("change", ["hook", "swap", "norm", "parametrized", "slope", "bias", "forward", "linear"])
def test_a_network_that_was_changed_goes_part_by_part(change: str) -> None:
    norm: dict[str, Any] = {"norm": "weight"} if change == "norm" else {}
    if change == "linear":  # a network without a hidden layer has no activation
        norm = {"hidden": [], "tanh_last": True}
    made = layer(lambda a, b: nets.MLP(a, b, **{"hidden": 8, **norm}), False, 6, 0)
    main: Any = made.net.main
    match change:
        case "hook":
            main[0].register_forward_pre_hook(lambda module, args: (2 * args[0],))
        case "swap":
            main[1] = nn.GELU()
        case "parametrized":
            nn.utils.parametrizations.spectral_norm(main[2])
        case "slope":
            main[1].negative_slope = 0.3
        case "bias":
            main[0].bias = None
        case "forward":
            main[0].forward = lambda x: x.new_ones(len(x), 8)
    x = torch.randn(3, 6, dtype=torch.float64)
    with torch.no_grad(), counted() as seen:
        found = made(x)
    assert seen == []
    torch.testing.assert_close(found, by_parts(made, x, None, False), rtol=1e-10, atol=1e-10)


@native
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_between_calls(kind: str) -> None:
    made = layer(KINDS[kind], True, 6, 2, permutation="shuffle")
    other = layer(KINDS[kind], True, 6, 2, permutation="shuffle")
    x, c = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)

    def check(module: Layer, wanted: Layer) -> None:
        for inverse in (False, True):
            with torch.no_grad():
                found = (module.inverse if inverse else module)(x, c)
            torch.testing.assert_close(found, by_parts(wanted, x, c, inverse), rtol=1e-10, atol=1e-10)

    check(made, made)
    made.load_state_dict(other.state_dict())
    check(made, other)
    check(deepcopy(made), other)
    if kind == "one":
        file = io.BytesIO()
        torch.save(made, file)
        file.seek(0)
        check(torch.load(file, weights_only=False), other)
    made.clamp = other.clamp = "atan"
    check(made, other)
    with torch.no_grad():
        for changed in (made, other):
            next(changed.net.parameters()).add_(1)
    check(made, other)
    assert made.float()(x.float(), c.float())[0].dtype is torch.float32


class Watching(TorchDispatchMode):
    """Sees every operator that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@native
@pytest.mark.parametrize("kind", KINDS)
def test_modes_of_torch_give_the_same(kind: str) -> None:
    made = layer(KINDS[kind], True, 6, 2, permutation="flip")
    x, c = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    with torch.no_grad():
        expected = made(x, c)
        compiled = torch.compile(made, fullgraph=True, backend="aot_eager")(x, c)
        mapped = torch.vmap(lambda a, b: tuple(t[0] for t in made(a[None], b[None])))(x, c)
        with torch.autograd.forward_ad.dual_level():
            dual = made(x, c)
        with torch.autocast("cpu", enabled=False):
            apart = made(x, c)
        with Watching() as watching:
            watched = made(x, c)
    assert any("mlp_coupling" in name for name in watching.names)
    for found in (compiled, mapped, dual, apart, watched):
        torch.testing.assert_close(tuple(found), expected, rtol=1e-10, atol=1e-10)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = made.float()(x.float(), c.float())
    torch.testing.assert_close(y, expected[0].float(), rtol=0.1, atol=0.1)


@native
def test_operator_is_registered_as_torch_asks() -> None:
    made = layer(nets.PairedMLP, True, 6, 2, permutation="flip")
    net: Any = made.net
    layers = net.stacked_layers()
    x, c = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    tensors = [[w.detach() for w in layers.weights], [b.detach() for b in layers.biases]]
    norm = made.norm.scale.detach(), made.norm.shift.detach()  # type: ignore[union-attr]
    coupling = (0, 1, 1.0, 1.0, 0.0, 1.0, 0, 1.0, True)
    args = (x, c, *tensors, 1, 0, *norm, True, made.permutation, 3, *coupling)
    torch.library.opcheck(torch.ops.flowkit.mlp_coupling, args)
    torch.library.opcheck(torch.ops.flowkit.mlp_coupling_out, (*args, x.clone(), torch.zeros(3, dtype=x.dtype)))


@native
@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused_as_by_the_parts(kind: str) -> None:
    made = layer(KINDS[kind], True, 6, 2)
    x, c = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    for wrong in ((x[:, 1:], c), (x, c[:, 1:]), (x, c[1:]), (x, None), (x.float(), c)):
        with pytest.raises(ValueError) as by_one, torch.no_grad():
            made(*wrong)
        with pytest.raises(ValueError) as by_many, torch.enable_grad():
            made(*wrong)
        assert str(by_one.value) == str(by_many.value)
    net: Any = made.net
    options = {"begin": 3, "norm": (made.norm.scale, made.norm.shift)}  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="weights must be"), torch.no_grad():
        ops.mlp_coupling(x, c[:, 1:], net.stacked_layers(), **options)
    with pytest.raises(ValueError, match="clamp must be one of"), torch.no_grad():
        ops.mlp_coupling(x, c, net.stacked_layers(), clamp="sine", **options)


def test_with_gradients_the_operator_is_its_reference() -> None:
    made = layer(nets.PairedMLP, True, 4, 1, permutation="swap")
    net: Any = made.net
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 1, dtype=torch.float64, requires_grad=True)
    norm = made.norm.scale, made.norm.shift  # type: ignore[union-attr]
    options = {"begin": 2, "permutation": made.permutation, "inverse": True}
    assert torch.autograd.gradcheck(lambda a, b: ops.mlp_coupling(a, b, net.stacked_layers(), norm, **options), (x, c))
