"""Whether a translated image still shows what the condition says, and how much the condition leaves open."""

from torch import Tensor

from zoo.extras import require


def class_kept(labels: Tensor, predicted: Tensor, classes: int) -> float:
    """Share of translated images whose predicted class is that of their condition; both (N,) int64.

    Raises:
        ModuleNotFoundError: without torchmetrics.
    """
    require("torchmetrics")
    from torchmetrics.functional.classification import multiclass_accuracy

    return float(multiclass_accuracy(predicted, labels, classes, average="micro"))


def share_not_fixed(samples: Tensor) -> float:
    """Share of the variance of translated images that their condition does not explain (arXiv 2008.01777, section 4).

    Arguments:
        samples: (M, N, ...), M translations of each of N conditions.

    Returns:
        Variance within a condition over variance in all, both summed over pixels: 0 to 1.
    """
    flat = samples.flatten(2)
    within = flat.var(0, correction=0).mean(0).sum()
    total = flat.flatten(0, 1).var(0, correction=0).sum()
    return float(within / total)
