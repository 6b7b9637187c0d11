"""Arithmetic of batches (n, *shape): one number a sample, and what is computed sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) as (n, 1, .., 1), to be broadcast against samples `like` (n, *shape)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of each sample (n, 1, .., 1), summed in float64."""
    return per_sample((a.double() * b.double()).flatten(1).sum(1), a)


def norm(x: Tensor) -> Tensor:
    """|x| of each sample, (n, 1, .., 1), in x's dtype."""
    return per_sample(x.flatten(1).norm(dim=1), x)


def projected(a: Tensor, onto: Tensor) -> Tensor:
    """The part of a (n, *shape) along `onto`, sample by sample; 0 where that is 0."""
    return (inner(a, onto) / inner(onto, onto).clamp_min(1e-30)).to(onto) * onto


def quantile(x: Tensor, level: float, dim: int) -> Tensor:
    """The quantile of x along one axis, linear between values, as `torch.quantile`, which in some versions takes no more than
    2^24 numbers at once.
    """
    ordered, place = x.sort(dim).values, level * (x.shape[dim] - 1)
    below = int(place)
    low, high = ordered.select(dim, below), ordered.select(dim, min(below + 1, x.shape[dim] - 1))
    return torch.lerp(low, high, place - below)
