"""Checks of a user's own bijection: round trip, log-det and gradients, layer by layer."""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowkit.bijections import Bijection, Inverse
from flowkit.bijections.base import kind_of

JACOBIAN_LIMIT = 512  # elements of a sample beyond which no Jacobian is formed
TOLERANCE = 1e-6  # of the checks in float64


@dataclass(frozen=True)
class LayerReport:
    """What was measured on one layer; errors are relative to max(1, the largest magnitude compared).

    Attributes:
        name: of the module, "" for the whole.
        kind: its class.
        round_trip: |inverse(forward(x)) - x| in the given dtype.
        round_trip_64: the same in float64.
        logdet: |log-det - slogdet of the autograd Jacobian|, in float64; None for samples of more than 512 elements.
        both_logdets: |log-det + log-det of the inverse|, in float64.
        gradient: |autograd - central difference| along a random direction of x and all parameters, in float64.
        problem: what is wrong, "" if nothing.
    """

    name: str
    kind: str
    round_trip: float
    round_trip_64: float
    logdet: float | None
    both_logdets: float
    gradient: float
    problem: str


@dataclass(frozen=True)
class Report:
    """The layers in the order in which they finish, a container after what it contains; prints as a table."""

    layers: tuple[LayerReport, ...]

    @property
    def broken(self) -> LayerReport | None:
        """The first layer with a problem."""
        return next((layer for layer in self.layers if layer.problem), None)

    def __str__(self) -> str:
        head = ("layer", "kind", "round trip", "in float64", "log-det", "both log-dets", "gradient", "")
        rows: list[tuple[str, ...]] = [head]
        for layer in self.layers:
            errors = layer.round_trip, layer.round_trip_64, layer.logdet, layer.both_logdets, layer.gradient
            shown = ("-" if error is None else f"{error:.1e}" for error in errors)
            rows.append((layer.name or "(whole)", layer.kind, *shown, layer.problem or "ok"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)


class BijectionError(AssertionError):
    """A layer breaks the contract of a bijection; ``report`` holds all measurements."""

    def __init__(self, report: Report, broken: LayerReport) -> None:
        name = f"layer '{broken.name}' ({broken.kind})" if broken.name else broken.kind
        super().__init__(f"{name}: {broken.problem}\n{report}")
        self.report = report


class _Call(NamedTuple):
    name: str
    module: Bijection
    x: Any  # a tensor, or a tuple of them
    condition: Tensor | None


def check_bijection(
    bijection: Bijection, x: Tensor, condition: Tensor | None = None, *, tolerance: float = 1e-3
) -> Report:
    """Checks a bijection and every bijection inside it, on the values that reach each layer when x goes through.

    Works on copies in evaluation mode: the bijection and its state stay as they are. Each layer is judged by its round
    trip (in the dtype of x and in float64), by its log-det against the autograd Jacobian of the first two samples and
    against the log-det of its inverse, and by its gradients against a central difference.

    Arguments:
        bijection: with any bijections inside.
        x: (B, C, *spatial), a few small samples; in the bijection's dtype.
        condition: (B, K) or (B, K, *spatial), where the bijection takes one.
        tolerance: of the round trip in the dtype of x, relative to max(1, max|x|); in float64 it is 1e-6.

    Returns:
        A :class:`Report`; ``print`` it for a table.

    Raises:
        BijectionError: an AssertionError that names the first layer that breaks, and holds the report.
        ValueError: x that is not a floating-point tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"check_bijection: x: expected a floating-point tensor, got {kind_of(x)}")
    narrow = _calls(bijection, x, condition)
    wide = _calls(copy.deepcopy(bijection).double(), x.double(), None if condition is None else condition.double())
    layers = (_check(a, b, tolerance) for a, b in zip(narrow, wide, strict=True))
    report = Report(tuple(layers))
    if report.broken is not None:
        raise BijectionError(report, report.broken)
    return report


def _calls(bijection: Bijection, x: Tensor, condition: Tensor | None) -> list[_Call]:
    """Runs a copy of ``bijection`` and lists what each bijection in it was called with, innermost first."""
    model = copy.deepcopy(bijection).eval()
    calls: list[_Call] = []
    handles = []

    for name, module in model.named_modules():
        if isinstance(module, Bijection):

            def hook(layer: nn.Module, given: Any, named: dict[str, Any], result: Any, name: str = name) -> None:
                seen = given[1] if len(given) > 1 else named.get("condition")
                if isinstance(layer, Inverse):
                    layer.bijection(result[0], seen)  # only inverse() ran in there: let its layers be seen too
                calls.append(_Call(name, layer, _detached(given[0]), seen))  # type: ignore[arg-type]

            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    with torch.enable_grad():  # no workspace, whose buffers would be overwritten
        model(x.detach().requires_grad_(), condition)
    for handle in handles:
        handle.remove()
    return calls


def _check(narrow: _Call, wide: _Call, tolerance: float) -> LayerReport:
    module, x, condition = wide.module, wide.x, wide.condition
    y, logdet = module(x, condition)
    _, inverse_logdet = module.inverse(_detached(y), condition)
    batch = len(_flat(x))
    problems = []
    for which, value in (("forward", logdet), ("inverse", inverse_logdet)):
        if value.shape != (batch,):
            problems.append(f"log-det of {which} has shape {tuple(value.shape)}, expected ({batch},)")
    exact = _jacobian_logdet(module, x, condition)
    gradient, unreached = _gradient_error(module, x, condition)
    round_trip, round_trip_64 = _round_trip(narrow), _round_trip(wide)
    off_jacobian = None if exact is None else _error(logdet[: len(exact)], exact)
    off_inverse = _error(-inverse_logdet, logdet)
    for what, error, limit in (
        ("round trip", round_trip, tolerance),
        ("round trip in float64", round_trip_64, TOLERANCE),
        ("log-det against the Jacobian", off_jacobian, TOLERANCE),
        ("sum of both log-dets", off_inverse, TOLERANCE),
        ("gradient", gradient, 100 * TOLERANCE),  # a central difference has fewer digits
    ):
        if error is not None and not error <= limit:
            problems.append(f"{what}: error {error:.1e} > {limit:.0e}")
    problems += [f"no gradient reaches parameter '{name}'" for name in unreached]
    kind, problem = type(module).__name__, "; ".join(problems)
    return LayerReport(wide.name, kind, round_trip, round_trip_64, off_jacobian, off_inverse, gradient, problem)


@torch.no_grad()
def _round_trip(call: _Call) -> float:
    y, _ = call.module(call.x, call.condition)
    return _error(_flat(call.module.inverse(y, call.condition)[0]), _flat(call.x))


def _jacobian_logdet(module: Bijection, x: Any, condition: Tensor | None) -> Tensor | None:
    """log|det| of the autograd Jacobian of the first two samples."""
    flat = _flat(x)
    if flat.shape[1] > JACOBIAN_LIMIT:
        return None
    found = []
    for i in range(min(2, len(flat))):
        given = None if condition is None else condition[i : i + 1]
        like = _map(x, lambda part, i=i: part[i : i + 1])

        def single(row: Tensor, given: Tensor | None = given, like: Any = like) -> Tensor:
            return _flat(module(_unflat(row[None], like), given)[0])[0]

        jacobian = torch.autograd.functional.jacobian(single, flat[i])
        found.append(torch.linalg.slogdet(jacobian).logabsdet)
    return torch.stack(found) if found else flat.new_zeros(0)


def _gradient_error(module: Bijection, x: Any, condition: Tensor | None) -> tuple[float, list[str]]:
    """Error of the derivative along one direction, and the parameters that no gradient reaches."""
    generator = torch.Generator().manual_seed(0)
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    flat = _flat(x).detach().requires_grad_()
    variables = [flat, *named.values()]
    steps = [_direction(v, generator) for v in variables]
    weight: Tensor | None = None

    def loss() -> Tensor:
        nonlocal weight
        y, logdet = module(_unflat(flat, x), condition)
        values = torch.cat([_flat(y).flatten(), logdet.flatten()])
        weight = _direction(values, generator) if weight is None else weight
        return (values * weight).sum()

    with torch.enable_grad():
        grads = torch.autograd.grad(loss(), variables, allow_unused=True)
    unreached = [name for name, grad in zip(named, grads[1:], strict=True) if grad is None]
    slope = sum(float((g * s).sum()) for g, s in zip(grads, steps, strict=True) if g is not None)
    size, ends = 1e-5, []
    with torch.no_grad():
        for factor in (1, -2):
            for variable, step in zip(variables, steps, strict=True):
                variable.add_(step, alpha=factor * size)
            ends.append(float(loss()))
        for variable, step in zip(variables, steps, strict=True):
            variable.add_(step, alpha=size)
    difference = (ends[0] - ends[1]) / (2 * size)
    return abs(difference - slope) / max(1.0, abs(slope)), unreached


def _direction(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return drawn.to(like.device) / max(1, like.numel()) ** 0.5


def _error(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or not b.numel():
        return 0.0 if a.shape == b.shape else float("inf")
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))


def _map(value: Any, function: Any) -> Any:
    return function(value) if isinstance(value, Tensor) else tuple(map(function, value))


def _detached(value: Any) -> Any:
    return _map(value, lambda part: part.detach())


def _flat(value: Any) -> Tensor:
    """A tensor (B, ...) or a tuple of them as one matrix (B, n)."""
    return torch.cat([part.flatten(1) for part in ([value] if isinstance(value, Tensor) else value)], 1)


def _unflat(flat: Tensor, like: Any) -> Any:
    """The inverse of :func:`_flat`, for the shapes of ``like``."""
    parts = [like] if isinstance(like, Tensor) else list(like)
    pieces = flat.split([part.flatten(1).shape[1] for part in parts], 1)
    shaped = [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]
    return shaped[0] if isinstance(like, Tensor) else tuple(shaped)
