"""Training in constant memory: no activation is stored, the backward rebuilds each from the one after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from flowkit import ops
from flowkit.bijections import Bijection
from flowkit.bijections.base import wrong
from flowkit.graph import Graph
from flowkit.ops._operator import is_transformed


def reversible(module: Bijection | Graph, *, check_drift: float | None = None) -> Any:
    """Makes a bijection train in constant memory (RevNet, arXiv 1707.04585; Glow-sized flows: arXiv 1905.07376).

    The module itself is switched and returned, so that its state dict, pickles, copies, names and position in other
    modules are what they were; a graph is built first. From then on both of its directions, where gradients are
    recorded, run in the two buffers of a :class:`flowkit.ops.Workspace`, and keep their output, the condition and
    nothing else. The backward walks the layers back: a coupling evaluates its conditioner once, on the passive channels
    that it left alone, and its operator rebuilds the input from the output; other layers are inverted and run again
    (:meth:`Bijection.step_back`). Chains of any nesting, ``repeat``, :class:`flowkit.bijections.MultiScale` and graphs
    that split and join channels are walked layer by layer. A graph in which one part of the data conditions another is
    rebuilt as a whole: right, but without the saving.

    Gradients reach the input, the condition and all parameters as usual, hooks and DDP included, once the whole walk is
    done. The backward runs in the autocast state of the forward. Under ``torch.compile`` the module is a graph break;
    ``torch.export`` and the transforms of ``torch.func`` see it as it was.

    Arguments:
        module: any bijection, such as ``Compose``, a built graph with one data input, one output and at most one
            condition, or the graph itself.
        check_drift: for debugging. Stores the input of every layer after all, and compares what is rebuilt with it.
            ``module.reversal.drift`` is the largest difference so far, relative to the largest value if that exceeds 1.

    Raises:
        ValueError: a module of another type; when called, an active dropout or a batch norm in training mode, which
            would give other numbers, or count a batch twice, when run again.
        RuntimeError: in the backward, a second derivative; a drift above ``check_drift``, naming the first layer, from
            the end, that does not give back its input.
    """
    bijection = module.build() if isinstance(module, Graph) else module
    if not isinstance(bijection, Bijection):
        expected = "a Bijection, or a graph with one data input, one output and at most one condition"
        advice = "pass flow.bijection" if hasattr(bijection, "bijection") else ""
        hint = advice and f"; {advice}"
        raise ValueError(f"reversible: module: expected {expected}, got {type(bijection).__name__}{hint}")
    if check_drift is not None and not check_drift > 0:
        raise ValueError(f"reversible: check_drift: expected a positive number or None, got {check_drift}")
    bijection.reversal = _Reversible(check_drift)
    return bijection


class _Reversible:
    """What ``reversible`` leaves at a module: it runs both directions without storing activations."""

    def __init__(self, check_drift: float | None) -> None:
        self.check_drift = check_drift
        self.drift = 0.0

    def applies(self, module: Bijection, x: Any, condition: Any, options: dict[str, Any]) -> bool:
        """Whether this call records gradients, in a way that a walk back can serve."""
        if options or not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return False
        if not isinstance(x, Tensor) or not isinstance(condition, Tensor | None):
            return False  # the layers say what is wrong
        given = x.requires_grad or (condition is not None and condition.requires_grad)
        records = given or any(p.requires_grad for p in module.parameters())
        return records and (torch.compiler.is_compiling() or not is_transformed())

    @torch.compiler.disable
    def __call__(self, module: Bijection, x: Tensor, condition: Tensor | None, *, inverse: bool) -> tuple[Tensor, ...]:
        _refuse_randomness(module)
        parameters = dict(module.named_parameters())
        call = _Call(self, module, inverse, x.device.type, tuple(parameters))
        return _Walk.apply(call, x, condition, *parameters.values())


class _Call:
    """One call of a reversible module: how it ran, and so how it is walked back."""

    def __init__(
        self, owner: _Reversible, module: Bijection, inverse: bool, device: str, names: tuple[str, ...]
    ) -> None:
        self.owner, self.module, self.inverse, self.names = owner, module, inverse, names
        self._device, self._dtype = device, torch.get_autocast_dtype(device)
        self._autocast = torch.is_autocast_enabled(device)
        self.stored: list[tuple[Bijection, Tensor]] = []

    def autocast(self) -> torch.autocast:
        """The autocast state of the call. Without the cache, which forgets whether gradients were recorded."""
        return torch.autocast(self._device, dtype=self._dtype, enabled=self._autocast, cache_enabled=False)

    def run(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both results, without gradients."""
        stores = nullcontext() if self.owner.check_drift is None else _stored_inputs(self.module, self.stored)
        with self.autocast(), stores:
            return (self.module.inverse if self.inverse else self.module.forward)(x, condition)

    def walk(self, y: Tensor, grad: Tensor, grad_logdet: Tensor) -> ops.Reversal:
        if self.owner.check_drift is None:
            return ops.Reversal(y, grad, grad_logdet)
        return _DriftCheck(y, grad, grad_logdet, self)


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, condition: Tensor | None, *parameters: Tensor) -> Any:
        y, logdet = call.run(x, condition)
        if y.untyped_storage()._cdata == x.untyped_storage()._cdata:  # the identity, or a view
            y = y.clone()
        ctx.call = call
        ctx.save_for_backward(y, condition, *parameters)
        return y, logdet

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> Any:
        call: _Call = ctx.call
        y, condition, *parameters = ctx.saved_tensors
        leaves = [nn.Parameter(p.detach(), p.requires_grad) for p in parameters]
        leaf = None if condition is None else condition.detach().requires_grad_(ctx.needs_input_grad[2])
        walk = call.walk(y, grad_y, grad_logdet)
        swapped: dict[str, Tensor] = {f"module.{name}": p for name, p in zip(call.names, leaves, strict=True)}
        with call.autocast(), _switched_off(call.module):
            torch.func.functional_call(_Backwards(call.module), swapped, (walk, y, leaf, call.inverse))
        found = walk.gradients
        return None, walk.grad, None if leaf is None else found.get(leaf), *(found.get(p) for p in leaves)


class _Backwards(nn.Module):
    """A module turned around, so that ``functional_call`` puts leaves in the place of its parameters.

    With the parameters themselves, their gradient hooks would run once in the walk and once after it.
    """

    def __init__(self, module: Bijection) -> None:
        super().__init__()
        self.module = module

    def forward(self, walk: ops.Reversal, y: Tensor, condition: Tensor | None, inverse: bool) -> None:
        walk.back(self.module, y, condition, inverse)


class _DriftCheck(ops.Reversal):
    """A walk that compares every rebuilt input with the one that the call stored."""

    def __init__(self, y: Tensor, grad: Tensor, grad_logdet: Tensor, call: _Call) -> None:
        super().__init__(y, grad, grad_logdet)
        self._owner, self._stored = call.owner, list(call.stored)
        self._names = {layer: name for name, layer in call.module.named_modules()}

    def back(self, layer: Any, y: Tensor, condition: Tensor | None, inverse: bool) -> Tensor:
        x = super().back(layer, y, condition, inverse)
        if isinstance(layer, Bijection):
            owner, expected = self._stored.pop()
            while owner is not layer:  # a layer inside another that is inverted as a whole
                owner, expected = self._stored.pop()
            self._compare(layer, x, expected)
        return x

    def _compare(self, layer: Bijection, x: Tensor, expected: Tensor) -> None:
        if x.numel() == 0:
            return
        drift = ((x - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
        self._owner.drift = max(self._owner.drift, drift)
        limit = self._owner.check_drift or 0
        if not drift <= limit:
            raise RuntimeError(
                f"reversible: layer '{self._names[layer]}' ({type(layer).__name__}): its input, rebuilt from its "
                f"output, differs by {drift:.3g} (relative) from the one it had, above check_drift={limit}; "
                "is the layer invertible there, and in a wide enough type?"
            )


@contextmanager
def _stored_inputs(module: Bijection, stored: list[tuple[Bijection, Tensor]]) -> Iterator[None]:
    """Notes a copy of the input of every bijection in ``module``, in the order of the calls."""
    layers = [layer for layer in module.modules() if isinstance(layer, Bijection)]

    def noting(layer: Bijection, call: Any) -> Any:
        def noted(x: Tensor, *rest: Any, **options: Any) -> Any:
            stored.append((layer, x.detach().clone()))
            return call(x, *rest, **options)

        return noted

    try:
        for layer in layers:
            vars(layer).update(forward=noting(layer, layer.forward), inverse=noting(layer, layer.inverse))
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
            vars(layer).pop("inverse", None)


@contextmanager
def _switched_off(module: Bijection) -> Iterator[None]:
    """``module`` runs as it is, not reversibly: it is being walked back."""
    reversal, module.reversal = module.reversal, None
    try:
        yield
    finally:
        module.reversal = reversal


def _refuse_randomness(module: Bijection) -> None:
    for name, layer in module.named_modules():
        if not layer.training:
            continue
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise wrong(module, "reversible", "conditioners without dropout", f"'{name}', {layer}", "set p=0 or eval()")
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.track_running_stats:
            advice = "use another norm or eval()"
            raise wrong(module, "reversible", "no norm that counts batches", f"'{name}', {layer}", advice)
