"""Checks and interval that the squared distances between two samples of features share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval

Z = 1.959964  # the standard normal's 97.5 % quantile


def two_samples(x: Tensor, y: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """x (n, d) and y (m, d) as float64 on x's device; raises InputError unless n, m >= least, d >= 1 and all is finite."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"x and y must be features (n, d) and (m, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.shape[1] == 0:
        raise InputError(
            f"x and y must be features of at least one dimension, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    for name, sample in (("x", x), ("y", y)):
        if len(sample) < least:
            raise InputError(
                f"{name} has {len(sample)} samples; this distance in {x.shape[1]} dimensions needs {least}"
            )
        if not sample.isfinite().all():
            raise InputError(f"{name} holds features that are not finite")
    return x.detach().to(torch.float64), y.detach().to(x.device, torch.float64)


def check_varies(z: Tensor, name: str) -> None:
    """InputError, which calls z (n, d) by its name, where all its rows are equal: most often features of nothing."""
    if (z == z[0]).all():
        raise InputError(f"{name} must hold rows that differ, got {len(z)} equal ones")


def covariance(z: Tensor) -> Tensor:
    """The unbiased covariance (d, d) of rows z (n, d)."""
    centred = z - z.mean(0)
    return centred.T @ centred / (len(z) - 1)


def around_squared(unbiased: Tensor, plugin: Tensor, variance: Tensor, n: int, z: float = Z) -> Interval:
    """95 % interval of a squared distance: symmetric for the distance itself, then moved by the bias of its square.

    With r = sqrt(plugin) and se = sqrt(variance) / (2 r): [max(r - z se, 0)^2, (r + z se)^2] - (plugin - unbiased), z = 1.96
    unless the interval is to have another level.
    Near distance 0 a squared distance is skewed, and its estimated variance is smallest where the estimate is lowest:
    an interval symmetric about it misses upwards. low and value may be negative: then 0 is not excluded.
    """
    value, spread = unbiased.item(), z * math.sqrt(variance.item())
    if plugin <= 0:
        return Interval(value, value - spread, value + spread, n)
    r = math.sqrt(plugin.item())
    reach, bias = spread / (2 * r), r**2 - value
    return Interval(value, max(r - reach, 0) ** 2 - bias, (r + reach) ** 2 - bias, n)
