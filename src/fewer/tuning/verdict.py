"""The comparison on fresh noise, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.plan import Plan
from fewer.tuning.baselines import Judge, Pipeline, distance_ratio
from fewer.tuning.study import Candidate


@dataclass(frozen=True)
class Verdict:
    """`ratio` is the plan's error over that of `against`; `recommended` says whose plan was taken, and why."""

    against: str
    margin: float
    decision: paired.Decision
    ratio: Interval | None
    recommended: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        ratio = None if self.ratio is None else self.ratio.to_dict()
        return {
            "against": self.against, "margin": self.margin, "decision": self.decision, "ratio": ratio,
            "recommended": self.recommended, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A plan with its samples and squared errors on fresh noise, and its quality as results.json has it."""

    plan: Plan
    samples: Tensor
    errors: Tensor
    quality: dict[str, Any]

    @classmethod
    def by(cls, judge: Judge, plan: Plan) -> Measured:
        """The plan played from the judge's noises."""
        samples = judge.samples(plan)
        return cls(plan, samples, judge.errors(samples), judge.quality(samples))


@dataclass(frozen=True)
class Outcome:
    """What one budget gave.

    `chosen` is the plan to use, `standards` the best standard plans, all on fresh noise, the best of them first.
    `searched` is the chosen plan's error on the search's own noises; `ranked` all standard plans on those, best first;
    `match` the comparison with the pipeline as it is, where that was asked for.
    """

    nfe: int
    chosen: Measured
    standards: list[Measured]
    searched: float
    ranked: list[Candidate]
    verdict: Verdict
    match: Verdict | None = None

    @property
    def plan(self) -> Plan:
        """The plan to use."""
        return self.chosen.plan


def judge_pair(
    judge: Judge, nfe: int, tuned: Candidate | None, ranked: list[Candidate], margin: float, guidance: float | None
) -> Outcome:
    """The tuned plan against the best standard one; the latter is kept unless the former is 'not worse' or better.

    The three standard plans that ranked best are measured, and the best of them on the fresh noise is taken, which
    favours it.
    """
    standards = [Measured.by(judge, candidate.plan) for candidate in ranked[:3]]
    standards.sort(key=lambda measured: float(measured.errors.mean()))
    best = standards[0]
    name = best.plan.name
    chosen, searched = best, next(c.error for c in ranked if c.plan.name == name)
    if tuned is None or not best.errors.any():
        why = "nothing was free to move" if tuned is None else "it has no error that a search could lower"
        verdict = Verdict(name, margin, "not worse", None, "standard", why)
    else:
        moved = Measured.by(judge, tuned.plan)
        ratio = paired.ratio(moved.errors, best.errors)
        decision = paired.decide(ratio, margin)
        if decision in ("better", "not worse"):
            reason = f"its error is {ratio} of that of {name}"
            verdict = Verdict(name, margin, decision, ratio, "tuned", reason)
            chosen, searched = moved, tuned.error
        else:
            reason = f"the tuned plan's error is {ratio} of that of {name}, not shown to be at most {1 + margin:g}"
            verdict = Verdict(name, margin, decision, ratio, "standard", reason)
    evidence = {"quality": chosen.quality, "verdict": verdict.to_dict(), "guidance": guidance}
    plan = replace(
        chosen.plan,
        name=f"{'tuned' if verdict.recommended == 'tuned' else name} {nfe}",
        model={"name": judge.model.name, "hash": judge.model.hash},
        evidence={key: value for key, value in evidence.items() if value is not None},
    )
    return Outcome(nfe, replace(chosen, plan=plan), standards, searched, ranked, verdict)


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
