"""The comparison on fresh noise, and what it says.

A tuned plan and the best standard one race (`fewer.measures.racing`): both are played on the first fresh noises, and on
more of them, up to four times as many, only while neither is shown to be the better. The interval of the ratio is the
race's at the look that ended it. The intervals of all its looks hold the truth together with 95 % chance, so that this
one does, whatever it was that ended the race. Intervals of the qualities beside are those of a fixed number of noises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.measures.racing import race
from fewer.measures.seeds import SeedScan, seed_scan
from fewer.plan import Plan
from fewer.tuning.baselines import Judge, Pipeline, distance_ratio
from fewer.tuning.study import Candidate

LONGEST = 4  # times the first fresh noises
SEEDS, LEAST = 8, 8  # groups of noises, as of as many seeds, and how many noises each has at least
OPPONENTS = 3  # standard plans that are played on fresh noise


@dataclass(frozen=True)
class Verdict:
    """`ratio` is the plan's error over that of `against`; `recommended` says whose plan was taken, and why.

    `seeds` tells how the chosen plan's error differs between equal parts of the fresh noises, as between seeds.
    """

    against: str
    margin: float
    decision: paired.Decision
    ratio: Interval | None
    recommended: str
    reason: str
    seeds: SeedScan | None = None

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        ratio = None if self.ratio is None else self.ratio.to_dict()
        seeds = None if self.seeds is None else asdict(self.seeds)
        return {
            "against": self.against, "margin": self.margin, "decision": self.decision, "ratio": ratio,
            "recommended": self.recommended, "reason": self.reason, "seeds": seeds,
        }  # fmt: skip


@dataclass
class Played:
    """A plan on the judge's first noises, on more of them when they are asked for."""

    judge: Judge
    plan: Plan
    samples: Tensor

    @classmethod
    def on(cls, judge: Judge, plan: Plan, n: int) -> Played:
        """The plan on the first n noises."""
        return cls(judge, plan, judge.samples(plan, last=n))

    def errors(self, n: int) -> Tensor:
        """Squared errors (n,) on the first n noises, playing what has not been played."""
        have = len(self.samples)
        if have < n:
            self.samples = torch.cat([self.samples, self.judge.samples(self.plan, have, n)])
        return self.judge.errors(self.samples[:n])

    def measured(self, n: int) -> Measured:
        """With its quality on the first n noises."""
        errors = self.errors(n)
        return Measured(self.plan, self.samples, errors, self.judge.quality(self.samples))


@dataclass(frozen=True)
class Measured:
    """A plan with its samples and squared errors on fresh noise, and its quality as results.json has it."""

    plan: Plan
    samples: Tensor
    errors: Tensor
    quality: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What one budget gave.

    `chosen` is the plan to use, `standards` the standard plans that were played on fresh noise, first the one that the
    tuned plan was held against, then by error. `searched` is the chosen plan's error on the search's own noises; `ranked`
    all standard plans on those, best first; `match` the comparison with the pipeline as it is, where that was asked for.
    Where blocks were free too, `contributions` tell what freeing each column brought, and `attribution` which rows and blocks
    of the plan matter, both as results.json has them.
    """

    nfe: int
    chosen: Measured
    standards: list[Measured]
    searched: float
    ranked: list[Candidate]
    verdict: Verdict
    match: Verdict | None = None
    contributions: tuple[dict[str, Any], ...] = ()
    attribution: dict[str, Any] | None = None

    @property
    def plan(self) -> Plan:
        """The plan to use."""
        return self.chosen.plan


def judge_pair(
    judge: Judge, nfe: int, tuned: Candidate | None, ranked: list[Candidate], margin: float, guidance: float | None,
    fresh: int, more: Callable[[int], None],
) -> Outcome:  # fmt: skip
    """The tuned plan against the best standard one; the latter is kept unless the former is 'not worse' or better.

    The opponent is the best on the first `fresh` noises of the three standard plans that ranked best, which favours it.
    `more(n)` brings the judge's noises to n where the race needs that many; at most 4 `fresh` are asked for.
    """
    standards = [Played.on(judge, candidate.plan, fresh) for candidate in ranked[:OPPONENTS]]
    best = min(standards, key=lambda played: float(played.errors(fresh).mean()))
    name = best.plan.name
    chosen, searched, n = best, next(c.error for c in ranked if c.plan.name == name), fresh
    if tuned is None or not best.errors(fresh).any():
        why = "nothing was free to move" if tuned is None else "it has no error that a search could lower"
        verdict = Verdict(name, margin, "not worse", None, "standard", why)
    else:
        moved = Played.on(judge, tuned.plan, fresh)

        def draw(first: int, last: int) -> tuple[Tensor, Tensor]:
            if last > len(judge.noise):
                more(last)
            return moved.errors(last)[first:], best.errors(last)[first:]

        found = race(draw, margin, LONGEST * fresh, fresh)
        n, ratio = found.samples, found.ratio
        if found.decision in ("better", "not worse"):
            verdict = Verdict(name, margin, found.decision, ratio, "tuned", f"its error is {ratio} of that of {name}")
            chosen, searched = moved, tuned.error
        else:
            reason = f"the tuned plan's error is {ratio} of that of {name}, not shown to be at most {1 + margin:g}"
            verdict = Verdict(name, margin, found.decision, ratio, "standard", reason)
    others = sorted(
        (played.measured(n) for played in standards if played is not best), key=lambda m: float(m.errors.mean())
    )
    against = best.measured(n)
    taken = against if chosen is best else chosen.measured(n)
    verdict = replace(verdict, seeds=luck(taken.errors, margin))
    evidence = {"quality": taken.quality, "verdict": verdict.to_dict(), "guidance": guidance}
    plan = replace(
        taken.plan,
        name=f"{'tuned' if verdict.recommended == 'tuned' else name} {nfe}",
        model=judge.model.signature,
        evidence={key: value for key, value in evidence.items() if value is not None},
    )
    return Outcome(nfe, replace(taken, plan=plan), [against, *others], searched, ranked, verdict)


def luck(errors: Tensor, margin: float) -> SeedScan | None:
    """The scan over 8 equal parts of the noises, each as good as a seed; None for fewer than 64, or parts without error."""
    parts = errors[: len(errors) // SEEDS * SEEDS].reshape(SEEDS, -1)
    if parts.shape[1] < LEAST or not parts.any(1).all() or margin >= 1:
        return None
    return seed_scan(parts, margin)


def of_luck(scan: SeedScan) -> str:
    """What the scan says, in one sentence."""
    return (
        f"over {scan.seeds} sets of {scan.samples} fresh noises the plan's error goes from {scan.best:.0%} below to "
        f"{scan.worst:.0%} above the median set's: a difference of that size on one such set tells nothing"
    )


def in_images(judge: Judge, outcome: Outcome) -> str | None:
    """For a model of latents, how the tuned plan compares with the standard one in decoded images, in one sentence."""
    if judge.image_errors is None or outcome.verdict.recommended != "tuned":
        return None
    own, theirs = (judge.image_errors(measured.samples) for measured in (outcome.chosen, outcome.standards[0]))
    if not theirs.any():
        return None
    ratio = paired.ratio(own, theirs)
    return (
        f"in {len(own)} decoded images the plan's error at {outcome.nfe} evaluations is {ratio} of that of "
        f"{outcome.standards[0].plan.name}"
    )


def matches(judge: Judge, outcome: Outcome, pipeline: Pipeline, margin: float) -> Verdict:
    """The outcome's plan against the pipeline as it is: paired, or by Frechet distance where that adds noise."""
    n = len(pipeline.samples)
    if not pipeline.stochastic:
        ratio = paired.ratio(outcome.chosen.errors[:n], judge.errors(pipeline.samples))
        what = "error"
    else:
        own = judge.quality(outcome.chosen.samples, paired_too=False)["fd"]
        ratio = distance_ratio(own, judge.quality(pipeline.samples, paired_too=False)["fd"])
        what = "Frechet distance"
    decision = paired.decide(ratio, margin)
    reason = (
        f"at {outcome.nfe} evaluations its {what} is {ratio} of that of {pipeline.name} ({pipeline.nfe} evaluations)"
    )
    taken = "tuned" if decision in ("better", "not worse") else "standard"
    return Verdict(pipeline.name, margin, decision, ratio, taken, reason)
