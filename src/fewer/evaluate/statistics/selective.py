"""What a score of doubt is good for: does it find the bad samples, and what is left when the doubtful ones are dropped?"""

from __future__ import annotations

from torch import Tensor

from fewer.errors import InputError


def auroc(score: Tensor, bad: Tensor) -> float:
    """The chance that a bad sample has a higher score than a good one, ties counting half (Mann & Whitney 1947).

    score  (n,)
    bad    (n,) bool

    0.5 for a score that knows nothing. Raises InputError where all samples are bad, or none is.
    """
    if not bool(bad.any()) or bool(bad.all()):
        raise InputError(
            f"{int(bad.sum())} of {len(bad)} samples are bad; a score is judged where some are, and some are not"
        )
    _, which, counts = score.double().unique(return_inverse=True, return_counts=True)
    ranks = counts.double().cumsum(0) - (counts.double() - 1) / 2  # of equal scores their mean
    n, m = int(bad.sum()), int((~bad).sum())
    return float((ranks[which][bad].sum() - n * (n + 1) / 2) / (n * m))


def selective_risk(score: Tensor, bad: Tensor, kept: float) -> float:
    """The share of bad samples (n,) among those that are kept: the share `kept` in (0, 1] with the lowest scores (n,)."""
    if not 0 < kept <= 1:
        raise InputError(f"kept is {kept}; expected a share in (0, 1]")
    lowest = score.argsort(stable=True)[: max(1, round(kept * len(score)))]
    return float(bad[lowest].double().mean())
