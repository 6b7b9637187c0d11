"""The outcome of a budget: the tuned plan against the best standard one on held-out noises, and which of them is taken.

The two race (`fewer.evaluate.statistics.racing`): both are played on the first held-out noises, and on
more of them, up to four times as many, only while neither is shown to be the better. The interval of the ratio is the
race's at the look that ended it. The intervals of all its looks hold the truth together with 95 % chance, so that this
one does, whatever it was that ended the race. Intervals of the qualities beside are those of a fixed number of noises.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from fewer.evaluate.evaluator import Evaluator, Played
from fewer.evaluate.own_pipeline import Pipeline
from fewer.evaluate.scoring import Quality
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.racing import race
from fewer.evaluate.statistics.seeds import SeedScan, seed_scan
from fewer.evaluate.verdict import Side, Verdict, decide
from fewer.plan import Plan
from fewer.results import Attribution, Contribution
from fewer.search.strategy import Candidate

LONGEST = 4  # times the first held-out noises
SEEDS, LEAST = 8, 8  # groups of noises, as of as many seeds, and how many noises each has at least
BASELINES = 3  # standard plans that are played on held-out noises


@dataclass(frozen=True)
class Recommendation(Verdict):
    """A verdict with what follows: `recommended` says whose plan is taken, `reason` why.

    `seeds` tells how the chosen plan's error differs between equal parts of the held-out noises, as between seeds.
    """

    recommended: str = field(kw_only=True)
    reason: str = field(kw_only=True)
    seeds: SeedScan | None = None

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        seeds = None if self.seeds is None else asdict(self.seeds)
        return super().to_dict() | {"recommended": self.recommended, "reason": self.reason, "seeds": seeds}


@dataclass(frozen=True)
class Measured:
    """A plan with its samples from the first held-out noises and their quality."""

    plan: Plan
    samples: Tensor
    quality: Quality


@dataclass(frozen=True)
class Outcome:
    """The outcome of one budget.

    chosen         the plan to use
    standards      the standard plans that were played on held-out noises: first the tuned plan's baseline, then by error
    searched       the chosen plan's error on the search's noises
    ranked         all standard plans by their errors on those, best first
    match          the comparison with the pipeline as it is, where a match was requested
    contributions  what freeing each column brought, and `attribution` which rows and blocks of the plan matter, where
                   rows may cost less than whole calls
    """

    nfe: int
    chosen: Measured
    standards: list[Measured]
    searched: float
    ranked: list[Candidate]
    verdict: Recommendation
    match: Recommendation | None = None
    contributions: tuple[Contribution, ...] = ()
    attribution: Attribution | None = None

    @property
    def plan(self) -> Plan:
        """The plan to use."""
        return self.chosen.plan


def judge_pair(
    evaluator: Evaluator, nfe: int, tuned: Candidate | None, ranked: list[Candidate], margin: float,
    guidance: float | None, first: int,
) -> Outcome:  # fmt: skip
    """The tuned plan against the best standard one; the latter is kept unless the former is 'not worse' or better.

    The baseline is the best on the `first` noises of the three standard plans that ranked best, which favours it. The race
    begins on these noises, and the evaluator must have up to four times as many.
    """
    standards = [Played.on(evaluator, candidate.plan, first) for candidate in ranked[:BASELINES]]
    best = min(standards, key=lambda played: float(played.errors(first).mean()))
    if tuned is not None and best.errors(first).any():
        moved = Played.on(evaluator, tuned.plan, first)
        verdict, n = _raced(moved, best, margin, first)
    else:
        reason = "nothing was free to move" if tuned is None else "it has no error that a search could lower"
        verdict, n = (
            Recommendation(best.plan.name, margin, "not worse", None, recommended="standard", reason=reason),
            first,
        )
    others = sorted((each for each in standards if each is not best), key=lambda each: float(each.errors(n).mean()))
    baselines = [_measured(each, n) for each in (best, *others)]
    if tuned is not None and verdict.recommended == "tuned":
        chosen, name, searched = _measured(moved, n), "tuned", tuned.error
    else:
        chosen, name = baselines[0], best.plan.name
        searched = next(candidate.error for candidate in ranked if candidate.plan.name == name)
    verdict = replace(verdict, seeds=luck(evaluator.errors(chosen.samples), margin))
    evidence: dict[str, Any] = {"quality": chosen.quality.to_dict(), "verdict": verdict.to_dict()}
    evidence |= {} if guidance is None else {"guidance": guidance}
    plan = replace(chosen.plan, name=f"{name} {nfe}", model=evaluator.model.signature, evidence=evidence)
    return Outcome(nfe, replace(chosen, plan=plan), baselines, searched, ranked, verdict)


def _measured(played: Played, n: int) -> Measured:
    """A plan on the first n noises, of which no more than n were played."""
    played.errors(n)  # plays those that are missing
    return Measured(played.plan, played.samples, played.evaluator.quality(played.samples))


def _raced(tuned: Played, best: Played, margin: float, first: int) -> tuple[Recommendation, int]:
    """The verdict of the race, and the noises that it took: from the first ones up to four times as many."""
    result = race(lambda at, n: (tuned.errors(n)[at:], best.errors(n)[at:]), margin, LONGEST * first, first)
    name = best.plan.name
    if result.decision in ("better", "not worse"):
        recommended, reason = "tuned", f"its error is {result.ratio} of that of {name}"
    else:
        recommended = "standard"
        reason = f"the tuned plan's error is {result.ratio} of that of {name}, not shown to be at most {1 + margin:g}"
    verdict = Recommendation(name, margin, result.decision, result.ratio, recommended=recommended, reason=reason)
    return verdict, result.ratio.n


def luck(errors: Tensor, margin: float) -> SeedScan | None:
    """The scan over 8 equal parts of the noises, each as good as a seed; None for fewer than 64, or parts without error."""
    parts = errors[: len(errors) // SEEDS * SEEDS].reshape(SEEDS, -1)
    if parts.shape[1] < LEAST or not parts.any(1).all() or margin >= 1:
        return None
    return seed_scan(parts, margin)


def of_luck(scan: SeedScan) -> str:
    """The scan in one sentence."""
    return (
        f"luck of the noises: on {scan.seeds} sets of {scan.samples} fresh noises the plan's error lay from {scan.best:.0%} "
        f"below to {scan.worst:.0%} above that of the middle set, so a difference of that size between two plans on one such "
        "set may be luck alone"
    )


def in_images(evaluator: Evaluator, outcome: Outcome) -> str | None:
    """For a model of latents, how the tuned plan compares with the standard one in decoded images, in one sentence."""
    if evaluator.image_errors is None or outcome.verdict.recommended != "tuned":
        return None
    own, baseline = (evaluator.image_errors(measured.samples) for measured in (outcome.chosen, outcome.standards[0]))
    if not baseline.any():
        return None
    ratio = paired.ratio(own, baseline)
    return (
        f"in {len(own)} decoded images the plan's error at {outcome.nfe} evaluations is {ratio} of that of "
        f"{outcome.standards[0].plan.name}"
    )


def matches(evaluator: Evaluator, outcome: Outcome, pipeline: Pipeline, margin: float) -> Recommendation:
    """The outcome's plan against the pipeline as it is."""
    plan = outcome.plan
    verdict = decide(evaluator, Side(plan.name, outcome.chosen.samples, plan.stochastic), pipeline, margin)
    reason = (
        f"at {outcome.nfe} evaluations its {verdict.figure} is {verdict.ratio} of that of {pipeline.name} "
        f"({pipeline.nfe} evaluations)"
    )
    recommended = "tuned" if verdict.non_inferior else "standard"
    return Recommendation(**vars(verdict), recommended=recommended, reason=reason)


def refusal(budget: str, verdict: Verdict) -> str | None:
    """A sentence where the best plan of a budget is not shown to keep the quality of the pipeline as it is; else None."""
    if verdict.non_inferior:
        return None
    shown = "keeps" if verdict.decision == "worse" else "is shown to keep"
    size = "above the pipeline's, which is 0" if verdict.ratio is None else f"{verdict.ratio} of the pipeline's"
    return (
        f"no plan of {budget} {shown} the quality of {verdict.against}: the {verdict.figure} of the best that was found is "
        f"{size}, and at most {1 + verdict.margin:g} was asked for"
    )
