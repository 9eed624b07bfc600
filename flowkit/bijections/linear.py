"""Invertible linear maps over channels (1x1 convolutions of any rank) in four parameterisations."""

from typing import Any

import torch
from torch import Tensor, nn

from flowkit import ops
from flowkit.bijections.base import Bijection, batch_logdet, kind_of
from flowkit.bijections.permutation import check_permutation
from flowkit.ops._layout import pixels


class ChannelMap(Bijection):
    """An affine map over channels, the same at every pixel; a subclass tells the matrices."""

    in_place = True

    def forward(
        self, x: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """y (B, C, *spatial) and its log-det (B,)."""
        weight, shift = self._affine()
        return self._add(ops.channel_linear(x, weight, out=out), shift, out), self._logdet(x, 1, out)

    def inverse(
        self, y: Tensor, condition: Tensor | None = None, *, out: ops.Workspace | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, C, *spatial) and its log-det (B,)."""
        weight, shift = self._affine_inverse()
        return self._add(ops.channel_linear(y, weight, out=out), shift, out), self._logdet(y, -1, out)

    def _affine(self) -> tuple[Tensor, Tensor | None]:
        """The map as (weight (C, C), shift (C,))."""
        raise NotImplementedError(f"{type(self).__name__} defines no _affine")

    def _affine_inverse(self) -> tuple[Tensor, Tensor | None]:
        """Its inverse likewise."""
        raise NotImplementedError(f"{type(self).__name__} defines no _affine_inverse")

    def _log_abs_det(self) -> Tensor:
        """Of one pixel."""
        raise NotImplementedError(f"{type(self).__name__} defines no _log_abs_det")

    def _add(self, y: Tensor, shift: Tensor | None, out: ops.Workspace | None) -> Tensor:
        if shift is None:
            return y
        shift = shift.to(y.dtype).reshape(-1, *[1] * (y.ndim - 2))
        return y + shift if out is None else y.add_(shift)

    def _logdet(self, x: Tensor, sign: int, out: ops.Workspace | None) -> Tensor:
        return batch_logdet(x, (sign * pixels(x)) * self._log_abs_det(), out)


class InvertibleLinear(ChannelMap):
    """``y[:, i] = sum_j W[i, j] x[:, j] + bias[i]`` at every pixel (Glow, arXiv 1807.03039, section 3.2).

    Arguments:
        channels: C of x (B, C, *spatial).
        parameterization: how W is held.
            "dense": W itself; log-det by an LU decomposition at every call.
            "lu": W = P L (U + diag(sign * exp(log_diagonal))), P and sign fixed, L unit triangular (Glow, eq. 10).
            "qr": W = Q (U + diag(sign * exp(log_diagonal))), Q a product of C Householder reflections, sign fixed.
            "soft_permutation": a fixed W, a buffer, orthogonal but for rounding (singular values within 1e-2 of 1,
                as bfloat16 leaves them); inverse and log-det are those of the W that is stored.
        bias: whether there is one.
        weight: (C, C) initial W, default a random rotation.

    The inverse matrix and the log-det are computed in float64 and then rounded to the type of x.

    Raises:
        ValueError: no channels; an unknown parameterization; a weight that is not floating-point, not (C, C), is
            singular, or is not orthogonal for "soft_permutation", here or in a loaded state dict; loaded factors that
            make no invertible W.
    """

    def __init__(
        self,
        channels: int,
        *,
        parameterization: str = "dense",
        bias: bool = False,
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self._check_count("channels", channels, 1)
        self.channels, self.parameterization = channels, parameterization
        if parameterization not in _MATRICES:
            raise self._wrong("parameterization", f"one of {', '.join(_MATRICES)}", repr(parameterization))
        if weight is not None:
            self._check_weight("weight", weight)
        dtype = torch.get_default_dtype() if weight is None else weight.dtype
        initial = random_rotation(channels) if weight is None else weight.detach().double()
        self.matrix: Matrix = _MATRICES[parameterization](initial).to(dtype)
        self.bias = nn.Parameter(torch.zeros(channels, dtype=dtype)) if bias else None

    def _affine(self) -> tuple[Tensor, Tensor | None]:
        return self.matrix(), self.bias

    def _affine_inverse(self) -> tuple[Tensor, Tensor | None]:
        weight = self.matrix.inverse()
        return weight, None if self.bias is None else -(weight @ self.bias.to(weight.dtype))

    def _log_abs_det(self) -> Tensor:
        return self.matrix.logdet()

    def check_loaded(self, name: str, value: Tensor) -> None:
        if name == "matrix.weight":
            self._check_weight(name, value)
        elif name == "matrix.sign" and not bool((value.abs() == 1).all()):
            raise self._wrong(name, "entries of 1 and -1", value.tolist())
        elif name == "matrix.rows":
            check_permutation(type(self).__name__, value, name)
        elif name == "matrix.log_diagonal" and isinstance(self.matrix, Triangular):
            self._check_logarithms(name, value, self.matrix.log_diagonal.dtype)

    def _check_weight(self, name: str, weight: Tensor) -> None:
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise self._wrong(name, "a floating-point tensor", kind_of(weight))
        if tuple(weight.shape) != (self.channels, self.channels):
            raise self._wrong(name, f"shape {(self.channels, self.channels)}", tuple(weight.shape))
        if not bool(weight.isfinite().all()):
            raise self._wrong(name, "finite values", "values that are not")
        singular = torch.linalg.svdvals(weight.detach().double())
        smallest, largest = float(singular[-1]), float(singular[0])
        if smallest <= torch.finfo(weight.dtype).eps * largest:
            raise self._wrong(name, "an invertible matrix", f"singular values from {smallest:.1e} to {largest:.1e}")
        if self.parameterization == "soft_permutation" and max(largest - 1, 1 - smallest) > 1e-2:
            raise self._wrong(name, "an orthogonal matrix", f"singular values from {smallest:.4f} to {largest:.4f}")

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.parameterization!r}" + (", bias=True" if self.bias is not None else "")


class InvertibleConv1x1(InvertibleLinear):
    """:class:`InvertibleLinear` under the name that it has on images: it takes x of any spatial rank either way."""


def random_rotation(channels: int) -> Tensor:
    """A random orthogonal matrix (C, C) in float64, uniformly distributed (Mezzadri, arXiv math-ph/0609050)."""
    q, r = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
    return q * r.diagonal().sign()


class Matrix(nn.Module):
    """W, its inverse and log|det W|, whatever the parameters."""

    def forward(self) -> Tensor:
        raise NotImplementedError

    def inverse(self) -> Tensor:
        raise NotImplementedError

    def logdet(self) -> Tensor:
        raise NotImplementedError

    def as_constant(self) -> "Matrix":
        """The same with its three results computed now, for :func:`flowkit.export_mode`."""
        return Constant(self)


class Constant(Matrix):
    """The results that another form has at the moment, as buffers."""

    _weight: Tensor
    _inverse: Tensor
    _logdet: Tensor

    @torch.no_grad()
    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.register_buffer("_weight", matrix().detach())
        self.register_buffer("_inverse", matrix.inverse())
        self.register_buffer("_logdet", matrix.logdet())

    def forward(self) -> Tensor:
        return self._weight

    def inverse(self) -> Tensor:
        return self._inverse

    def logdet(self) -> Tensor:
        return self._logdet


class Dense(Matrix):
    """W itself, a parameter."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self) -> Tensor:
        return self.weight

    def inverse(self) -> Tensor:
        return torch.linalg.inv_ex(self.weight.double()).inverse  # unlike inv, it does not wait for the device

    def logdet(self) -> Tensor:
        return torch.linalg.slogdet(self.weight.double()).logabsdet


class SoftPermutation(Dense):
    """A fixed W, a buffer; it is orthogonal but for rounding, so that inverse and log-det are computed as for any W."""

    def __init__(self, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.register_buffer("weight", weight)


class Triangular(Matrix):
    """The upper factor that the LU and QR forms share.

    The mask ``above`` cuts triangles out at every call: ``triu`` would start threads, however small the matrix.
    """

    sign: Tensor
    above: Tensor

    def __init__(self, upper: Tensor) -> None:
        super().__init__()
        diagonal = upper.diagonal()
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.register_buffer("sign", torch.where(diagonal < 0, -1.0, 1.0).to(upper.dtype))
        self.register_buffer("above", torch.ones_like(upper).triu(1), persistent=False)

    def factor(self) -> Tensor:
        return (self.upper * self.above).double() + torch.diag(self.sign * self.log_diagonal.double().exp())

    def logdet(self) -> Tensor:
        return self.log_diagonal.sum(dtype=torch.float64)


class LU(Triangular):
    """W = P L (U + diag(sign * exp(log_diagonal))), with P as ``rows``: W = (L (U + diag))[rows] (Glow, eq. 10)."""

    rows: Tensor

    def __init__(self, weight: Tensor) -> None:
        p, lower, upper = torch.linalg.lu(weight)
        super().__init__(upper)
        self.lower = nn.Parameter(lower.tril(-1))
        self.register_buffer("rows", p.argmax(1))

    def _below(self) -> Tensor:
        """L without its unit diagonal."""
        return (self.lower * self.above.mT).double()

    def forward(self) -> Tensor:
        upper = self.factor()
        return torch.addmm(upper, self._below(), upper).index_select(0, self.rows)

    def inverse(self) -> Tensor:
        lower = self._below()
        permuted = torch.eye(len(lower), dtype=lower.dtype, device=lower.device).index_select(0, self.rows).mT
        half = torch.linalg.solve_triangular(lower, permuted, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(self.factor(), half, upper=True)


class QR(Triangular):
    """W = Q (U + diag(sign * exp(log_diagonal))), Q the product of the Householder ``reflections``."""

    def __init__(self, weight: Tensor) -> None:
        reflections = torch.geqrf(weight).a.tril(-1)
        super().__init__((_rotation(reflections).mT @ weight).triu())
        self.reflections = nn.Parameter(reflections)  # vector i: column i below the diagonal, with a 1 on it

    def forward(self) -> Tensor:
        return _rotation(self.reflections.double()) @ self.factor()

    def inverse(self) -> Tensor:
        rotation = _rotation(self.reflections.double())
        return torch.linalg.solve_triangular(self.factor(), rotation.mT, upper=True)


def _rotation(reflections: Tensor) -> Tensor:
    """The product of the reflections I - 2 v v' / v'v."""
    vectors = reflections.tril(-1)
    return torch.linalg.householder_product(vectors, 2 / (1 + vectors.square().sum(0)))


_MATRICES: dict[str, Any] = {"dense": Dense, "lu": LU, "qr": QR, "soft_permutation": SoftPermutation}
