"""The IIN's losses as plain functions, which need torch alone (arXiv 2004.13166, equations 7 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RHO = 0.975
"""Correlation of a shared factor in the two images of a pair, the paper's sigma_ab."""


class Terms(NamedTuple):
    """The loss of the unsupervised IIN, and its two terms; scalars."""

    loss: Tensor
    nll: Tensor
    negative_logdet: Tensor


class FactorTerms(NamedTuple):
    """The loss of the factor IIN: of the first images, and of the second ones given the first; scalars."""

    loss: Tensor
    first: Tensor
    second: Tensor


def nll(z: Tensor) -> Tensor:
    """Half the squared length of z (B, ...), for each sample (B,): -log N(z; 0, 1) without its constant."""
    return 0.5 * z.flatten(1).square().sum(1)


def unsupervised(z: Tensor, logdet: Tensor) -> Terms:
    """Negative log-likelihood of latents under the flow, without its constant.

    Arguments:
        z: (B, C, ...), the flow's result.
        logdet: (B,), log|dz/dx|.
    """
    terms = nll(z).mean(), -logdet.mean()
    return Terms(terms[0] + terms[1], *terms)


def shared(factor: Tensor, index: int) -> Tensor:
    """Which pairs share factor ``index``: a float mask (B,) of 0 and 1.

    Arguments:
        factor: (B,), integers. k >= 0: the pair shares factor k alone. -k < 0: it shares all but factor k. (All but
            factor 0 cannot be said.)
    """
    return ((factor == index) | ((factor < 0) & (factor != -index))).float()


def factor(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    first_logdet: Tensor,
    second_logdet: Tensor,
    factor: Tensor,
    rho: float = RHO,
) -> FactorTerms:
    """Negative log-likelihood of pairs whose shared factors correlate by ``rho``, without its constants.

    With the factor 1/2 of a Gaussian, as in the authors' code; the paper's equations leave it out.

    Arguments:
        first, second: the factors of the two images, (B, N_k, ...) each.
        first_logdet, second_logdet: (B,).
        factor: (B,), what the pairs share, see :func:`shared`.
        rho: in [0, 1).

    Raises:
        ValueError: for factors of different number, or rho outside [0, 1).
    """
    if len(first) != len(second):
        raise ValueError(f"factors: expected as many in both images, got {len(first)} and {len(second)}")
    if not 0 <= rho < 1:
        raise ValueError(f"rho: expected a number in [0, 1), got {rho}")
    alone = torch.stack([nll(z) for z in first]).sum(0).mean() - first_logdet.mean()
    given = -second_logdet.mean()
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        correlation = rho * shared(factor, index).to(a)
        apart = b.flatten(1) - correlation[:, None] * a.flatten(1)
        given = given + (nll(apart) / (1 - rho * correlation)).mean()
    return FactorTerms(alone + given, alone, given)
