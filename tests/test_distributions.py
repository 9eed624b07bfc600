"""Base densities and flows: densities that integrate to one, samples that follow them, one pass for both."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from flowkit import graph as g
from flowkit import nets
from flowkit.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    Haar,
    InvertibleLinear,
    LeakyReLU,
    MultiScale,
    Shuffle,
    Split,
    Squeeze,
    Unsqueeze,
)
from flowkit.distributions import BaseDensity, ClassConditionalGaussian, DiagonalGaussian, Flow, StudentT, Uniform

MLP = nets.mlp(hidden=8, depth=1, activation="tanh")


@pytest.fixture(autouse=True)
def float64() -> None:
    torch.set_default_dtype(torch.float64)


def randomised(module: Any) -> Any:
    """The module with every parameter moved away from its start, its actnorms in use."""
    for part in module.modules():
        if isinstance(part, ActNorm):
            part.initialized.fill_(True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def bijection(channels: int, condition: int = 0) -> Compose:
    """A small flow over vectors or pixels."""
    layers: list[Bijection] = [ActNorm(channels), InvertibleLinear(channels, parameterization="lu"), LeakyReLU(0.7)]
    for _ in range(2 * (channels > 1 or condition > 0)):
        layers.append(AffineCoupling(channels, MLP, condition=condition, permutation=torch.randperm(channels)))
    return randomised(Compose(*layers))


BASES = {
    "gaussian": lambda shape: DiagonalGaussian(shape),
    "gaussian_learned": lambda shape: DiagonalGaussian(shape, learnable=True),
    "classes": lambda shape: ClassConditionalGaussian(shape, 3),
    "uniform": lambda shape: Uniform(shape, -1.5, 2.0),
    "student": lambda shape: StudentT(shape, df=4.0),
    "student_learned": lambda shape: StudentT(shape, df=3.0, learnable=True),
}
every_base = pytest.mark.parametrize("name", BASES)


def base(name: str, shape: int | tuple[int, ...]) -> BaseDensity:
    return randomised(BASES[name](shape))


def label(name: str, batch: int) -> Tensor | None:
    return torch.full((batch,), 1) if name == "classes" else None


@every_base
def test_densities_in_one_dimension_integrate_to_one(name: str) -> None:
    u = torch.linspace(-1, 1, 40001)[1:-1]
    x = u / (1 - u.abs())  # the whole line
    width = (1 - u.abs()) ** -2 * (u[1] - u[0])
    with torch.no_grad():
        density = Flow(bijection(1), base(name, 1)).log_prob(x[:, None], label(name, len(x))).exp()
    assert float((density * width).sum()) == pytest.approx(1, abs=1e-4)  # the density has jumps


@pytest.mark.parametrize("name", ["gaussian_learned", "classes"])
def test_densities_in_two_dimensions_integrate_to_one(name: str) -> None:
    flow = Flow(bijection(2, condition=3), base(name, 2))
    condition = torch.tensor([[0.0, 1.0, 0.0]])
    axis = torch.linspace(-30, 30, 1201)
    x = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow.log_prob(x, condition.expand(len(x), -1)).exp()
    assert float(density.sum()) * 0.05**2 == pytest.approx(1, abs=1e-4)


@every_base
@pytest.mark.parametrize("shape", [(3,), (4, 2, 2)])
def test_samples_come_with_their_log_prob(name: str, shape: tuple[int, ...]) -> None:
    flow = Flow(bijection(shape[0]), base(name, shape))
    condition = label(name, 6)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            x, log_prob = flow.sample_and_log_prob(6, condition)
            assert x.shape == (6, *shape) and x.requires_grad == grad
            torch.testing.assert_close(log_prob, flow.log_prob(x, condition))


@every_base
def test_base_samples_have_the_moments_of_the_density(name: str) -> None:
    density = base(name, (2,))
    x = torch.linspace(-60, 60, 200001)
    condition, points = label(name, len(x)), torch.zeros(len(x), 2)
    sample = density.sample(200_000, label(name, 1))
    for i in range(2):
        points[:, i] = x
        mass = density.log_prob(points, condition).exp().detach()
        mass = mass / mass.sum()
        mean = (mass * x).sum()
        std = (mass * (x - mean).square()).sum().sqrt()
        assert float(sample[:, i].mean()) == pytest.approx(float(mean), abs=0.02)
        # heavy tails: compare quantiles rather than the variance
        inside = ((sample[:, i] - mean).abs() < std).double().mean()
        assert float(inside) == pytest.approx(float(mass[(x - mean).abs() < std].sum()), abs=0.01)
        points[:, i] = 0.5


@every_base
def test_temperature_scales_the_spread(name: str) -> None:
    density = base(name, 3)
    torch.manual_seed(3)
    hot = density.sample(5, label(name, 1))
    torch.manual_seed(3)
    cold = density.sample(5, label(name, 1), temperature=0.5)
    centre = density.sample(5, label(name, 1), temperature=0.0)
    torch.testing.assert_close(centre, centre[:1].expand(5, -1))
    torch.testing.assert_close(cold - centre, 0.5 * (hot - centre))
    flow = Flow(bijection(3), density)
    torch.testing.assert_close(flow.sample(5, label(name, 1), 0.0), flow.bijection.inverse(centre)[0])


@every_base
def test_rsample_has_the_gradients_of_finite_differences(name: str) -> None:
    flow = Flow(bijection(2), base(name, 2))
    if name == "student_learned":  # implicit reparameterisation: not the derivative of the sampler; its own test below
        flow.base.requires_grad_(False)

    def loss() -> Tensor:
        torch.manual_seed(5)
        return flow.rsample(4, label(name, 4)).sin().sum()

    loss().backward()
    reached = 0
    for parameter in flow.parameters():
        if parameter.grad is None or not bool(parameter.grad.any()):
            continue
        reached += 1
        direction = torch.randn_like(parameter)
        slope, ends = float((parameter.grad * direction).sum()), []
        with torch.no_grad():
            for step in (1e-5, -2e-5):
                parameter.add_(direction, alpha=step)
                ends.append(float(loss()))
            parameter.add_(direction, alpha=1e-5)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, abs=1e-6, rel=1e-6)
    assert reached >= len(list(flow.bijection.parameters()))


def test_rsample_moves_the_degrees_of_freedom_towards_a_wider_spread() -> None:
    density = StudentT(1, df=6.0, learnable=True)
    density.rsample(20_000).abs().mean().backward()
    df = torch.tensor(6.0, requires_grad=True)
    mean = (
        2 * df.sqrt() * torch.exp(torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2)) / (math.sqrt(math.pi) * (df - 1))
    )
    mean.backward()
    assert float(density.log_df.grad) == pytest.approx(6 * float(df.grad), rel=0.2)  # E|t| in closed form


def test_student_t_is_that_of_torch() -> None:
    for density in (StudentT((2, 3), df=2.5), base("student_learned", (2, 3))):
        z = 3 * torch.randn(5, 2, 3)
        expected = torch.distributions.StudentT(density.df.expand(2, 3)).log_prob(z).sum((1, 2))
        torch.testing.assert_close(density.log_prob(z), expected)


def test_uniform_is_minus_infinity_outside() -> None:
    density = Uniform((2, 1), -1.0, 3.0)
    z = torch.tensor([[0.0, 3.0], [-1.0, 3.1]]).reshape(2, 2, 1)
    assert density.log_prob(z).tolist() == [pytest.approx(-2 * math.log(4)), -math.inf]


def test_bits_per_dim_by_hand() -> None:
    flow = Flow(Compose(), DiagonalGaussian((1, 2, 2)))
    x = torch.tensor([[0.5, -1.0, 2.0, 0.0]]).reshape(1, 1, 2, 2)
    nats = 0.5 * (0.25 + 1 + 4) + 2 * math.log(2 * math.pi)
    assert float(flow.bits_per_dim(x)) == pytest.approx(nats / (4 * math.log(2)))
    assert float(flow.bits_per_dim(x, levels=256)) == pytest.approx((nats + 4 * math.log(256)) / (4 * math.log(2)))
    ignorant = Flow(Compose(), Uniform((1, 2, 2), -1, 1))
    assert float(ignorant.bits_per_dim(x.clamp(-1, 1), levels=128)) == pytest.approx(8)


def test_classes_as_labels_and_as_one_hot_rows() -> None:
    density = base("classes", (2, 2))
    labels = torch.tensor([2, 0, 1, 2])
    z = torch.randn(4, 2, 2)
    expected = torch.distributions.Normal(density.loc[labels], density.log_scale[labels].exp()).log_prob(z).sum((1, 2))
    for condition in (labels, labels.int(), torch.eye(3)[labels], torch.eye(3).long()[labels]):
        torch.testing.assert_close(density.log_prob(z, condition), expected)
        torch.testing.assert_close(density.sample(4, condition, temperature=0.0), density.loc[labels])


def test_a_class_conditions_the_base_and_the_bijection() -> None:
    flow = Flow(bijection(2, condition=3), base("classes", 2))
    rows = torch.eye(3)
    x = torch.randn(3, 2)
    z, logdet = flow.bijection(x, rows)
    torch.testing.assert_close(flow.log_prob(x, rows), flow.base.log_prob(z, torch.arange(3)) + logdet)
    assert flow.sample(6, rows).shape == (6, 2)


def test_rows_of_a_condition_are_shared_out_among_the_samples() -> None:
    flow = Flow(bijection(2, condition=3), DiagonalGaussian(2))
    rows = torch.randn(2, 3)
    drawn = flow.sample(6, rows, temperature=0.0)
    one = [flow.sample(3, row, temperature=0.0) for row in rows.split(1)]
    torch.testing.assert_close(drawn, torch.cat(one))
    assert flow.sample(0, rows[:0]).shape == (0, 2) == flow.sample(0, rows).shape


def test_sampling_without_gradients_runs_in_two_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowkit import ops

    made: list[Tensor] = []

    class Counted(ops.Workspace):
        def __init__(self, x: Tensor) -> None:
            made.append(x)
            super().__init__(x)

    monkeypatch.setattr(ops, "Workspace", Counted)
    flow = Flow(bijection(4), DiagonalGaussian(4))
    assert not flow.sample(3).requires_grad and len(made) == 1
    flow.rsample(3).sum().backward()
    assert len(made) == 1 and all(p.grad is not None for p in flow.parameters())


def test_multi_scale_flows_have_one_latent() -> None:
    coarse = Compose(Squeeze(), AffineCoupling(8, MLP), Shuffle(8), Unsqueeze())
    whole = Compose(Haar(), AffineCoupling(4, MLP, permutation="swap"), MultiScale(4, coarse))
    flow = Flow(randomised(whole), DiagonalGaussian((4, 2, 2), learnable=True))
    x, log_prob = flow.sample_and_log_prob(3)
    assert x.shape == (3, 1, 4, 4)
    torch.testing.assert_close(log_prob, flow.log_prob(x))
    with pytest.raises(
        ValueError, match="DiagonalGaussian: z: expected a floating-point tensor of shape .*, got a tuple"
    ):
        Flow(Split(4), DiagonalGaussian(2)).log_prob(torch.randn(3, 4))


def test_built_graphs_are_bijections_of_a_flow() -> None:
    x, c = g.input("x", 4), g.input("label", 3)
    y = g.affine_coupling(g.actnorm(x), condition=g.mlp(c, out=5), net=g.nets.mlp(hidden=8))
    flow = Flow(randomised(g.graph(z=g.shuffle(y)).build()), DiagonalGaussian(4))
    condition = torch.randn(2, 3)
    drawn, log_prob = flow.sample_and_log_prob(4, condition)
    torch.testing.assert_close(log_prob, flow.log_prob(drawn, condition.repeat_interleave(2, 0)))
    twice = g.affine_coupling(g.affine_coupling(x, condition=c, net=MLP), condition=g.input("more", 2), net=MLP)
    other = g.graph(z=twice).build()
    with pytest.raises(ValueError, match="bijection: expected .* at most one condition, got BuiltGraph"):
        Flow(other, DiagonalGaussian(4))


def test_transformed_distribution_is_the_flow() -> None:
    flow = Flow(bijection(3, condition=2), DiagonalGaussian(3))
    condition = torch.randn(5, 2)
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(5, 3), 1.0), 1)
    both = torch.distributions.TransformedDistribution(normal, flow.as_transform(condition))
    assert both.batch_shape == (5,) and both.event_shape == (3,)
    x = torch.randn(7, 5, 3)
    expected = flow.log_prob(x.flatten(0, 1), condition.repeat(7, 1)).reshape(7, 5)
    torch.testing.assert_close(both.log_prob(x), expected)
    drawn = both.rsample((7,))
    assert drawn.shape == (7, 5, 3) and drawn.requires_grad
    inverse = both.transforms[0].inv
    torch.testing.assert_close(inverse.log_abs_det_jacobian(x, inverse(x)).shape, torch.Size([7, 5]))
    single = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3), 1.0), 1)
    alone = torch.distributions.TransformedDistribution(single, flow.as_transform(condition[:1]))
    torch.testing.assert_close(alone.log_prob(x[0, 0]), flow.log_prob(x[0, :1], condition[:1])[0])
    with pytest.raises(ValueError, match="condition: expected 1 row or 4"):
        both.transforms[0](torch.randn(4, 3))


def test_transform_changes_the_shape_of_images() -> None:
    flow = Flow(randomised(Compose(Squeeze(), AffineCoupling(4, MLP))), DiagonalGaussian((4, 2, 3)))
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(4, 2, 3), 1.0), 3)
    whole = torch.distributions.TransformedDistribution(normal, [flow.as_transform()])
    assert whole.event_shape == (1, 4, 6) == whole.sample().shape
    x = torch.randn(2, 1, 4, 6)
    torch.testing.assert_close(whole.log_prob(x), flow.log_prob(x))


def test_the_kept_log_det_is_used_once_and_never_when_stale() -> None:
    flow = Flow(bijection(3), DiagonalGaussian(3))
    calls: list[str] = []
    flow.bijection[0].register_forward_hook(lambda *_: calls.append("forward"))
    transform = flow.as_transform().with_cache()
    x = torch.randn(4, 3)
    with torch.no_grad():
        z = transform.inv(x)
        kept = transform.log_abs_det_jacobian(z, x)
        assert calls == ["forward"]
        torch.testing.assert_close(kept, flow.bijection.inverse(z)[1])
        torch.testing.assert_close(transform.log_abs_det_jacobian(z.clone(), x), kept)
        flow.bijection[0].scale.add_(1)
        torch.testing.assert_close(transform.log_abs_det_jacobian(z, x), kept - 3)
        y = transform(z)
        z.mul_(2)
        torch.testing.assert_close(transform.log_abs_det_jacobian(z, y), flow.bijection.inverse(z)[1])
    transform(z.requires_grad_())
    torch.testing.assert_close(copy.deepcopy(transform)(z), transform(z))


def test_gradients_twice_in_a_row_through_a_transformed_distribution() -> None:
    flow = Flow(bijection(3), DiagonalGaussian(3))
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3), 1.0), 1)
    whole = torch.distributions.TransformedDistribution(normal, flow.as_transform())
    x = torch.randn(4, 3)
    for _ in range(2):
        loss = -whole.log_prob(x).mean()
        loss.backward()
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter -= 0.01 * parameter.grad
        torch.testing.assert_close(loss.isfinite(), torch.tensor(True))
    torch.testing.assert_close(whole.log_prob(x), flow.log_prob(x))


@every_base
def test_pickle_state_dict_and_narrow_types(name: str) -> None:
    flow = Flow(bijection(4), base(name, 4))
    x, condition = torch.randn(3, 4).clamp(-1, 1), label(name, 3)
    fresh = Flow(copy.deepcopy(flow.bijection), BASES[name](4))
    fresh.load_state_dict(flow.state_dict())
    for other in (pickle.loads(pickle.dumps(flow)), fresh):
        torch.testing.assert_close(other(x, condition), flow.log_prob(x, condition))
        assert repr(other) == repr(flow)
    half = flow.bfloat16()
    assert half.sample(2, label(name, 1)).dtype == torch.bfloat16
    assert half.log_prob(x.bfloat16(), condition).dtype == torch.float32


@pytest.mark.parametrize("name", ["gaussian_learned", "classes", "student"])
def test_log_prob_compiles_without_a_break(name: str) -> None:
    flow = Flow(Compose(ActNorm(4), AffineCoupling(4, MLP)), base(name, 4)).eval()
    x, condition = torch.randn(3, 4), label(name, 3)
    compiled = torch.compile(flow, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, condition), flow(x, condition))


class Drawn(BaseDensity):
    """A density that only knows samples without gradients."""

    def sample(self, n: int, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return torch.zeros(n, *self.shape)

    def _log_prob(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return z.flatten(1).sum(1)


def test_a_base_of_ones_own_without_reparameterisation() -> None:
    flow = Flow(bijection(2), Drawn(2))
    assert flow.sample(3).shape == (3, 2)
    with pytest.raises(NotImplementedError, match="Drawn cannot be sampled with gradients; use sample"):
        flow.rsample(3)
    with torch.no_grad():
        assert flow.sample_and_log_prob(3)[1].shape == (3,)


WRONG: dict[str, tuple[Any, str]] = {
    "no size": (lambda: DiagonalGaussian(()), r"DiagonalGaussian: shape: expected positive sizes"),
    "zero size": (lambda: DiagonalGaussian((3, 0)), r"shape: expected positive sizes"),
    "no classes": (lambda: ClassConditionalGaussian(2, 0), r"classes: expected at least 1, got 0"),
    "empty interval": (lambda: Uniform(2, 1.0, 1.0), r"low, high: expected finite numbers with low < high"),
    "degrees": (lambda: StudentT(2, df=0.0), r"StudentT: df: expected a positive number, got 0.0"),
    "latent": (
        lambda: DiagonalGaussian((2, 3)).log_prob(torch.randn(4, 3)),
        r"z: expected .* \(B, 2, 3\), got .* \(4, 3\)",
    ),
    "temperature": (
        lambda: DiagonalGaussian(2).sample(1, temperature=-1.0),
        r"temperature: expected .* >= 0, got -1.0",
    ),
    "number": (lambda: Flow(Compose(), DiagonalGaussian(2)).sample(-1), r"Flow: n: expected .* >= 0, got -1"),
    "no label": (lambda: ClassConditionalGaussian(2, 3).sample(4), r"condition: expected labels \(4,\) .*, got none"),
    "label": (lambda: ClassConditionalGaussian(2, 3).sample(1, torch.tensor([3])), r"labels in 0..2, got"),
    "negative label": (lambda: ClassConditionalGaussian(2, 3).sample(1, torch.tensor([-1])), r"labels in 0..2, got"),
    "float label": (lambda: ClassConditionalGaussian(2, 3).sample(1, torch.zeros(1)), r"one-hot rows \(1, 3\), got"),
    "rows": (
        lambda: Flow(Compose(), DiagonalGaussian(2)).sample(4, torch.randn(3, 2)),
        r"condition: expected a tensor with a number of rows that .* 4 samples, got .* shape \(3, 2\)",
    ),
    "rows of a list": (
        lambda: Flow(Compose(), DiagonalGaussian(2)).sample(2, [[0.0], [1.0]]),  # type: ignore[arg-type]
        r"condition: expected a tensor .*, got a list",
    ),
    "condition of a transform": (
        lambda: Flow(Compose(), DiagonalGaussian(2)).as_transform([0.0]),  # type: ignore[arg-type]
        r"FlowTransform: condition: expected a tensor, got a list",
    ),
    "fraction of a sample": (
        lambda: DiagonalGaussian(4).sample(2.5),  # type: ignore[arg-type]
        r"n: expected an integer number of samples >= 0, got 2.5",
    ),
    "list of labels": (
        lambda: ClassConditionalGaussian(2, 3).log_prob(torch.zeros(2, 2), [0, 1]),  # type: ignore[arg-type]
        r"ClassConditionalGaussian: condition: expected labels .*, got a list",
    ),
    "integer z": (
        lambda: DiagonalGaussian(2).log_prob(torch.zeros(3, 2, dtype=torch.int64)),
        r"DiagonalGaussian: z: expected a floating-point tensor .*, got torch.int64",
    ),
    "device of z": (
        lambda: DiagonalGaussian(2).log_prob(torch.zeros(3, 2, device="meta")),
        r"DiagonalGaussian: z: expected a tensor on the density's device cpu, got one on meta",
    ),
    "missing condition": (
        lambda: Flow(bijection(2, 3), DiagonalGaussian(2)).sample(4),
        r"condition: .*\(4, 3\), got none",
    ),
    "bijection": (
        lambda: Flow(torch.nn.Linear(2, 2), DiagonalGaussian(2)),
        r"Flow: bijection: expected .*, got Linear",
    ),
    "base": (lambda: Flow(Compose(), Compose()), r"Flow: base: expected a BaseDensity, got Compose"),
    "levels": (
        lambda: Flow(Compose(), DiagonalGaussian(2)).bits_per_dim(torch.randn(3, 2), levels=0),
        r"levels: expected a positive number, got 0",
    ),
    "event": (
        lambda: Flow(Compose(), DiagonalGaussian((2, 2))).as_transform()(torch.randn(3)),
        r"value: expected at least 2 dimensions, got \(3,\)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_named(what: str) -> None:
    call, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_base_refuses_to_load_values_that_are_not_finite() -> None:
    layer = DiagonalGaussian(2, learnable=True)
    with pytest.raises(ValueError, match=r"DiagonalGaussian: state dict entry 'loc': expected finite .* 1 of 2"):
        layer.load_state_dict({"loc": torch.tensor([0.0, torch.nan]), "log_scale": torch.zeros(2)})
    flow = Flow(Compose(), layer)
    with pytest.raises(ValueError, match=r"'base.log_scale': expected finite values"):
        flow.load_state_dict({"base.loc": torch.zeros(2), "base.log_scale": torch.full((2,), torch.inf)})
