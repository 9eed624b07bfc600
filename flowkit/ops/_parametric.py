"""Couplings that transform each element with parameters of its own: what their references and checks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from flowkit.ops._layout import logdet_dtype
from flowkit.ops._operator import Operator, check_coupling, check_permutation, check_x
from flowkit.ops.permute import gather_channels, scatter_channels
from flowkit.ops.workspace import Workspace

# (elements (B, n, *spatial), parameters (B, n, P, *spatial), *options) -> (transformed, log-derivative), like elements.
Element = Callable[..., tuple[Tensor, Tensor]]


class ParametricCoupling:
    """One family: the elementwise map and its inverse in plain torch, as references of the native operator ``name``.

    The operator's arguments are ``(x, params, permutation, begin, *options, inverse)``.

    Arguments:
        name: that of the operator.
        parameters: ``(*options) -> P``, the number of parameters of an element.
        forward, inverse: the map and its inverse, differentiable twice and defined for every input.
    """

    def __init__(self, name: str, parameters: Callable[..., int], forward: Element, inverse: Element) -> None:
        self._parameters, self._forward, self._inverse = parameters, forward, inverse
        self.operator = Operator(name, self.reference, self.backward_reference, self.check, tensors=3, keep="domain")

    def reference(
        self, x: Tensor, params: Tensor, permutation: Tensor | None, begin: int, *options: Any
    ) -> tuple[Tensor, Tensor]:
        """The coupling in plain torch."""
        inverse, options = options[-1], options[:-1]
        if inverse:
            x = scatter_channels(x, permutation)
        p = self._elements(params, options)
        end = begin + p.size(1)
        moved, logs = (self._inverse if inverse else self._forward)(_wide(x[:, begin:end]), p, *options)
        y = torch.cat([x[:, :begin], moved.to(x.dtype), x[:, end:]], 1)
        return (y if inverse else gather_channels(y, permutation)), logs.flatten(1).sum(1)

    def backward_reference(
        self,
        grad_y: Tensor,
        grad_logdet: Tensor,
        x: Tensor,
        params: Tensor,
        permutation: Tensor | None,
        begin: int,
        *options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the input and of params, from the domain side ``x``; differentiable: also the double backward.

        Those of the inverse follow from the forward map by the implicit function theorem.
        """
        inverse, options = options[-1], options[:-1]
        if not inverse:
            grad_y = scatter_channels(grad_y, permutation)
        p = self._elements(params, options)
        end = begin + p.size(1)

        def forward(x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
            return self._forward(x, p, *options)

        outputs, gradients = cast(Any, torch.func.vjp(forward, _wide(x[:, begin:end]), p))
        grad = _wide(grad_y[:, begin:end])
        grad_l = grad_logdet.to(grad.dtype).reshape(-1, *[1] * (x.dim() - 1)).expand_as(grad)
        if inverse:
            slope, _ = gradients((torch.zeros_like(grad), -grad_l))
            grad = -(grad + slope) * torch.exp(-outputs[1])
            _, grad_p = gradients((grad, -grad_l))
            moved = -grad
        else:
            moved, grad_p = gradients((grad, grad_l))
        grad_x = torch.cat([grad_y[:, :begin], moved.to(x.dtype), grad_y[:, end:]], 1)
        if inverse:
            grad_x = gather_channels(grad_x, permutation)
        return grad_x, grad_p.flatten(1, 2).to(params.dtype)

    def check(
        self, name: str, x: Tensor, params: Tensor, permutation: Tensor | None, begin: int, *options: Any
    ) -> None:
        """Raises ValueError for arguments that do not fit x."""
        check_x(name, x)
        check_coupling(name, x, "params", params, begin, parts=self._parameters(*options[:-1]))
        check_permutation(name, x, permutation)

    def call(
        self,
        x: Tensor,
        params: Tensor,
        permutation: Tensor | None,
        begin: int,
        options: tuple[Any, ...],
        out: Workspace | None,
        inverse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Runs the operator."""
        if params.dtype is not x.dtype:
            params = params.to(x.dtype)
        y, logdet = self.operator(out, permutation is None, x, params, permutation, begin, *options, inverse)
        return y, logdet

    def _elements(self, params: Tensor, options: Sequence[Any]) -> Tensor:
        return _wide(params.unflatten(1, (-1, self._parameters(*options))))


def _wide(t: Tensor) -> Tensor:
    return t.to(logdet_dtype(t.dtype))


def at_bin(values: Tensor, index: Tensor) -> Tensor:
    """``values`` (B, n, bins, *spatial) at ``index`` (B, n, *spatial) of dimension 2."""
    return values.gather(2, index.unsqueeze(2)).squeeze(2)


def from_zero(sizes: Tensor) -> Tensor:
    """The bin edges 0, s0, s0 + s1, ... of bins of these sizes (B, n, bins, *spatial)."""
    return torch.nn.functional.pad(sizes.cumsum(2), [0, 0] * (sizes.dim() - 3) + [1, 0])
