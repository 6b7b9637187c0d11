"""The kernel distance between two samples of features."""

from __future__ import annotations

from torch import Tensor

from fewer.evaluate.distances.energy import discrepancy
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import part


@part("kid", title="Kernel distance of degree 3", source="Binkowski et al. 2018, arXiv:1801.01401")
def kid(x: Tensor, y: Tensor) -> Interval:
    """Squared maximum mean discrepancy of features x (n, d), y (m, d) under k(a, b) = (a . b / d + 1)^3, unbiased.

    It compares moments up to the third; its scale depends on the features'. Raises InputError below 8 samples
    and where all rows of y, the data, are equal.
    Source: Binkowski et al. 2018, Demystifying MMD GANs. Interval: see `fewer.evaluate.distances.energy.discrepancy`.
    """
    return discrepancy(x, y, lambda a, b: (a @ b.mT / a.shape[-1] + 1) ** 3)
