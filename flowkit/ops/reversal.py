"""The state of a walk back through a flow whose activations were not stored: each input is rebuilt from its output."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from flowkit.ops.workspace import Workspace


class Reversal(Workspace):
    """Gradients on their way back through a flow, and the two buffers in which its activations are rebuilt.

    Given to an operator as ``out``, together with the operator's *output* as its first argument, it makes the operator
    walk back: the operator returns its input, rebuilt in :attr:`space`, ``grad`` becomes the gradient of that input,
    and the gradients of the operator's other tensors wait for :meth:`collect`.

    Arguments:
        y: the flow's output, which is only read.
        grad: gradient of y.
        grad_logdet: gradient of the log-det (B,).

    ``grad`` is the gradient of the tensor that the walk has reached, ``gradients`` those of all leaves so far.
    """

    def __init__(self, y: Tensor, grad: Tensor, grad_logdet: Tensor) -> None:
        self.logdet = torch.zeros_like(grad_logdet)  # what operators return beside their input: of no use to anybody
        self.space = Workspace(y)
        self.grad, self.grad_logdet = grad, grad_logdet
        self.gradients: dict[Tensor, Tensor] = {}
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def part(self, y: Tensor, grad: Tensor) -> "Reversal":
        """A walk of its own from ``y``, that adds to the same gradients of leaves."""
        apart = copy(self)
        apart.space, apart.grad, apart._waiting = Workspace(y), grad, []
        return apart

    def back(self, layer: Any, y: Tensor, condition: Tensor | None, inverse: bool) -> Tensor:
        """The input of ``layer``, whose ``forward`` (or, with ``inverse``, ``inverse``) gave ``y``."""
        return layer.step_back(y, condition, inverse, self)

    def wait(self, tensor: Tensor | None, grad: Tensor) -> None:
        """Keeps the gradient of a tensor that was computed from leaves, until :meth:`collect`."""
        if tensor is not None and tensor.requires_grad:
            self._waiting.append((tensor, grad))

    def collect(self, *owners: nn.Module | Tensor | None, wanted: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Takes the waiting gradients back to leaves and returns those of ``wanted``.

        Arguments:
            owners: modules, for their parameters, and other leaves, whose gradients are added to :attr:`gradients`.
        """
        waiting, self._waiting = self._waiting, []
        leaves = [*dict.fromkeys(leaf for owner in owners for leaf in _leaves(owner) if leaf.requires_grad)]
        sources = [*wanted, *leaves]
        found: tuple[Tensor | None, ...] = (None,) * len(sources)
        if waiting and sources:
            outputs, grads = zip(*waiting, strict=True)
            found = torch.autograd.grad(outputs, sources, grads, allow_unused=True)
        for leaf, grad in zip(leaves, found[len(wanted) :], strict=True):
            if grad is not None:
                known = self.gradients.get(leaf)
                self.gradients[leaf] = grad if known is None else known + grad
        return tuple(torch.zeros_like(t) if g is None else g for t, g in zip(wanted, found[: len(wanted)], strict=True))


def _leaves(owner: nn.Module | Tensor | None) -> Iterable[Tensor]:
    if isinstance(owner, nn.Module):
        return owner.parameters()
    return () if owner is None else (owner,)
