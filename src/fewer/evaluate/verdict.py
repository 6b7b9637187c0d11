"""Whether a candidate is as good as a baseline: the one decision, by paired error or by Frechet distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import Decision

Figure = Literal["error", "Frechet distance"]

WIDEST = 100.0  # times its low end that the high end of a ratio's interval around 1 may be and still say something

_NON_INFERIOR: dict[Decision, bool | None] = {"better": True, "not worse": True, "worse": False, "cannot tell": None}


@dataclass(frozen=True)
class Verdict:
    """Decision on a candidate compared with the baseline named `against`, with a non-inferiority `margin` (0.05 for 5 %).

    ratio   the candidate's `figure` over the baseline's; None where there is no such ratio: the baseline has no error, or
            the candidate's samples are not finite
    """

    against: str
    margin: float
    decision: Decision
    ratio: Interval | None
    figure: Figure = "error"

    @property
    def non_inferior(self) -> bool | None:
        """Whether the candidate is shown to be not worse; None where the samples do not tell."""
        return _NON_INFERIOR[self.decision]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has null where an interval has no end."""
        ratio = None if self.ratio is None else self.ratio.to_dict()
        return {"against": self.against, "margin": self.margin, "decision": self.decision, "ratio": ratio}


@dataclass(frozen=True)
class Side:
    """One side of a comparison: samples (m, *shape) from an evaluator's first m noises.

    stochastic  whether noise was added after the start, so that samples are not compared one by one
    """

    name: str
    samples: Tensor
    stochastic: bool = False


def decide(evaluator: Evaluator, candidate: Side, baseline: Side, margin: float) -> Verdict:
    """The candidate against the baseline: by paired error on the noises that both have, or by Frechet distance to the data
    (else to the reference solution) where either adds noise.

    A baseline without error is matched by a candidate without error only.
    """
    if candidate.stochastic or baseline.stochastic:
        ratio = distance_ratio(evaluator.frechet(candidate.samples), evaluator.frechet(baseline.samples))
        return Verdict(baseline.name, margin, paired.decide(ratio, margin), ratio, "Frechet distance")
    n = min(len(candidate.samples), len(baseline.samples))
    errors, of_baseline = (evaluator.errors(side.samples[:n]) for side in (candidate, baseline))
    if not of_baseline.any():
        return Verdict(baseline.name, margin, "worse" if errors.any() else "not worse", None)
    ratio = paired.ratio(errors, of_baseline)
    return Verdict(baseline.name, margin, paired.decide(ratio, margin), ratio)


def distance_ratio(a: Interval, b: Interval) -> Interval:
    """Frechet distance a over b, bounded by the ends of both intervals; without bound where b may be 0.

    Not paired: the samples share noises only at the start.
    """
    high = max(a.high, 0.0) / b.low if b.low > 0 else math.inf
    low = max(a.low, 0.0) / b.high if b.high > 0 else 0.0
    value = a.value / b.value if b.value > 0 else high
    return Interval(min(max(value, low), high), low, high, a.n)


def tells(ratio: Interval) -> bool:
    """Whether the interval of a ratio says anything: one around 1 that spans more than a factor of 100 does not."""
    return not ratio.low < 1 < ratio.high or ratio.high <= WIDEST * ratio.low


def of_ratio(ratio: Interval, name: str) -> str:
    """ "0.70 [0.64, 0.77] of that of NAME"; or that it cannot be told, where the interval says nothing."""
    if tells(ratio):
        return f"{ratio} of that of {name}"
    return f"not to be told from that of {name} (a few of {ratio.n} held-out noises carry nearly all of either)"
