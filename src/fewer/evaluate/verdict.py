"""Whether a candidate is as good as a baseline: the one decision.

Samples from the same noises are compared by two figures (`fewer.evaluate.statistics.endings`): the typical error of those that
end where the reference does under both, and the share that ends elsewhere. The ratio of RMSEs stands beside them, and so does
the difference of the energy distances to the reference, which notices where samples are near their references one by one and
differ from them all alike. Plans that add noise have no pairs and are compared by Frechet distance alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewer.evaluate.distances.energy import energy_difference
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import ALPHA, Endings, at_most
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import Decision

ERROR = "error"  # the figure of pairs

WIDEST = 100.0  # times its low end that the high end of a ratio's interval around 1 may be and still say something

MOST_NUMBERS = 2**24  # of the samples whose distribution is compared: fewer samples where they are large

_NON_INFERIOR: dict[Decision, bool | None] = {"better": True, "not worse": True, "worse": False, "cannot tell": None}


@dataclass(frozen=True)
class Verdict:
    """Decision on a candidate compared with the baseline named `against`, with a non-inferiority `margin` (0.05 for 5 %).

    ratio      the candidate's `figure` over the baseline's; None where there is no such ratio: the baseline has no error, hardly a
               sample ends where the reference does, the candidate's samples are not finite, or the baseline's figure
               is not shown to be above 0
    difference the candidate's figure less the baseline's, where plans are judged by one figure of all samples
               (`fewer.evaluate.by_figure`), which decides then
    elsewhere  share of its samples that end elsewhere less the baseline's, and `shares` these two; None without pairs
    alone      how many end elsewhere under it and not under the baseline; None without pairs
    rmse       ratio of RMSEs, which a few samples that end elsewhere decide
    farther    energy distance to the reference's samples less that of the baseline's, of as many as hold 2^24 numbers
    """

    against: str
    margin: float
    decision: Decision
    ratio: Interval | None
    figure: str = ERROR
    elsewhere: Interval | None = None
    shares: tuple[Interval, Interval] | None = None
    rmse: Interval | None = None
    farther: Interval | None = None
    difference: Interval | None = None
    alone: int | None = None

    @property
    def non_inferior(self) -> bool | None:
        """Whether the candidate is shown to be not worse; None where the samples do not tell."""
        return _NON_INFERIOR[self.decision]

    @property
    def worse_by_distribution(self) -> bool:
        """Whether its samples are clearly farther from the reference's as a whole, whatever the pairs say."""
        return self.farther is not None and self.farther.low > 0

    @property
    def settled_by_distribution(self) -> bool:
        """Whether it is not worse although the share of its samples that end elsewhere was not decided."""
        return self._open and bool(self.alone)

    @property
    def unseen(self) -> float | None:
        """The share of samples that may end elsewhere under it alone, more than the margin, where it is not worse since none of
        those that were played does; else None.
        """
        if not self._open or self.alone != 0 or self.elsewhere is None:
            return None
        share = at_most(self.elsewhere.n)
        return share if share > self.margin else None

    @property
    def _open(self) -> bool:
        """Whether it is not worse although the interval of the share that ends elsewhere is not below the margin."""
        return self.non_inferior is True and self.elsewhere is not None and self.elsewhere.high > self.margin

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has null where an interval has no end."""
        names = ("ratio", "elsewhere", "rmse", "farther", "difference")
        figures: dict[str, Interval | None] = {name: getattr(self, name) for name in names}
        found: dict[str, Any] = {
            "against": self.against, "margin": self.margin, "decision": self.decision, "figure": self.figure,
        }  # fmt: skip
        found |= {name: None if each is None else each.to_dict() for name, each in figures.items()}
        return found | {"shares": None if self.shares is None else [each.to_dict() for each in self.shares]}


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
    return of_pairs(evaluator, candidate.samples[:n], baseline.samples[:n], baseline.name, margin)


def of_pairs(
    evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, name: str, margin: float, alpha: float = ALPHA
) -> Verdict:
    """Samples (m, *shape) against a baseline's from the same first noises; a decision is wrong with chance `alpha` at most.

    A baseline without error is matched by a candidate without error only.
    """
    errors, theirs = evaluator.errors(samples), evaluator.errors(of_baseline)
    if not theirs.any():
        return Verdict(name, margin, "worse" if errors.any() else "not worse", None)
    found = evaluator.compared(samples, of_baseline, alpha)
    few = slice(max(paired.LEAST, MOST_NUMBERS // samples[0].numel()))
    farther = energy_difference(samples[few], of_baseline[few], evaluator.target[: len(samples)][few])
    return Verdict(
        name, margin, settled(found, margin, farther), found.error, elsewhere=found.elsewhere, shares=found.shares,
        rmse=paired.ratio(errors, theirs), farther=farther, alone=found.alone,
    )  # fmt: skip


def settled(found: Endings, margin: float, farther: Interval) -> Decision:
    """The decision by both figures on the last samples that there are. Where the share that ends elsewhere is all that is open,
    the error decides if nothing speaks against the candidate: if no sample ends elsewhere under it alone, or if no more of its
    samples do and they are clearly nearer to the reference's as a whole.

    What another image can harm is the distribution: a nearer one is not harmed. What none of n samples shows may be a share of
    1 - 0.05^(1 / n) (`Verdict.unseen`).
    """
    decision = found.decision(margin)
    if decision != "cannot tell" or found.error is None or found.by_share(margin) != decision:
        return decision
    nearer = found.elsewhere.value <= 0 and farther.high < 0
    return paired.decide(found.error, margin) if nearer or not found.alone else decision


def distance_ratio(a: Interval, b: Interval) -> Interval:
    """Frechet distance a over b, bounded by the ends of both intervals; without bound where b may be 0.

    Not paired: the samples share noises only at the start.
    """
    high = max(a.high, 0.0) / b.low if b.low > 0 else math.inf
    low = max(a.low, 0.0) / b.high if b.high > 0 else 0.0
    value = a.value / b.value if b.value > 0 else high
    return Interval(min(max(value, low), high), low, high, a.n)


def in_words(verdict: Verdict, baseline: str = "") -> str:
    """The figures of a verdict as a clause: what its error is of the baseline's, and how many samples end elsewhere.

    baseline  what the baseline is called there, by default its name
    """
    baseline = baseline or verdict.against
    if verdict.difference is not None:
        if verdict.ratio is not None and tells(verdict.ratio):
            return f"its {verdict.figure} is {of_ratio(verdict.ratio, baseline)}"
        return f"its {verdict.figure} less that of {baseline} is {verdict.difference}"
    if verdict.ratio is None and verdict.shares is None:
        return f"without error like {baseline}" if verdict.non_inferior else f"{baseline}, has no error, and it has"
    if verdict.ratio is None:
        said = f"hardly a sample ends where the reference does both under it and under {baseline}"
    else:
        said = f"its {verdict.figure} is {of_ratio(verdict.ratio, baseline)}"
    if verdict.shares is not None and any(share.value for share in verdict.shares):
        own, theirs = (f"{100 * share.value:.3g} %" for share in verdict.shares)
        said += f", and {own} of its samples end elsewhere, where {theirs} of the baseline's do"
    if verdict.settled_by_distribution:
        said += "; by energy distance its samples as a whole are nearer to the reference's"
    if verdict.unseen is not None and verdict.elsewhere is not None:
        said += f"; none of {verdict.elsewhere.n} ends elsewhere under it alone, so that at most {100 * verdict.unseen:.2g} % do"
    if verdict.worse_by_distribution and verdict.non_inferior:
        said += "; by energy distance its samples as a whole are farther from the reference's"
    return said


def tells(ratio: Interval) -> bool:
    """Whether the interval of a ratio says anything: one around 1 that spans more than a factor of 100 does not."""
    return not ratio.low < 1 < ratio.high or ratio.high <= WIDEST * ratio.low


def of_ratio(ratio: Interval, name: str) -> str:
    """ "0.70 [0.64, 0.77] of that of NAME"; or that it cannot be told, where the interval says nothing."""
    if tells(ratio):
        return f"{ratio} of that of {name}"
    return f"not to be told from that of {name} (a few of {ratio.n} held-out noises carry nearly all of either)"
