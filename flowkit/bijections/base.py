"""The base classes of invertible layers: the two-method contract and the checks of arguments and loaded values."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.ops import Workspace
from flowkit.ops._layout import logdet_dtype
from flowkit.ops.reversal import Reversal


class CheckedLoading(nn.Module):
    """A module whose ``load_state_dict`` refuses values that are not finite, in it and in all that it holds.

    Raises:
        ValueError: at ``load_state_dict``, naming the entry.
    """

    def check_loaded(self, name: str, value: Tensor) -> None:
        """Raises ValueError if ``value``, about to be loaded under the key ``name`` of this module, breaks it."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for key, value in state_dict.items():
            if key.startswith(prefix) and isinstance(value, Tensor) and not value.is_meta:
                if value.is_floating_point() and not bool(value.isfinite().all()):
                    bad = f"{int((~value.isfinite()).sum())} of {value.numel()} that are not"
                    raise wrong(self, f"state dict entry '{key}'", "finite values", bad)
                self.check_loaded(key.removeprefix(prefix), value)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Bijection(CheckedLoading):
    """An invertible map with an exact log-determinant in both directions.

    A subclass defines ``forward(x, condition=None)`` and ``inverse(y, condition=None)``, each returning the mapped
    tensor and the log|det| of the Jacobian of the direction called, of shape (B,), in float32 (float64 for float64
    inputs). No state is kept between calls. The arguments of both methods are checked here before the subclass sees
    them; a layer that has no use for the condition ignores it.

    Class facts, which a subclass may set on the class or in its constructor:
        channels: number of channels it takes, None for any.
        condition_channels: number of channels of the condition it takes, 0 for none.
        in_place: whether both methods take a keyword ``out`` (:class:`flowkit.ops.Workspace` or None) and add their
            log-det to it.
        one_operator: whether both methods are one call of an operator, on x and tensors that do not depend on x.

    Raises:
        ValueError: x that is not (B, C, *spatial) with 0 to 3 spatial dimensions, not floating-point, on another device
            than the layer, or of a wrong number of channels; a condition that is missing or does not fit x. At
            ``load_state_dict``: a value that is not finite.
    """

    channels: int | None = None
    condition_channels: int = 0
    in_place: bool = False
    one_operator: bool = False
    reversal: Any = None  # set by flowkit.reversible: runs both methods without storing activations

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for method, argument in (("forward", "x"), ("inverse", "y")):
            if method in cls.__dict__:
                setattr(cls, method, _checked(cls.__dict__[method], argument))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: y and log|det dy/dx|."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: x and log|det dx/dy|."""
        raise NotImplementedError(f"{type(self).__name__} defines no inverse")

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: Reversal) -> Tensor:
        """x, rebuilt from y = forward(x) or, with ``inverse``, y = inverse(x); the gradients go into ``walk``.

        For :func:`flowkit.reversible`. Here x comes from the other direction and the gradients from running the layer
        again on x; a subclass may know a cheaper way. ``condition`` and all parameters are leaves.
        """
        again, undo = (self.inverse, self.forward) if inverse else (self.forward, self.inverse)
        if self.one_operator:
            with torch.enable_grad():
                x, _ = again(y, condition, out=walk)  # type: ignore[call-arg]
            walk.collect(self)
            return x
        with torch.no_grad():
            x, _ = undo(y, condition, **({"out": walk.space} if self.in_place else {}))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            moved, logdet = again(leaf, condition)
            walk.wait(moved, walk.grad)
            walk.wait(logdet, walk.grad_logdet)
        (walk.grad,) = walk.collect(self, condition, wanted=(leaf,))
        return x

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of y, without the batch, for x of ``input_shape`` (C, *spatial); ValueError if it does not fit."""
        self._check_channels(input_shape[0], "x")
        return tuple(input_shape)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of x, without the batch, for y of ``output_shape`` (C, *spatial); ValueError if it does not fit."""
        self._check_channels(output_shape[0], "y")
        return tuple(output_shape)

    def check(self, x: Tensor, condition: Tensor | None, argument: str) -> None:
        """Raises ValueError unless ``x`` and ``condition`` fit this layer; ``argument`` is what x is called."""
        if not isinstance(x, Tensor):
            raise self._wrong(argument, "one tensor", type(x).__name__)
        if not x.is_floating_point():
            raise self._wrong(argument, "a floating-point tensor", x.dtype, f"use {argument}.float()")
        if not 2 <= x.ndim <= 5:
            raise self._wrong(argument, "shape (B, C, *spatial) with 0 to 3 spatial dimensions", tuple(x.shape))
        self._check_channels(x.shape[1], argument)
        own = first_tensor(self)
        if own is not None and own.device != x.device:
            raise self._wrong(argument, f"a tensor on the layer's device {own.device}", f"one on {x.device}")
        if self.condition_channels:
            self._check_condition(x, condition, argument)

    def _check_channels(self, channels: int, argument: str) -> None:
        if self.channels is not None and channels != self.channels:
            raise self._wrong(argument, f"{self.channels} channels", channels)

    def _check_condition(self, x: Tensor, condition: Tensor | None, argument: str) -> None:
        vector = (x.shape[0], self.condition_channels)
        image = (*vector, *x.shape[2:])

        def expected() -> str:  # only when it is needed: torch.compile cannot print a size that varies
            return f"shape {vector}" + (f" or {image}" if x.ndim > 2 else "")

        if condition is None:
            raise self._wrong("condition", expected(), "none")
        if not isinstance(condition, Tensor):
            raise self._wrong("condition", f"a tensor of {expected()}", kind_of(condition))
        if not condition.is_floating_point():
            raise self._wrong("condition", "a floating-point tensor", condition.dtype, "use condition.float()")
        if tuple(condition.shape) not in (vector, image):
            raise self._wrong("condition", f"{expected()} for {argument} {tuple(x.shape)}", tuple(condition.shape))
        if condition.device != x.device:
            raise self._wrong("condition", f"a tensor on {x.device}, like {argument}", f"one on {condition.device}")

    def _check_count(self, argument: str, value: Any, least: int, most: float = math.inf, advice: str = "") -> None:
        """Raises ValueError unless the option ``value`` is an integer from ``least`` to ``most``."""
        if not hasattr(value, "__index__") or not least <= value <= most:
            expected = f"an integer >= {least}" if most == math.inf else f"an integer from {least} to {most}"
            raise self._wrong(argument, expected, repr(value), advice)

    def _check_logarithms(self, name: str, value: Tensor, dtype: torch.dtype) -> None:
        """Raises ValueError unless exp(value) is positive and finite in ``dtype``."""
        numbers = value.to(dtype).exp()
        if not bool(((numbers > 0) & numbers.isfinite()).all()):
            given = f"{value.min():.4g} to {value.max():.4g}"
            raise self._wrong(name, f"logarithms of positive finite {dtype} numbers", given)

    def _wrong(self, argument: str, expected: str, given: object, advice: str = "") -> ValueError:
        return wrong(self, argument, expected, given, advice)


def batch_logdet(x: Tensor, logdet: Tensor | float, out: Workspace | None = None) -> Tensor:
    """A log-det that is the same for every sample of ``x``, as a tensor (B,) of the accumulator's type.

    With ``out`` it is added there, and the sum so far returned.
    """
    if out is not None:
        out.add(logdet)
        return out.logdet
    return torch.zeros(x.shape[0], dtype=logdet_dtype(x.dtype), device=x.device) + logdet


def wrong(owner: object, argument: str, expected: str, given: object, advice: str = "") -> ValueError:
    """The error for an argument of ``owner`` that does not fit; ``advice`` says what to do."""
    hint = advice and f"; {advice}"
    return ValueError(f"{type(owner).__name__}: {argument}: expected {expected}, got {given}{hint}")


def kind_of(value: object) -> str:
    """What was given instead of another tensor, for messages."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return "none" if value is None else f"a {type(value).__name__}"


def _checked(method: Callable[..., Any], argument: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Bijection, x: Tensor, condition: Tensor | None = None, **options: Any) -> Any:
        self.check(x, condition, argument)
        if self.reversal is not None and self.reversal.applies(self, x, condition, options):
            return self.reversal(self, x, condition, inverse=argument == "y")
        return method(self, x, condition, **options)

    return call


def first_tensor(module: nn.Module) -> Tensor | None:
    """A parameter or buffer of ``module`` or what it holds, None if there is none."""
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if tensor is not None:
            return tensor
    for child in module._modules.values():
        tensor = None if child is None else first_tensor(child)
        if tensor is not None:
            return tensor
    return None
