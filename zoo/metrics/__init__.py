"""Figures that say whether a translation works: densities, invertibility, kept classes, where the time goes."""

from zoo.metrics.density import gaussian_bits_per_dim, linear_gaussian_bits_per_dim
from zoo.metrics.invertibility import round_trip_error
from zoo.metrics.timing import TimeShares, conditioner_time_shares, conditioners
from zoo.metrics.translation import class_kept, share_not_fixed

__all__ = [
    "TimeShares",
    "class_kept",
    "conditioner_time_shares",
    "conditioners",
    "gaussian_bits_per_dim",
    "linear_gaussian_bits_per_dim",
    "round_trip_error",
    "share_not_fixed",
]
