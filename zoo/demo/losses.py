"""The experts' losses as plain functions; the flow's is its own bits per dimension."""

from torch import Tensor
from torch.nn import functional as F


def classification(logits: Tensor, labels: Tensor, smoothing: float = 0.05) -> Tensor:
    """Cross-entropy in nats with smoothed labels; logits (B, 10), labels (B,)."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def evidence(reconstruction: Tensor, images: Tensor, mean: Tensor, deviation: Tensor, prior_weight: float) -> Tensor:
    """Squared error a sample plus the weighted KL divergence of the posterior from N(0, 1) (arXiv 1312.6114, eq. 10).

    Arguments:
        reconstruction, images: (B, 1, 8, 8) in [-1, 1].
        mean, deviation: (B, D), of the posterior.
    """
    error = (reconstruction - images).square().flatten(1).sum(1)
    return (error + prior_weight * divergence(mean, deviation)).mean()


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """KL divergence (B,) of N(mean, deviation^2), (B, D) each, from N(0, 1)."""
    return 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.clamp(min=1e-6).log()).sum(1)
