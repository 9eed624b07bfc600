"""Export: flows in plain torch operators, for torch.export and ONNX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowkit import _native
from flowkit.bijections import ActNorm, Bijection, Inverse


@contextmanager
def export_mode(module: nn.Module) -> Iterator[None]:
    """Inside, in this thread, operators run as plain torch (ATen) and the matrices of ``module`` are constants.

    ``torch.export`` then sees no operator of flowkit's own, and of an invertible linear map neither a decomposition nor
    a solve: W, its inverse and its log-det are computed on entry and stand in the exported program as they are.
    Outside, ``torch.export`` keeps the fused operators, for programs that run where flowkit is installed::

        with flowkit.export_mode(flow):
            program = torch.export.export(flow, (x, condition))
            inverse = torch.export.export(flowkit.bijections.Inverse(flow), (y, condition))

    Results equal those outside but for rounding. Not for training: nothing reaches the parameters of the matrices.

    Arguments:
        module: what is to be exported; it may be a part of what is traced.

    Raises:
        ValueError: an actnorm in ``module`` that has not seen its first batch.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, ActNorm) and not bool(layer.initialized):
            raise ValueError(
                f"export_mode: module: expected an initialised one, got an ActNorm '{name}' that has seen no batch; "
                "run forward on one batch in training mode, or load trained values"
            )
    found = [(owner, name) for owner in module.modules() for name in owner._modules]
    swapped = {(owner, name): owner._modules[name] for owner, name in found}
    token = _native.plain.set(True)
    try:
        for (owner, name), inner in swapped.items():
            if hasattr(inner, "as_constant"):
                owner._modules[name] = inner.as_constant()  # type: ignore[union-attr, operator]
        yield
    finally:
        _native.plain.reset(token)
        for (owner, name), inner in swapped.items():
            owner._modules[name] = inner


def to_onnx(
    bijection: Bijection, x: Tensor, condition: Tensor | None, file: str | os.PathLike[str], *, inverse: bool = False
) -> None:
    """Writes one direction as an ONNX file, in evaluation mode, for batches of any size.

    The inputs of the file are called "x" and, if there is one, "condition"; the outputs "y" and "logdet". With
    ``inverse``, x is what ``bijection.inverse`` takes. Needs the packages onnx and onnxscript. ONNX has no solve that
    depends on the data: the inverse of a :class:`flowkit.bijections.AutoregressiveConv`, and so of an ``EmergingConv``,
    and both directions of a ``PeriodicConv`` cannot be written.

    Arguments:
        bijection: a :class:`flowkit.Bijection`, or a built graph that is one.
        x, condition: an example, of two samples at least; all sizes but the batch are those of the example.
        file: where to write.

    Raises:
        ValueError: an example that the bijection refuses; an actnorm that has not seen its first batch.
    """
    names = ["x"] if condition is None else ["x", "condition"]
    batch = torch.export.Dim("batch")
    modes = {layer: layer.training for layer in bijection.modules()}
    try:
        with export_mode(bijection), torch.no_grad():
            direction = _Direction(Inverse(bijection) if inverse else bijection).eval()
            torch.onnx.export(
                direction,
                (x, condition),
                os.fspath(file),
                dynamo=True,
                input_names=names,
                output_names=["y", "logdet"],
                dynamic_shapes={name: {0: batch} if name in names else None for name in ("x", "condition")},
                external_data=False,
                verbose=False,
            )
    finally:
        for layer, mode in modes.items():
            layer.training = mode


class _Direction(nn.Module):
    """A bijection's forward with the same arguments whatever the bijection calls them."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Any:
        return self.bijection(x, condition)
