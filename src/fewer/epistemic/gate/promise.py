"""Which predictions may be trusted, so that a promise is kept: risk control on held-out samples.

A sample is given out as it is where its score s is at most a threshold; it breaks the promise where, besides, its error is above
the bound. Over all samples this has the chance

    R(threshold) = P(s <= threshold, error > bound),    promised to be at most `share`,

which rises with the threshold. Of n held-out samples F(threshold) do so, and F ~ Binomial(n, R). With the largest f for which

    P(Binomial(n, share) <= f) <= 1 - confidence

the largest threshold with F <= f keeps the promise with that confidence, over draws of the held-out samples (Bates et al. 2021,
Distribution-free risk-controlling prediction sets, arXiv:2101.02703, theorem 1, with the exact bound of Clopper and Pearson 1934):
a threshold with R > share is chosen only where F <= f came out at the smallest of those. Where the best of several gates is chosen
that the same samples have set, each keeps its promise but for a chance of (1 - confidence) / their number, and so the best does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats
from torch import Tensor

from fewer.errors import InputError, whole


@dataclass(frozen=True)
class Promise:
    """At most a `share` of samples has an error above the bound, with a `confidence`.

    error       the bound on the root mean squared difference of a sample from the dear plan's of the same noise, in data units
    share       in (0, 1)
    confidence  in (0, 1)
    among       of how many gates this one is chosen by the samples that set its threshold
    """

    error: float
    share: float = 0.05
    confidence: float = 0.95
    among: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.error < math.inf:
            raise InputError(f"error is {self.error!r}; expected a number above 0, in the data's unit")
        for name, value in (("share", self.share), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise InputError(f"{name} is {value!r}; expected a number above 0 and below 1")
        whole("among", self.among)

    @property
    def least(self) -> int:
        """The fewest held-out samples by which anything can be promised: (1 - share)^n <= (1 - confidence) / among."""
        return math.ceil(math.log(self.chance) / math.log(1 - self.share))

    @property
    def chance(self) -> float:
        """That this gate breaks the promise: (1 - confidence) / among."""
        return (1 - self.confidence) / self.among

    def allowed(self, n: int) -> int:
        """f, of n held-out samples; -1 where they are too few."""
        f = int(stats.binom.ppf(self.chance, n, self.share))
        return f if stats.binom.cdf(f, n, self.share) <= self.chance else f - 1

    def check(self, n: int) -> int:
        """f, of n held-out samples. Raises InputError where they are too few."""
        if (allowed := self.allowed(n)) < 0:
            raise InputError(
                f"{n} held-out noises are too few to promise a share of {self.share:g} with confidence {self.confidence:g}: at "
                f"least {self.least} are needed"
            )
        return allowed

    def threshold(self, scores: Tensor, errors: Tensor) -> float:
        """The threshold from scores and errors (n,) of held-out samples: inf where all may be trusted, -inf where none may.

        Raises InputError for too few samples.
        """
        allowed = self.check(len(scores))
        broken = scores[errors > self.error].sort().values
        if len(broken) <= allowed:
            return math.inf
        below = scores[scores < broken[allowed]]
        return float(below.max()) if len(below) else -math.inf
