"""Elementwise maps of couplings and autoregressive transforms, as values: checked options and both directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from flowkit import ops
from flowkit.ops.affine import Bound, wrong_option

Result = tuple[Tensor, Tensor]


class Elementwise:
    """A map of each element with P parameters of its own; those of channel c lie at c * P, ... of ``params``.

    A subclass is a frozen dataclass whose fields are options of its operator and its operator's inverse.
    """

    operators: ClassVar[tuple[Callable[..., Result], Callable[..., Result]]]

    @property
    def outputs(self) -> int:
        """P, the parameters of one channel."""
        raise NotImplementedError

    @property
    def inverts_networks(self) -> bool:
        """Whether :meth:`made_inverse` can be called."""
        return False

    def made_inverse(self, y: Tensor, network: ops.MaskedNetwork) -> Result:
        """The inverse with the parameters that the masked network gives for the result."""
        raise NotImplementedError

    @property
    def options(self) -> dict[str, Any]:
        """The operator's options."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def __call__(
        self,
        x: Tensor,
        params: Tensor,
        *,
        begin: int = 0,
        permutation: Tensor | None = None,
        inverse: bool,
        out: ops.Workspace | None = None,
    ) -> Result:
        """x with the channels from ``begin`` on transformed, then permuted; and the log-det (B,)."""
        call = self.operators[inverse]
        return call(x, params, begin=begin, permutation=permutation, out=out, **self.options)


@dataclass(frozen=True)
class Affine(Elementwise):
    """``exp(l(u)) * x + t``; the options of :func:`flowkit.ops.affine_coupling`, u and t of a channel side by side."""

    clamp: str = "tanh"
    bound: Bound = None
    gain: float = 1.0
    offset: float | None = None
    factor: float = 1.0
    form: str = "s*x+t"
    layout: str = "scale_shift_interleaved"

    operators = (ops.affine_coupling, ops.affine_coupling_inverse)
    outputs = 2
    inverts_networks = True

    def __post_init__(self) -> None:
        found = wrong_option(**self.options)
        if found is not None:
            raise ValueError("{}: expected {}, got {}".format(*found))
        if not self.layout.endswith("interleaved"):
            raise ValueError(f"layout: expected an interleaved one, got {self.layout!r}")

    def made_inverse(self, y: Tensor, network: ops.MaskedNetwork) -> Result:
        return ops.made_affine_inverse(y, network, **self.options)


@dataclass(frozen=True)
class RationalQuadratic(Elementwise):
    """Rational-quadratic splines; the options of :func:`flowkit.ops.rational_quadratic_coupling`.

    ``tails`` and ``bound`` may be sequences with an entry for each transformed channel; P is then what the neediest of
    them takes, and the others leave their last parameters unread.
    """

    bins: int = 8
    preset: str = "nflows"
    tails: str | tuple[str, ...] | None = None
    bound: float | tuple[float, ...] | None = None
    box: tuple[float, float, float, float] | None = None
    min_size: float | None = None
    min_slope: float | None = None
    gain: float = 1.0

    operators = (ops.rational_quadratic_coupling, ops.rational_quadratic_coupling_inverse)

    def __post_init__(self) -> None:
        if self.box is not None and self.bound is not None:
            raise ValueError(f"box: expected no bound beside it, got {self.bound}")
        lengths = {len(value) for value in (self.tails, self.bound) if isinstance(value, tuple)}
        if len(lengths) > 1:
            raise ValueError(f"tails, bound: expected an entry for each channel in both, got {sorted(lengths)} entries")
        for _, _, options in self._runs(max(lengths, default=1)):
            ops.rational_quadratic.options(**options)

    @property
    def outputs(self) -> int:
        tails = self.tails if isinstance(self.tails, tuple) else (self.tails,)
        return max(ops.rational_quadratic.parameters(self.bins, self.preset, each) for each in tails)

    def _runs(self, channels: int) -> list[tuple[int, int, dict[str, Any]]]:
        """(first, last, options) for each run of channels that share their options."""

        def of(value: Any, c: int) -> Any:
            if isinstance(value, tuple) and len(value) != channels:
                raise ValueError(f"tails, bound: expected {channels} entries, got {len(value)}")
            return value[c] if isinstance(value, tuple) else value

        found: list[tuple[int, int, Any, Any]] = []  # not by groupby, which torch.compile cannot trace
        for c in range(channels):
            own = of(self.tails, c), of(self.bound, c)
            first = found.pop()[0] if found and found[-1][2:] == own else c
            found.append((first, c + 1, *own))
        shared = {k: v for k, v in self.options.items() if k != "box"}
        return [
            (first, last, shared | {"tails": tails, "bound": bound if self.box is None else self.box})
            for first, last, tails, bound in found
        ]

    def __call__(
        self,
        x: Tensor,
        params: Tensor,
        *,
        begin: int = 0,
        permutation: Tensor | None = None,
        inverse: bool,
        out: ops.Workspace | None = None,
    ) -> Result:
        """x with the channels from ``begin`` on transformed, then permuted; and the log-det (B,)."""
        call, width = self.operators[inverse], self.outputs
        runs = self._runs(params.shape[1] // width)
        total: Tensor | None = None
        walk = list(enumerate(runs))
        for i, (first, last, options) in reversed(walk) if isinstance(out, ops.Reversal) else walk:
            own = params[:, first * width : last * width]
            used = ops.rational_quadratic.parameters(self.bins, self.preset, options["tails"])
            if used < width:
                own = own.unflatten(1, (-1, width))[:, :, :used].flatten(1, 2)
            outermost = i == (0 if inverse else len(runs) - 1)
            moves: dict[str, Any] = {"begin": begin + first, "permutation": permutation if outermost else None}
            x, logdet = call(x, own, out=out, **moves, **options)
            total = logdet if total is None or out is not None else total + logdet
        assert total is not None  # there are channels to transform
        return x, total


@dataclass(frozen=True)
class MixtureLogistic(Elementwise):
    """Mixture-of-logistics maps; the options of :func:`flowkit.ops.mixture_logistic_coupling`."""

    components: int = 8
    bound: float = 0.0
    min_log_scale: float = -7.0

    operators = (ops.mixture_logistic_coupling, ops.mixture_logistic_coupling_inverse)

    def __post_init__(self) -> None:
        ops.mixture_logistic.options(**self.options)

    @property
    def outputs(self) -> int:
        return ops.mixture_logistic.parameter_count(self.components)


TRANSFORMS: dict[str, Any] = {
    "affine": Affine,
    "rational_quadratic": RationalQuadratic,
    "mixture_logistic": MixtureLogistic,
}


def make_transform(kind: str, given: Mapping[str, Any]) -> Any:
    """The map called ``kind`` with those options that are not None.

    Raises:
        ValueError: an unknown map, an option that it does not have or that is out of its range.
    """
    if kind not in TRANSFORMS:
        raise ValueError(f"transform: expected one of {', '.join(TRANSFORMS)}, got {kind!r}")
    known = [field.name for field in fields(TRANSFORMS[kind])]
    options = {name: plain(value) for name, value in given.items() if value is not None}
    for name in options:
        if name not in known:
            raise ValueError(f"{name}: expected an option of {kind!r}, among {', '.join(known)}, got {options[name]!r}")
    return TRANSFORMS[kind](**options)


def plain(value: Any) -> Any:
    """Lists as tuples, which a frozen map can hold."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
