"""What every operator shares: registration with torch, autograd, the choice of back end, argument checks."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from flowkit import _native
from flowkit.ops._layout import dense_strides, empty_output, is_channels_last, logdet_dtype
from flowkit.ops.reversal import Reversal
from flowkit.ops.workspace import Workspace

OPERATORS: dict[str, "Operator"] = {}


class Operator:
    """One native operator in its three forms (functional, into buffers, backward) with its reference in plain torch.

    Arguments:
        name: ``torch.ops.flowkit.<name>``, ``<name>_out`` and ``<name>_backward`` are the native forms.
        reference: ``(*tensors, *options) -> (y, logdet)`` or ``(y,)``.
        backward_reference: ``(grad_y, [grad_logdet,] kept, *tensors[1:], *options)`` -> gradients of the leading
            tensors; ``kept`` is the output y, from which the backward rebuilds what it needs, or what ``keep`` says.
        check: ``(name, *args)`` raises ValueError for arguments that do not fit. Native forms check for themselves, so
            it runs only where there is none, and to explain what one of them refused.
        tensors: number of tensor arguments, x first; optional ones may be None.
        logdet: whether the operator returns a log-determinant.
        keep: what the backward reads: "output"; "input"; or "domain", the side of x: the input of the forward direction
            and the output of the inverse, which is the last option (for maps whose inverse is costly or loses digits).
    """

    def __init__(
        self,
        name: str,
        reference: Callable[..., tuple[Tensor, ...]],
        backward_reference: Callable[..., tuple[Tensor, ...]],
        check: Callable[..., None],
        *,
        tensors: int,
        logdet: bool = True,
        keep: Literal["output", "input", "domain"] = "output",
    ) -> None:
        self.name, self.reference, self.backward_reference, self.check = name, reference, backward_reference, check
        self._tensors, self._logdet, self._keep = tensors, logdet, keep
        OPERATORS[name] = self
        if _native.available:
            self._register()

    def __call__(self, out: Workspace | None, in_place: bool, *args: Any) -> Any:
        """Runs on the best back end for ``args``; ``in_place`` says whether y may overwrite x inside ``out``."""
        x = args[0]
        if isinstance(out, Reversal):
            return self._step_back(out, in_place, *args)
        recording = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in args[: self._tensors])
        if recording and out is not None:
            raise ValueError(f"{self.name}: out= needs torch.no_grad(), since buffers are overwritten")
        if torch.compiler.is_compiling():
            self.check(self.name, *args)
            if not _native.supports(x):
                return self.reference(*args)
            return self._native(*args) if self._logdet else (self._native(*args),)
        if is_transformed() or not _native.supports(x):
            self.check(self.name, *args)
            return self._into(out, *self.reference(*args))
        try:
            if recording:
                return self._function.apply(*args)
            if out is None:
                return self._evaluate(*args)
            y = out.target(x, in_place)
            targets = (y, out.logdet) if self._logdet else (y,)
            _run(self._direct_out, self._native_out, *args, *targets)
            return y, out.logdet
        except (RuntimeError, TypeError) as error:
            self.check(self.name, *args)
            _, found, refused = str(error).partition("flowkit: ")
            if found:
                raise ValueError(f"{self.name}: {refused}") from None
            raise

    def keeps_input(self, args: Sequence[Any]) -> bool:
        """Whether the backward of a call with these arguments reads its input, not its output."""
        return self._keep == "input" or (self._keep == "domain" and not args[-1])

    @staticmethod
    def _into(out: Workspace | None, y: Tensor, *logdet: Tensor) -> tuple[Tensor, ...]:
        if out is None:
            return y, *logdet
        for value in logdet:
            out.add(value)
        return y, out.logdet

    def _evaluate(self, *args: Any) -> tuple[Tensor, ...]:
        result = _run(self._direct, self._native, *args)
        return result if self._logdet else (result,)

    def _step_back(self, walk: Reversal, in_place: bool, *args: Any) -> tuple[Tensor, ...]:
        """The input of the call with these arguments that gave ``args[0]``; see :class:`Reversal`.

        The last option is the direction. Where the backward reads the output, it does so before the input takes its
        place in memory.
        """
        rebuilds_first = self.keeps_input(args)
        grads = (walk.grad, walk.grad_logdet) if self._logdet else (walk.grad,)
        with torch.no_grad():
            kept = self._rebuilt(walk, in_place, args) if rebuilds_first else args[0]
            walk.grad, *others = self._gradients(*grads, kept, *args[1:])
            x = kept if rebuilds_first else self._rebuilt(walk, in_place, args)
        for tensor, grad in zip(args[1 : self._tensors], others, strict=False):
            walk.wait(tensor, grad)
        return x, walk.logdet

    def _rebuilt(self, walk: Reversal, in_place: bool, args: tuple[Any, ...]) -> Tensor:
        return self(walk.space, in_place, *args[:-1], not args[-1])[0]

    def _gradients(self, *args: Any) -> tuple[Tensor, ...]:
        if not _native.supports(args[0]):
            return tuple(grad.clone() for grad in self.backward_reference(*args))  # the caller may write into them
        results = _run(self._direct_backward, self._native_backward, *args)
        return (results,) if isinstance(results, Tensor) else tuple(results)

    def _setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept = inputs[0] if self.keeps_input(inputs) else output[0]
        ctx.save_for_backward(kept, *inputs[1 : self._tensors])
        ctx.options = inputs[self._tensors :]

    def _backward(self, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the backward is wanted: double backward
            results = self.backward_reference(*grads, *kept, *ctx.options)
        else:
            results = self._gradients(*grads, *kept, *ctx.options)
        given = [g if t is not None else None for g, t in zip(results, kept, strict=False)]
        return *given, *[None] * (self._tensors - len(given) + len(ctx.options))

    def _fake(self, *args: Any) -> tuple[Tensor, ...] | Tensor:
        x = args[0]
        y = empty_output(x)
        return (y, x.new_empty(x.size(0), dtype=logdet_dtype(x.dtype))) if self._logdet else y

    def _fake_backward(self, *args: Any) -> tuple[Tensor, ...] | Tensor:
        first = 2 if self._logdet else 1
        kept = args[first]
        last = is_channels_last(kept)

        def like(t: Tensor | None) -> Tensor:
            if t is None:
                return kept.new_empty(0)
            return t.new_empty_strided(t.shape, dense_strides(t.shape, last and t.dim() == kept.dim()))

        grads = [like(t) for t in args[first : first + self._grads]]
        return grads[0] if self._grads == 1 else tuple(grads)

    def _register(self) -> None:
        namespace = torch.ops.flowkit
        self._native = getattr(namespace, self.name).default
        self._native_out = getattr(namespace, self.name + "_out").default
        self._native_backward = getattr(namespace, self.name + "_backward").default
        self._grads = len(self._native_backward._schema.returns)
        self._direct = getattr(_native.direct, self.name, None)
        self._direct_out = getattr(_native.direct, self.name + "_out", None)
        self._direct_backward = getattr(_native.direct, self.name + "_backward", None)
        qualified = f"flowkit::{self.name}"
        torch.library.register_fake(qualified, self._fake)
        torch.library.register_fake(qualified + "_out", lambda *args: None)
        torch.library.register_fake(qualified + "_backward", self._fake_backward)

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            self._setup_context(ctx, inputs, output if self._logdet else (output,))

        torch.library.register_autograd(qualified, self._backward, setup_context=setup_context)

        def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:  # a separate setup_context costs 20 us a call in torch
            result = self._evaluate(*args)
            self._setup_context(ctx, args, result)
            return result

        members = {"forward": staticmethod(forward), "backward": staticmethod(self._backward)}
        self._function: Any = type(f"{self.name}_function", (torch.autograd.Function,), members)


def is_transformed() -> bool:
    """Whether vmap, jacrev, jvp or forward-mode autograd is at work: they know plain operators best."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def _run(direct: Any, native: Any, *args: Any) -> Any:
    """One eager call, past the dispatcher unless it has a say: a mode is on, or a tensor is not plain."""
    if direct is not None and torch._C._len_torch_dispatch_stack() == 0:
        try:
            return direct(*args)
        except _native.NotPlain:
            pass
    with torch._C._AutoDispatchBelowAutograd():
        return native(*args)


def check_x(name: str, x: Tensor) -> None:
    """Raises ValueError unless x is a floating-point tensor (B, C, *spatial)."""
    if x.dtype not in _native.DTYPES:
        raise ValueError(
            f"{name}: x must be float32, float64, bfloat16 or float16, got {x.dtype}; convert it with x.float()"
        )
    if not 2 <= x.dim() <= 5:
        raise ValueError(f"{name}: x must be (B, C, *spatial) with 0 to 3 spatial dimensions, got {tuple(x.shape)}")


def check_device(name: str, x: Tensor, argument: str, t: Tensor) -> None:
    """Raises ValueError unless ``t`` lies on the device of x."""
    if t.device != x.device:
        raise ValueError(f"{name}: x is on {x.device} and {argument} on {t.device}; move them to one device")


def check_coupling(name: str, x: Tensor, argument: str, params: Tensor, begin: int, parts: int) -> None:
    """Raises ValueError unless coupling parameters fit x and the channels from ``begin`` on."""
    shape, given = x.shape, params.shape
    if len(given) != len(shape) or given[0] != shape[0] or given[2:] != shape[2:] or given[1] % parts:
        wanted = ", ".join(map(str, [shape[0], f"{parts}*n" if parts > 1 else "n", *shape[2:]]))
        raise ValueError(f"{name}: {argument} must be ({wanted}) for x {tuple(shape)}, got {tuple(given)}")
    if begin < 0 or begin + given[1] // parts > shape[1]:
        raise ValueError(
            f"{name}: channels [{begin}, {begin + given[1] // parts}) are to be transformed, "
            f"but x has channels [0, {shape[1]})"
        )
    check_device(name, x, argument, params)


def check_permutation(name: str, x: Tensor, permutation: Tensor | None) -> None:
    """Raises ValueError unless the permutation is None or int64 of shape (C,)."""
    if permutation is None:
        return
    if permutation.dtype != torch.int64 or permutation.shape != x.shape[1:2]:
        raise ValueError(
            f"{name}: permutation must be an int64 tensor of shape ({x.size(1)},), "
            f"got {permutation.dtype} {tuple(permutation.shape)}"
        )
    check_device(name, x, "permutation", permutation)


def check_channels(name: str, x: Tensor, argument: str, t: Tensor, rank: int = 1) -> None:
    """Raises ValueError unless ``t`` has shape (C,) or, with rank 2, (C, C)."""
    wanted = (x.size(1),) * rank
    if tuple(t.shape) != wanted:
        raise ValueError(f"{name}: {argument} must be {wanted} for x {tuple(x.shape)}, got {tuple(t.shape)}")
    check_device(name, x, argument, t)
