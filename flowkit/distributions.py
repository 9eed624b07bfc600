"""Base densities, and flows: a bijection and a base density together are a distribution over data."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from flowkit.bijections import Bijection
from flowkit.bijections.base import CheckedLoading, first_tensor, kind_of, wrong


class BaseDensity(CheckedLoading):
    """A density over latents z (B, *shape): ``log_prob``, ``sample``, ``rsample``, with their argument checks.

    A subclass defines ``_log_prob(z, condition) -> (B,)`` and ``_rsample(n, condition, temperature) -> (n, *shape)``;
    one that cannot be reparameterised overrides ``sample`` instead of the latter.

    Arguments:
        shape: (C, *spatial) of one latent, or C alone.

    Raises:
        ValueError: a shape without positive sizes; z of another shape, not floating-point or on another device; a
            negative temperature; a number of samples that is no integer >= 0; a condition that is missing or does not
            fit. At ``load_state_dict``: a value that is not finite.
    """

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not self.shape or any(size < 1 for size in self.shape):
            raise wrong(self, "shape", "positive sizes (C, *spatial)", self.shape)

    def log_prob(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-density (B,) in nats of z (B, *shape); float32 at least."""
        if not isinstance(z, Tensor) or tuple(z.shape[1:]) != self.shape or not z.is_floating_point():
            expected = f"a floating-point tensor of shape (B, {', '.join(map(str, self.shape))})"
            raise wrong(self, "z", expected, kind_of(z))
        own = first_tensor(self)
        if own is not None and own.device != z.device:
            raise wrong(self, "z", f"a tensor on the density's device {own.device}", f"one on {z.device}")
        return self._log_prob(z.to(torch.promote_types(z.dtype, torch.float32)), condition)

    def rsample(self, n: int, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """As :meth:`sample`, with gradients to the parameters and the condition (reparameterised)."""
        _check_draw(self, n, temperature)
        return self._rsample(n, condition, temperature)

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n latents (n, *shape); ``temperature`` >= 0 scales the standard deviation around the centre."""
        return self.rsample(n, condition, temperature)

    def _log_prob(self, z: Tensor, condition: Tensor | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} defines no _log_prob")

    def _rsample(self, n: int, condition: Tensor | None, temperature: float) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} cannot be sampled with gradients; use sample under no_grad")

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class DiagonalGaussian(BaseDensity):
    """Independent Gaussians; standard normal unless ``learnable``.

    Arguments:
        shape: (C, *spatial), or C.
        learnable: whether the mean ``loc`` and the log of the standard deviation ``log_scale``, both of ``shape``, are
            parameters; they start at the standard normal.
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, shape: int | Sequence[int], learnable: bool = False) -> None:
        super().__init__(shape)
        _register_zeros(self, learnable, "loc", "log_scale")

    def _log_prob(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return _gaussian_log_prob(z, self.loc, self.log_scale)

    def _rsample(self, n: int, condition: Tensor | None, temperature: float) -> Tensor:
        return _gaussian_rsample((n, *self.shape), self.loc, self.log_scale, temperature)


class ClassConditionalGaussian(BaseDensity):
    """One diagonal Gaussian for each class, with learned means and scales; all start at the standard normal.

    The condition is the class: labels (B,) of integers in 0..classes-1, or one-hot rows (B, classes) of any type (which
    may then also condition the bijection of a flow).

    Arguments:
        shape: (C, *spatial), or C.
        classes: number of classes K; parameters ``loc`` and ``log_scale`` have shape (K, *shape).
    """

    def __init__(self, shape: int | Sequence[int], classes: int) -> None:
        super().__init__(shape)
        if classes < 1:
            raise wrong(self, "classes", "at least 1", classes)
        self.classes = classes
        self.loc = nn.Parameter(torch.zeros(classes, *self.shape))
        self.log_scale = nn.Parameter(torch.zeros(classes, *self.shape))

    def _log_prob(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return _gaussian_log_prob(z, *self._of_class(len(z), condition))

    def _rsample(self, n: int, condition: Tensor | None, temperature: float) -> Tensor:
        rows = None if condition is None else _spread(condition, n)
        return _gaussian_rsample((n, *self.shape), *self._of_class(n, rows), temperature)

    def _of_class(self, batch: int, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """loc and log_scale (B, *shape) of each item's class."""
        expected = f"labels ({batch},) of integers or one-hot rows ({batch}, {self.classes})"
        if not isinstance(condition, Tensor):
            raise wrong(self, "condition", expected, kind_of(condition))
        shape, whole = tuple(condition.shape), not condition.is_floating_point()
        if shape == (batch,) and whole:
            try:
                return self.loc.index_select(0, condition.long()), self.log_scale.index_select(0, condition.long())
            except IndexError as error:
                raise wrong(self, "condition", f"labels in 0..{self.classes - 1}", str(error)) from error
        if shape != (batch, self.classes):
            raise wrong(self, "condition", expected, kind_of(condition))
        weights = condition.to(self.loc.dtype)
        return torch.tensordot(weights, self.loc, 1), torch.tensordot(weights, self.log_scale, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, classes={self.classes}"


class Uniform(BaseDensity):
    """Uniform on [low, high] in every element; the log-density is -inf outside.

    Arguments:
        shape: (C, *spatial), or C.
        low, high: the same for all elements.
    """

    centre: Tensor

    def __init__(self, shape: int | Sequence[int], low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(shape)
        if not -math.inf < low < high < math.inf:
            raise wrong(self, "low, high", "finite numbers with low < high", (low, high))
        self.low, self.high = low, high
        self.register_buffer("centre", torch.tensor((low + high) / 2), persistent=False)

    def _log_prob(self, z: Tensor, condition: Tensor | None) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).flatten(1).all(1)
        outside = z.new_full((len(z),), -math.inf)
        return torch.where(inside, -math.prod(self.shape) * math.log(self.high - self.low), outside)

    def _rsample(self, n: int, condition: Tensor | None, temperature: float) -> Tensor:
        noise = torch.rand(n, *self.shape, dtype=self.centre.dtype, device=self.centre.device)
        return self.centre + (temperature * (self.high - self.low)) * (noise - 0.5)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, low={self.low}, high={self.high}"


class StudentT(BaseDensity):
    """Independent standard Student-t: heavier tails than the Gaussian (as in Jaini et al., arXiv 1907.04481).

    Arguments:
        shape: (C, *spatial), or C.
        df: degrees of freedom, positive; where it starts if learned.
        learnable: whether ``log_df``, of ``shape``, is a parameter.
    """

    log_df: Tensor

    def __init__(self, shape: int | Sequence[int], df: float = 5.0, learnable: bool = False) -> None:
        super().__init__(shape)
        if not 0 < df < math.inf:
            raise wrong(self, "df", "a positive number", df)
        _register_zeros(self, learnable, "log_df")
        self.log_df.data.add_(math.log(df))

    @property
    def df(self) -> Tensor:
        """Degrees of freedom: of ``shape`` if learned, otherwise one number."""
        return self.log_df.exp()

    def _log_prob(self, z: Tensor, condition: Tensor | None) -> Tensor:
        df = self.df.to(torch.promote_types(self.log_df.dtype, z.dtype))
        normaliser = torch.lgamma(df / 2) - torch.lgamma((df + 1) / 2) + 0.5 * torch.log(math.pi * df)
        return -((df + 1) / 2 * torch.log1p(z.square() / df) + normaliser).flatten(1).sum(1)

    def _rsample(self, n: int, condition: Tensor | None, temperature: float) -> Tensor:
        df = self.df.to(torch.promote_types(self.log_df.dtype, torch.float32)).expand(self.shape)
        standard = torch.distributions.StudentT(df, validate_args=False)
        return (temperature * standard.rsample((n,))).to(self.log_df.dtype)


class Flow(nn.Module):
    """The density of x = bijection.inverse(z) with z from the base: log p(x) = log p_base(z) + log|det dz/dx|.

    Bijection and base get the same condition; either ignores it unless it has a use for it. A multi-scale flow is one
    whose bijection holds :class:`flowkit.bijections.MultiScale` layers, with one latent of one shape.

    Arguments:
        bijection: data -> latent: a :class:`flowkit.bijections.Bijection`, or a built graph with one data input, one
            output and at most one condition.
        base: over the bijection's output.

    Wherever samples are drawn, n is the number of all samples, and a condition of B rows gives each row n / B of them,
    one row after the other: one row for all, n rows for one each, or several samples a row. B must divide n.

    Raises:
        ValueError: arguments of other types; what the bijection and the base raise.
    """

    def __init__(self, bijection: Bijection, base: BaseDensity) -> None:
        super().__init__()
        graph = "a Bijection, or a built graph with one data input, one output and at most one condition"
        parts: Any = ("bijection", bijection, Bijection, graph), ("base", base, BaseDensity, "a BaseDensity")
        for name, part, kind, expected in parts:
            if not isinstance(part, kind):
                raise wrong(self, name, expected, type(part).__name__)
        self.bijection, self.base = bijection, base

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The same as :meth:`log_prob`, so that wrappers of modules (DDP, compile) work on a flow."""
        return self.log_prob(x, condition)

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-density (B,) in nats of x (B, C, *spatial)."""
        z, logdet = self.bijection(x, condition)
        return self.base.log_prob(z, condition) + logdet

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n samples (n, C, *spatial) without gradients, in two buffers whatever the depth of the flow.

        ``temperature`` >= 0 scales the standard deviation of the base; 0 gives the image of its centre.
        """
        return self._draw(n, condition, temperature, grad=False)[0]

    def rsample(self, n: int, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """As :meth:`sample`, with gradients to all parameters and the condition (reparameterised)."""
        return self._draw(n, condition, temperature, grad=True)[0]

    def sample_and_log_prob(self, n: int, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """n samples (n, C, *spatial) and their log-density (n,), from one pass through the inverse.

        log p(x) = log p_base(z) - log|det dx/dz|. Reparameterised, as a reverse KL needs it, where gradients are on.
        """
        x, z, rows, logdet = self._draw(n, condition, 1.0, grad=torch.is_grad_enabled())
        return x, self.base.log_prob(z, rows) - logdet

    def bits_per_dim(self, x: Tensor, condition: Tensor | None = None, levels: float | None = None) -> Tensor:
        """Negative log-density in bits for each of the D = C * prod(spatial) elements of an item, (B,).

        Without ``levels``: -log p(x) / (D log 2), of the density in the units of x.

        With ``levels``: (-log p(x) + D log(levels)) / (D log 2), the code length of quantised data that was dequantised
        with uniform noise (Theis et al., arXiv 1511.01844, section 3.1) before it came here. ``levels`` counts the
        quantisation steps in one unit of x: 256 for 8-bit images scaled to [0, 1), 128 for [-1, 1). A model that knows
        nothing, uniform over the range, then has 8 bits.
        """
        if levels is not None and not 0 < levels < math.inf:
            raise wrong(self, "levels", "a positive number", levels)
        bits = -self.log_prob(x, condition) / (math.prod(x.shape[1:]) * math.log(2))
        return bits if levels is None else bits + math.log2(levels)

    def as_transform(self, condition: Tensor | None = None) -> "FlowTransform":
        """The map from latents to data as a transform of ``torch.distributions``; see :class:`FlowTransform`."""
        return FlowTransform(self.bijection, len(self.base.shape), condition)

    def _draw(
        self, n: int, condition: Tensor | None, temperature: float, grad: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """x, z, the condition of each, log|det dx/dz|."""
        _check_draw(self, n, temperature)
        rows = None if condition is None else _spread(condition, n)
        z = (self.base.rsample if grad else self.base.sample)(n, rows, temperature)
        x, logdet = self.bijection.inverse(z, rows)
        return x, z, rows, logdet


class FlowTransform(Transform):
    """A bijection as a ``torch.distributions`` transform, from latent to data.

    ``TransformedDistribution(base, flow.as_transform())`` is the flow with any torch distribution as its base whose
    events have ``event_dim`` dimensions (C, *spatial). Batch dimensions go in front.

    The log-det of the last pass is kept, so that ``log_prob`` runs the flow once; it is used for exactly the tensors of
    that pass and as long as neither they nor the flow's parameters have changed. Nothing else is cached.

    Arguments:
        bijection: data -> latent.
        event_dim: 1 + number of spatial dimensions.
        condition: one row (1, ...) for everything, or (B, ...) for the last batch dimension.
    """

    bijective = True

    def __init__(self, bijection: Bijection, event_dim: int = 1, condition: Tensor | None = None) -> None:
        super().__init__()
        if condition is not None and not isinstance(condition, Tensor):
            raise wrong(self, "condition", "a tensor", kind_of(condition))
        self.bijection, self.rank, self.condition = bijection, event_dim, condition
        self.domain = self.codomain = constraints.independent(constraints.real, event_dim)
        self._last: tuple[Tensor, Tensor, tuple[int, ...], Tensor] | None = None

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log|det dy/dx| of the latents x and their data y, of the batch shape."""
        last = self._last
        if last is not None and last[0] is x and last[1] is y and last[2] == self._versions(x, y):
            return last[3]
        return self._run(self.bijection.inverse, x)[1]

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        return self._shape(shape, self.bijection.input_shape)

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        return self._shape(shape, self.bijection.output_shape)

    def with_cache(self, cache_size: int = 1) -> "FlowTransform":
        """The transform itself, which needs no cache of values."""
        return self

    def _call(self, x: Tensor) -> Tensor:
        y, logdet = self._run(self.bijection.inverse, x)
        self._last = (x, y, self._versions(x, y), logdet)
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        x, logdet = self._run(self.bijection, y)
        self._last = (x, y, self._versions(x, y), -logdet)
        return x

    def _run(self, call: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        """``call`` on all batch dimensions at once."""
        if value.ndim < self.rank:
            raise wrong(self, "value", f"at least {self.rank} dimensions", tuple(value.shape))
        batch, rows = value.shape[: value.ndim - self.rank], self.condition
        if rows is not None:
            outer = batch or torch.Size([1])
            if len(rows) not in (1, outer[-1]):
                raise wrong(self, "condition", f"1 row or {outer[-1]}, for values {tuple(value.shape)}", len(rows))
            rows = rows.expand(*outer, *rows.shape[1:]).flatten(0, len(outer) - 1)
        moved, logdet = call(value.reshape(batch.numel(), *value.shape[len(batch) :]), rows)
        return moved.reshape(*batch, *moved.shape[1:]), logdet.reshape(batch)

    def _shape(self, shape: Sequence[int], call: Any) -> torch.Size:
        if len(shape) < self.rank:
            raise wrong(self, "shape", f"at least {self.rank} dimensions", tuple(shape))
        split = len(shape) - self.rank
        return torch.Size([*shape[:split], *call(tuple(shape[split:]))])

    def _versions(self, *tensors: Tensor) -> tuple[int, ...]:
        """Counts of the changes that the tensors and the state of the flow have seen."""
        return tuple(t._version for t in (*tensors, *self.bijection.parameters(), *self.bijection.buffers()))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_last": None}


def _spread(condition: Tensor, n: int) -> Tensor:
    """The B rows of a condition for n samples, n / B for each row, one row after the other."""
    rows = condition.shape[0] if isinstance(condition, Tensor) and condition.ndim else 0
    if rows == n:
        return condition
    if rows == 0 or n % rows:
        expected = f"a tensor with a number of rows that divides the {n} samples"
        raise ValueError(f"condition: expected {expected}, got {kind_of(condition)}")
    return condition.repeat_interleave(n // rows, 0, output_size=n)


def _gaussian_log_prob(z: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    whitened = (z - loc) * torch.exp(-log_scale)
    return -(0.5 * (whitened.square() + math.log(2 * math.pi)) + log_scale).flatten(1).sum(1)


def _gaussian_rsample(shape: tuple[int, ...], loc: Tensor, log_scale: Tensor, temperature: float) -> Tensor:
    noise = torch.randn(shape, dtype=loc.dtype, device=loc.device)
    return loc + (temperature * log_scale.exp()) * noise


def _register_zeros(module: BaseDensity, learnable: bool, *names: str) -> None:
    """Parameters of the density's shape, or scalar buffers that are not in the state dict."""
    for name in names:
        if learnable:
            module.register_parameter(name, nn.Parameter(torch.zeros(module.shape)))
        else:
            module.register_buffer(name, torch.zeros(()), persistent=False)


def _check_draw(owner: object, n: int, temperature: float) -> None:
    if not hasattr(n, "__index__") or n < 0:
        raise wrong(owner, "n", "an integer number of samples >= 0", n)
    if not 0 <= temperature < math.inf:
        raise wrong(owner, "temperature", "a finite number >= 0", temperature)
