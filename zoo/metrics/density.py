"""Gaussian baselines for a flow on latents, in the flow's unit: bits for each dimension."""

import math

import torch
from torch import Tensor


def gaussian_bits_per_dim(train: Tensor, held_out: Tensor) -> float:
    """What a full-covariance Gaussian fitted to ``train`` (N, D) needs for ``held_out`` (M, D).

    Raises:
        ValueError: with fewer than D + 1 training latents, whose covariance is singular.
    """
    train, held_out = train.double(), held_out.double()
    return _bits(train - train.mean(0), held_out - train.mean(0))


def linear_gaussian_bits_per_dim(
    train: Tensor, conditions: Tensor, held_out: Tensor, held_out_conditions: Tensor
) -> float:
    """The same for a Gaussian whose mean is the best linear function of the condition.

    Arguments:
        train, held_out: latents (N, D) and (M, D).
        conditions, held_out_conditions: (N, K) and (M, K).
    """
    train, held_out = train.double(), held_out.double()
    design, held_out_design = _with_ones(conditions), _with_ones(held_out_conditions)
    weights = torch.linalg.lstsq(design, train, driver="gelsd").solution
    return _bits(train - design @ weights, held_out - held_out_design @ weights)


def _bits(residuals: Tensor, held_out: Tensor) -> float:
    """Bits for each dimension of ``held_out`` under N(0, covariance of ``residuals``)."""
    count, dim = residuals.shape
    if count <= dim:
        raise ValueError(f"train: expected more than {dim} latents for a full covariance, got {count}")
    normal = torch.distributions.MultivariateNormal(residuals.new_zeros(dim), residuals.T @ residuals / (count - 1))
    return float(-normal.log_prob(held_out).mean()) / (dim * math.log(2))


def _with_ones(conditions: Tensor) -> Tensor:
    conditions = conditions.double()
    return torch.cat([conditions, conditions.new_ones(len(conditions), 1)], 1)
