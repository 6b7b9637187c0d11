"""The outcome of a budget: which plan is taken (`fewer.search.choice`), its figures, and how it compares with the pipeline."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.own_pipeline import Pipeline
from fewer.evaluate.scoring import Quality
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.seeds import SeedScan, seed_scan
from fewer.evaluate.verdict import Side, Verdict, in_words
from fewer.plan import Plan
from fewer.results import Attribution, Contribution
from fewer.search.strategy import Candidate

SEEDS, LEAST = 8, 8  # groups of noises, as of as many seeds, and how many noises each has at least


Within = Literal["yes", "no", "cannot tell"]


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
    standards      the other plans that were played on held-out noises: first the tuned plan's baseline, then by error
    searched       the chosen plan's score on the search's noises
    ranked         all standard plans by their errors on those, best first
    match          the comparison with the pipeline as it is, where a match was requested
    contributions  what freeing each column brought, and `attribution` which rows and blocks of the plan matter, where
                   rows may cost less than whole calls
    ms             milliseconds per sample, clocked where the budget is in these, whether they are `within` it, and what was
                   `predicted_ms`
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
    ms: Interval | None = None
    predicted_ms: float | None = None
    within: Within | None = None

    @property
    def plan(self) -> Plan:
        """The plan to use."""
        return self.chosen.plan


def luck(errors: Tensor, margin: float) -> SeedScan | None:
    """The scan over 8 equal parts of the noises, each as good as a seed; None for fewer than 64, or parts without error."""
    parts = errors[: len(errors) // SEEDS * SEEDS].reshape(SEEDS, -1)
    if parts.shape[1] < LEAST or not parts.any(1).all() or margin >= 1:
        return None
    return seed_scan(parts, margin)


def of_luck(scan: SeedScan) -> str:
    """The scan in one sentence."""
    return (
        f"luck of the noises: on {scan.seeds} sets of {scan.samples} held-out noises the plan's error lay from {scan.best:.0%} "
        f"below to {scan.worst:.0%} above that of the middle set, so a difference of that size between two plans on one such "
        "set may be luck alone"
    )


def in_images(evaluator: Evaluator, outcome: Outcome) -> str | None:
    """For a model of latents, how the tuned plan compares with the standard one in decoded images, in one sentence."""
    if evaluator.image_errors is None or outcome.verdict.recommended != "tuned":
        return None
    if outcome.plan.stochastic or outcome.standards[0].plan.stochastic:  # whose errors are not of pairs
        return None
    own, baseline = (evaluator.image_errors(measured.samples) for measured in (outcome.chosen, outcome.standards[0]))
    if not baseline.any():
        return None
    ratio = paired.ratio(own, baseline)
    return (
        f"in {len(own)} decoded images the plan's error at {outcome.nfe} evaluations is {ratio} of that of "
        f"{outcome.standards[0].plan.name}"
    )


def matches(
    evaluator: Evaluator, outcome: Outcome, pipeline: Pipeline, margin: float, by: Criterion = PAIRED
) -> Recommendation:
    """The outcome's plan against the pipeline as it is."""
    plan = outcome.plan
    verdict = by.decide(evaluator, Side(plan.name, outcome.chosen.samples, plan.stochastic), pipeline, margin)
    reason = f"at {outcome.nfe} evaluations {in_words(verdict, f'{pipeline.name} ({pipeline.nfe} evaluations)')}"
    recommended = "tuned" if verdict.non_inferior else "standard"
    return Recommendation(**vars(verdict), recommended=recommended, reason=reason)


def refusal(budget: str, verdict: Verdict) -> str | None:
    """A sentence where the best plan of a budget is not shown to keep the quality of the pipeline as it is; else None."""
    if verdict.non_inferior:
        return None
    shown = "keeps" if verdict.decision == "worse" else "is shown to keep"
    return (
        f"no plan of {budget} {shown} the quality of {verdict.against}: of the best that was found, {in_words(verdict)}; at most "
        f"{verdict.margin:.3g} worse was asked for"
    )
