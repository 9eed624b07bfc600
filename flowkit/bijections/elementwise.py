"""Elementwise maps of couplings and autoregressive transforms, as values: checked options and both directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from flowkit import ops
from flowkit.ops.affine import Bound, affine_options

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

    def __post_init__(self) -> None:
        affine_options(**self.options)
        if not self.layout.endswith("interleaved"):
            raise ValueError(f"layout: expected an interleaved one, got {self.layout!r}")

    def made_inverse(self, y: Tensor, network: ops.MaskedNetwork) -> Result:
        """The inverse with the parameters that the masked network gives for the result."""
        return ops.made_affine_inverse(y, network, **self.options)


TRANSFORMS: dict[str, Any] = {"affine": Affine}


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
