"""Chains of bijections, and the inverse of one as a bijection."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from flowkit import ops
from flowkit.bijections.base import Bijection, batch_logdet


class Compose(Bijection):
    """Layers applied one after the other; their log-dets add up.

    Every layer gets the same condition. Where no gradients are recorded the whole chain runs in one
    :class:`flowkit.ops.Workspace`: two buffers whatever the depth, the caller's tensor only read. The layers then write
    into these shared buffers, one over the other's result: a forward hook that keeps a layer's output must ``clone``
    it. An empty chain is the identity and gives the caller's tensor itself, not a copy.

    Arguments:
        layers: applied in this order by ``forward``; named "0", "1", ... in the state dict.
        named: further layers under names of their own, ``Compose(norm=ActNorm(8), mix=Shuffle(8))``.

    Index it by position or name, slice it, iterate over it, take its ``len``.

    Raises:
        ValueError: what a layer raises, with the layer's name in front.
    """

    in_place = True

    def __init__(self, *layers: Bijection, **named: Bijection) -> None:
        super().__init__()
        for name, layer in ({str(i): layer for i, layer in enumerate(layers)} | named).items():
            if not isinstance(layer, Bijection):
                raise self._wrong(f"layer '{name}'", "a Bijection", type(layer).__name__)
            if hasattr(self, name):
                raise self._wrong("layer name", "one that Compose itself does not use", repr(name))
            self.add_module(name, layer)

    @property
    def layers(self) -> dict[str, Bijection]:
        """The layers by name, in order."""
        return self._modules  # type: ignore[return-value]

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y and the summed log-det (B,)."""
        return self._run(x, condition, out, inverse=False)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x and the summed log-det (B,)."""
        return self._run(y, condition, out, inverse=True)

    def _run(
        self, x: Tensor, condition: Tensor | None, out: ops.Workspace | None, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        if out is None and ops.use_workspace(x):
            out = ops.Workspace(x)
        total: Tensor | None = None
        for name, layer in reversed(self.layers.items()) if inverse else self.layers.items():
            call: Callable[..., tuple[Tensor, Tensor]] = layer.inverse if inverse else layer
            try:
                if out is None:
                    x, logdet = call(x, condition)
                    total = logdet if total is None else total + logdet
                elif layer.in_place:
                    x, _ = call(x, condition, out=out)
                else:
                    x, logdet = call(x, condition)
                    out.add(logdet)
            except ValueError as error:
                raise ValueError(f"layer '{name}': {error}") from error
        if out is not None:
            return x, out.logdet
        return x, batch_logdet(x, 0.0) if total is None else total

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        for layer in self.layers.values() if inverse else reversed(self.layers.values()):
            y = walk.back(layer, y, condition, inverse)
        return y

    def check(self, x: Tensor, condition: Tensor | None, argument: str) -> None:
        """Each layer checks for itself."""

    @property
    def condition_channels(self) -> int:  # type: ignore[override]
        """Channels of the condition that the layers take, 0 if none does."""
        return max((layer.condition_channels for layer in self), default=0)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        return self._shape(input_shape, inverse=False)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        return self._shape(output_shape, inverse=True)

    def _shape(self, given: Sequence[int], inverse: bool) -> tuple[int, ...]:
        shape = tuple(given)
        for name, layer in reversed(self.layers.items()) if inverse else self.layers.items():
            try:
                shape = layer.input_shape(shape) if inverse else layer.output_shape(shape)
            except ValueError as error:
                raise ValueError(f"layer '{name}': {error}") from error
        return shape

    def __getitem__(self, index: int | str | slice) -> Any:
        if isinstance(index, str):
            return self.layers[index]
        if isinstance(index, slice):
            return Compose(**dict(list(self.layers.items())[index]))
        return list(self.layers.values())[index]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.layers.values())


class Inverse(Bijection):
    """A bijection with its two directions exchanged."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection
        self.in_place = bijection.in_place
        self.condition_channels = bijection.condition_channels

    def forward(self, x: Tensor, condition: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor]:
        """The inner inverse: y and its log-det (B,)."""
        return self.bijection.inverse(x, condition, **options)

    def inverse(self, y: Tensor, condition: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor]:
        """The inner forward: x and its log-det (B,)."""
        return self.bijection(y, condition, **options)

    def step_back(self, y: Tensor, condition: Tensor | None, inverse: bool, walk: ops.Reversal) -> Tensor:
        return walk.back(self.bijection, y, condition, not inverse)

    def check(self, x: Tensor, condition: Tensor | None, argument: str) -> None:
        """The inner bijection checks for itself."""

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        return self.bijection.input_shape(input_shape)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        return self.bijection.output_shape(output_shape)
