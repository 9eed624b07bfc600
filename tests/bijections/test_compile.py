"""torch.compile without graph breaks and torch.export, of a conditional chain in both directions."""

import pytest
import torch

from flowkit import nets
from flowkit.bijections import ActNorm, AffineCoupling, Compose, Inverse, InvertibleLinear, LeakyReLU, Shuffle

from .cases import Case
from .test_contract import every_layer, inputs, randomised


@pytest.fixture
def flow() -> Compose:
    mlp = nets.mlp(hidden=4, depth=0)
    mix = AffineCoupling(4, mlp, condition=2, permutation="swap")
    chain = Compose(ActNorm(4), LeakyReLU(), mix, InvertibleLinear(4, parameterization="lu"), Shuffle(4))
    chain(torch.randn(8, 4), torch.randn(8, 2))  # initialises, stays in training mode
    return chain


def test_compile_and_export_in_both_directions(flow: Compose) -> None:
    x, c = torch.randn(3, 4), torch.randn(3, 2)
    y, logdet = flow(x, c)
    for direction, given, expected in ((flow, x, (y, logdet)), (Inverse(flow), y.detach(), (x, -logdet))):
        compiled = torch.compile(direction, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(given, c), expected)
        with torch.no_grad():
            torch.testing.assert_close(compiled(given, c), expected)
        batch = {0: torch.export.Dim("batch")}
        exported = torch.export.export(direction, (given, c), dynamic_shapes={"x": batch, "condition": batch}).module()
        torch.testing.assert_close(exported(given, c), expected)
        assert exported(torch.randn(5, 4), torch.randn(5, 2))[1].shape == (5,)


def test_an_uninitialised_actnorm_says_what_to_do() -> None:
    with pytest.raises(Exception, match="run forward on one batch before torch.compile"):
        torch.compile(Compose(ActNorm(4)), fullgraph=True, backend="eager")(torch.randn(3, 4))


def test_a_compiled_conditional_chain_takes_batches_of_any_size(flow: Compose) -> None:
    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    for batch in (3, 5, 7):
        x, c = torch.randn(batch, 4), torch.randn(batch, 2)
        torch.testing.assert_close(compiled(x, c), flow(x, c))


@every_layer
def test_every_layer_compiles_without_graph_breaks(case: Case) -> None:
    layer = randomised(case).double()
    x, condition = (None if t is None else t.double() for t in inputs(case, case.shapes[-1]))
    y, logdet = layer(x, condition)
    for direction, given, expected in ((layer, x, (y, logdet)), (Inverse(layer), y.detach(), (x, -logdet))):
        torch._dynamo.reset()
        compiled = torch.compile(direction, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(given, condition), expected, atol=1e-6, rtol=1e-6)
