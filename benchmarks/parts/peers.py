"""The same tabular flows and couplings in FrEIA, normflows, nflows and zuko: as many blocks, networks of one shape.

Each function imports its library itself: one that is not installed is a note in the table, not a failure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.parts.models import BOUND, Model, Vectors

T = TypeVar("T")


class MLP(nn.Sequential):
    """The conditioner that every library gets; ``hidden_features`` is what nflows and normflows scale splines by."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )
        self.hidden_features = hidden

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return super().forward(x)


class Given(nn.Module):
    """A conditioner that costs nothing: it gives the tensor it was told to."""

    value: Tensor

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        """``value``."""
        return self.value


def installed(makers: Mapping[str, Callable[[], T]], notes: list[str]) -> Iterator[tuple[str, T]]:
    """(library with its version, what its maker makes) for those that are there; a note for each that is not."""
    for library, make in makers.items():
        try:
            made = make()
        except ImportError:
            notes.append(f"{library} is not installed")
            continue
        yield f"{library} {metadata.version(library)}", made


def halves(features: int) -> Tensor:
    """A coupling mask: 0 for the first half, which stays, 1 for the rest."""
    return (torch.arange(features) >= features // 2).int()


def freia(size: Vectors) -> Model:
    """FrEIA: AllInOneBlock is its coupling, global scale and shift, and permutation in one. It has no splines."""
    from FrEIA import framework, modules

    net = framework.SequenceINN(size.features)
    for _ in range(size.blocks):
        net.append(
            modules.AllInOneBlock,
            subnet_constructor=lambda i, o: MLP(i, o, size.hidden),
            global_affine_type="EXP",
            permute_soft=False,
        )
    return Model(net, net, lambda z: net(z, rev=True)[0])


def normflows(size: Vectors) -> Model:
    """normflows, which runs from latents to data, so that the blocks stand in reverse."""
    import normflows as nf
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

    half, flows = size.features // 2, []

    def net(inputs: int, outputs: int) -> nn.Module:
        return MLP(inputs, outputs, size.hidden)

    for _ in range(size.blocks):
        coupling: Any
        if size.bins:
            coupling = nf.flows.CoupledRationalQuadraticSpline(
                size.features, 1, size.hidden, num_bins=size.bins, tail_bound=BOUND
            )
            coupling.prqct = PiecewiseRationalQuadraticCoupling(  # without the extra spline on the passive half
                halves(size.features), net, num_bins=size.bins, tails="linear", tail_bound=BOUND
            )
        else:
            coupling = nf.flows.AffineCouplingBlock(net(half, 2 * half))
        flows += [nf.flows.Permute(size.features, mode="shuffle"), coupling, nf.flows.ActNorm(size.features)]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(size.features, trainable=False), flows)
    return Model(flow, flow.inverse_and_log_det, flow)


def nflows(size: Vectors) -> Model:
    """nflows."""
    from nflows import transforms

    layers = []
    for _ in range(size.blocks):
        layers.append(transforms.ActNorm(size.features))
        layers.append(nflows_coupling(size, lambda i, o: MLP(i, o, size.hidden)))
        layers.append(transforms.RandomPermutation(size.features))
    flow = transforms.CompositeTransform(layers)
    return Model(flow, flow, lambda z: flow.inverse(z)[0])


def nflows_coupling(size: Vectors, net: Callable[[int, int], nn.Module]) -> Any:
    """One coupling of nflows, which serves images too."""
    from nflows import transforms

    mask = halves(size.features)
    if not size.bins:
        return transforms.AffineCouplingTransform(mask, net)
    return transforms.PiecewiseRationalQuadraticCouplingTransform(
        mask, net, num_bins=size.bins, tails="linear", tail_bound=BOUND
    )


def zuko(size: Vectors) -> Model:
    """zuko, with an unconditional scale and shift for the actnorm that it does not have."""
    import zuko

    univariate: Callable[..., Any] = zuko.transforms.MonotonicAffineTransform
    shapes: list[tuple[int, ...]] = [(), ()]
    if size.bins:
        univariate = zuko_spline()
        shapes = [(size.bins,), (size.bins,), (size.bins - 1,)]
    layers: list[Any] = []
    for _ in range(size.blocks):
        zeros = torch.zeros(2, size.features)
        layers.append(zuko.lazy.UnconditionalTransform(zuko.transforms.MonotonicAffineTransform, *zeros))
        layers.append(
            zuko.flows.GeneralCouplingTransform(
                size.features,
                mask=halves(size.features) == 0,
                univariate=univariate,
                shapes=shapes,
                hidden_features=(size.hidden, size.hidden),
            )
        )
        order = torch.randperm(size.features)
        layers.append(zuko.lazy.UnconditionalTransform(zuko.transforms.PermutationTransform, order, buffer=True))
    flow = zuko.lazy.LazyComposedTransform(*layers)
    return Model(flow, lambda x: flow().call_and_ladj(x), lambda z: flow().inv(z))


def zuko_spline() -> Callable[..., Any]:
    """zuko's rational-quadratic spline on our box."""
    from functools import partial

    from zuko.transforms import MonotonicRQSTransform

    return partial(MonotonicRQSTransform, bound=BOUND)


Coupling = tuple[Callable[[Tensor, Tensor], Any], Callable[[Tensor, Tensor], Any]]


def splines(size: Vectors) -> dict[str, Callable[[], Coupling]]:
    """Makers of (forward, inverse) of one spline coupling, functions of (x, the conditioner's output)."""

    def of_nflows(module: Any) -> Coupling:
        given: Given = module.transform_net
        warnings.filterwarnings("ignore", message="Inputs to the softmax are not scaled down")

        def forward(x: Tensor, params: Tensor) -> Any:
            given.value = params
            return module(x)

        def inverse(x: Tensor, params: Tensor) -> Any:
            given.value = params
            return module.inverse(x)

        return forward, inverse

    def of_normflows() -> Coupling:
        from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

        mask = halves(size.features)
        return of_nflows(
            PiecewiseRationalQuadraticCoupling(
                mask, lambda *_: Given(), num_bins=size.bins, tails="linear", tail_bound=BOUND
            )
        )

    def of_zuko() -> Coupling:
        from zuko.transforms import CouplingTransform, DependentTransform

        spline, kept = zuko_spline(), halves(size.features) == 0

        def transform(params: Tensor) -> Any:
            parts = params.unflatten(1, (-1, size.outputs)).split([size.bins, size.bins, size.bins - 1], -1)
            return CouplingTransform(lambda _: DependentTransform(spline(*parts), 1), kept)

        return (
            lambda x, params: transform(params).call_and_ladj(x),
            lambda x, params: transform(params).inv.call_and_ladj(x),
        )

    return {
        "nflows": lambda: of_nflows(nflows_coupling(size, lambda *_: Given())),
        "normflows": of_normflows,
        "zuko": of_zuko,
    }


def vector_flows(size: Vectors) -> dict[str, Callable[[], Model]]:
    """Makers of the tabular flow in each library that can."""
    makers = {"FrEIA": freia, "normflows": normflows, "nflows": nflows, "zuko": zuko}
    if size.bins:
        del makers["FrEIA"]
    return {library: lambda make=make: make(size) for library, make in makers.items()}  # type: ignore[misc]
