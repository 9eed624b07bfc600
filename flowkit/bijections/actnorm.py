"""ActNorm: one scale and one shift a channel, set by the first batch."""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection


class ActNorm(Bijection):
    """Activation normalisation with data-dependent initialisation (Glow, arXiv 1807.03039, section 3.1).

    ``y = x * exp(scale) + shift``, or ``y = scale * (x + shift)`` with ``log_scale=False``. The first ``forward`` in
    training mode sets both so that y has zero mean and unit variance in each channel over the batch and all pixels, of
    all ranks when ``torch.distributed`` is initialised. In evaluation mode an uninitialised layer is the identity.

    ``Inverse(ActNorm(C, initialize_by="inverse"))`` is ``(x - shift) * exp(-scale)``, with the mean and the logarithm
    of the standard deviation as its parameters, as in FrEIA (git), survae and normflows (eps 0 in FrEIA and nflows).

    Arguments:
        channels: C.
        log_scale: whether ``scale`` holds the logarithm.
        eps: added to the standard deviation; a channel that varies by less keeps its scale.
        unbiased: whether the variance is divided by n - 1, or by n, as in Glow's own code.
        initialize_by: "forward", or "inverse": the direction whose first batch initialises, and whose result is then
            normalised.

    ``initialized`` is a buffer: a loaded layer is never initialised again. Run one batch before ``torch.compile``.

    Raises:
        ValueError: no channels; an eps that is negative or not finite; a first batch of one value a channel, over
            all ranks, or with values that are not finite, which leaves the layer uninitialised; a loaded scale of 0
            with ``log_scale=False``.
        RuntimeError: the other direction in training mode before the initialisation.
    """

    in_place = one_operator = True
    initialized: Tensor

    def __init__(
        self,
        channels: int,
        log_scale: bool = True,
        eps: float = 1e-6,
        unbiased: bool = True,
        initialize_by: str = "forward",
    ) -> None:
        super().__init__()
        self._check_count("channels", channels, 1)
        if not 0 <= eps < math.inf:
            raise self._wrong("eps", "a finite number >= 0", eps)
        if initialize_by not in ("forward", "inverse"):
            raise self._wrong("initialize_by", "'forward' or 'inverse'", repr(initialize_by))
        self.channels, self.log_scale, self.eps = channels, log_scale, eps
        self.unbiased, self.initialize_by = unbiased, initialize_by
        self.scale = nn.Parameter(torch.zeros(channels) if log_scale else torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))
        self._ready = False  # mirror of the buffer, so that no forward waits for the device

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        self._see(x, "forward")
        return ops.actnorm(x, self.scale, self.shift, log_scale=self.log_scale, out=out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        self._see(y, "inverse")
        return ops.actnorm_inverse(y, self.scale, self.shift, log_scale=self.log_scale, out=out)

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "scale" and not self.log_scale and not bool(value.all()):
            raise self._wrong(name, "values other than 0", value.tolist())

    def is_pending(self) -> bool:
        """Whether the next batch will initialise."""
        return self.training and not self._is_ready()

    def check_ready(self, direction: str = "inverse") -> None:
        """Raises RuntimeError if there is no such direction yet."""
        if self.is_pending():
            needed = f"run {self.initialize_by} on a batch first, or eval()"
            raise RuntimeError(f"ActNorm.{direction} before the initialisation: {needed}")

    def _see(self, x: Tensor, direction: str) -> None:
        """Initialises from x, what ``direction`` was given, if it is the first batch."""
        if direction != self.initialize_by:
            self.check_ready(direction)
        elif self.is_pending():
            self._initialise(x)

    def _is_ready(self) -> bool:
        if not self._ready:
            if torch.compiler.is_compiling():
                raise RuntimeError("ActNorm: run forward on one batch before torch.compile or torch.export, or eval()")
            self._ready = bool(self.initialized)
        return self._ready

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        values = x.detach().double().transpose(0, 1).flatten(1)
        count, total = _sum_over_ranks(values.new_full((1,), values.shape[1]), values.sum(1))
        if count.item() == 0:
            return
        if count.item() < 2:
            wanted = "two or more values a channel, over all ranks, in the batch that initialises"
            raise self._wrong("x", wanted, tuple(x.shape), "use a larger batch, or eval()")
        mean = total / count
        (squares,) = _sum_over_ranks((values - mean[:, None]).square().sum(1))
        wrong = (~(mean + squares).isfinite()).nonzero().flatten().tolist()
        if wrong:
            raise self._wrong("x", "finite values in the batch that initialises", f"others in channels {wrong}")
        std = (squares / (count - int(self.unbiased)).clamp(min=1)).sqrt()
        std = torch.where(std > self.eps, std + self.eps, 1.0)
        if self.initialize_by == "forward":
            scale, shift = 1 / std, -mean / std if self.log_scale else -mean
        else:
            scale, shift = std, mean if self.log_scale else mean / std
        self.scale.copy_(scale.log() if self.log_scale else scale)
        self.shift.copy_(shift)
        self.initialized.fill_(True)
        self._ready = True

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._ready = not self.initialized.is_meta and bool(self.initialized)

    def extra_repr(self) -> str:
        shown = [f"{self.channels}"] + ["log_scale=False"] * (not self.log_scale)
        shown += ["unbiased=False"] * (not self.unbiased)
        return ", ".join(shown + ["initialize_by='inverse'"] * (self.initialize_by == "inverse"))


def _sum_over_ranks(*values: Tensor) -> tuple[Tensor, ...]:
    if not (dist.is_available() and dist.is_initialized()):
        return values
    packed = torch.cat(values)
    dist.all_reduce(packed)
    return packed.split([v.numel() for v in values])
