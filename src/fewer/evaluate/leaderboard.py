"""A leaderboard of plans, the standard samplers and the pipeline as it is, on one model and the same noises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_counts, as_model, as_number, as_number_or_none, as_plans
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, NotFinite
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.distilled_board import DistilledComparison
from fewer.evaluate.equal_cost import EqualCost, PlanVerdict, costs_partial_calls
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Features
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.many_steps import many_step_evaluations
from fewer.evaluate.measure import reference_guidance
from fewer.evaluate.own_pipeline import pipeline_noises, pipeline_rows
from fewer.evaluate.probability_flow.likelihood import flow_nll
from fewer.evaluate.reference import PROBE, Doubling, usual_evaluations
from fewer.evaluate.scoring import DISTANCES, Quality, Scored, Scoring, scoring_of
from fewer.evaluate.verdict import Side, Verdict, decide
from fewer.integrations.as_it_is import guidance_notes, own_evaluations
from fewer.markup import joined, paragraph, table
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.samplers import renoising_plans, rows_for, standard_plans
from fewer.transfer import transferred

STANDARD_BASELINES = ("ddim logsnr", "dpmpp-2m logsnr", "unipc logsnr")  # standard plans that run on any model
SHARE = 0.3  # of the best standard plan's error that a given plan may have

TOP = 8  # standard plans of a budget that a short table shows
TYPICAL = "typical_error"
PAIRED = (TYPICAL, "elsewhere", "paired_rmse")  # figures of samples from the same noises

Progress = Callable[[str, int, int | None], Any]


@dataclass(frozen=True)
class Leaderboard(Mapping[str, Any]):
    """The result of `compare`: rows by evaluations, and among as many evaluations the best by the figure `sort` first.

    model      description of the model, and `reference` evaluations and error of the reference solution
    rows       one of each standard plan, each given plan, and the pipeline as it is
    plans      verdict of each given plan
    features   records of the features that distances are on, by name; `quality` of what no plan changes
    notes      sentences for the user

    It is also a mapping with the keys of `to_dict`, as `fewer compare --json` writes them.
    """

    model: dict[str, Any]
    reference: dict[str, Any]
    rows: tuple[Scored, ...]
    plans: tuple[PlanVerdict, ...] = ()
    sort: str = TYPICAL
    features: dict[str, Any] = field(default_factory=dict)
    quality: Quality = field(default_factory=Quality)
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> list[str]:
        """Names of the figures that rows have, the one they are sorted by first."""
        found = dict.fromkeys(name for row in self.rows for name in row.quality.figures)
        order = (self.sort, *PAIRED)
        return sorted(found, key=lambda name: order.index(name) if name in order else len(order))

    def top(self, most: int = TOP) -> tuple[list[Scored], dict[int, tuple[int, int]]]:
        """The rows with at most so many standard plans of a budget, and how many of how many these are, by budget."""
        shown: list[Scored] = []
        counts: dict[int, tuple[int, int]] = {}
        for row in self.rows:
            if row.kind == "standard":
                kept, known = counts.get(row.nfe, (0, 0))
                counts[row.nfe] = min(kept + 1, most), known + 1
                if known >= most:
                    continue
            shown.append(row)
        return shown, counts

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model, "reference": self.reference, "features": self.features, "quality": self.quality.to_dict(),
            "sort": self.sort, "rows": [row.to_dict() for row in self.rows],
            "plans": [verdict.to_dict() for verdict in self.plans], "notes": list(self.notes),
        }  # fmt: skip

    @cached_property
    def _content(self) -> dict[str, Any]:
        return self.to_dict()

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        counted = ", ".join(str(nfe) for nfe in sorted({row.nfe for row in self.rows}))
        return f"Leaderboard({self.model['name']}: {len(self.rows)} samplers at {counted} evaluations, by {self.sort})"

    def _repr_html_(self) -> str:
        """The short table, for notebooks."""
        rows, counts = self.top()
        names = self.figures
        figures = ([row.quality.figures.get(name, "–") for name in names] for row in rows)
        body = [[row.name, row.nfe, *cells] for row, cells in zip(rows, figures, strict=True)]
        said = [*(str(verdict) for verdict in self.plans), *map(shown_of, counts.items()), *self.notes]
        return joined([table(["plan", "nfe", *names], body), *map(paragraph, said)])


def shown_of(counted: tuple[int, tuple[int, int]]) -> str:
    """How many of the standard plans of a budget a short table shows: an entry of what `Leaderboard.top` counts."""
    nfe, (shown, known) = counted
    return f"{nfe} evaluations: {shown} of {known} standard plans"


@in_own_precision
def compare(
    model: Model,
    nfe: int | Sequence[int],
    plans: Sequence[Plan] = (),
    *,
    data: Tensor | None = None,
    guidance: float | None = None,
    n: int = 128,
    margin: float = 0.05,
    seed: int = 0,
    batch: int | None = None,
    features: Features | None = None,
    metric: OwnMetric | None = None,
    nll: bool = False,
    sort: str | None = None,
    progress: Progress | None = None,
) -> Leaderboard:
    """Errors to the reference solution (and distances to `data`) of everything, each with its 95 % interval.

    guidance  scale of classifier-free guidance; by default the one that the given plans were made for
    features  that the distances to `data` are on, instead of its principal components
    metric    one more figure of each, against `data` or else the reference solution
    nll       also the negative log-likelihood of `data` under the model's own flow, which no plan changes
    sort      figure whose best values come first among as many evaluations (the lowest, but for a metric that is higher where
              better): by default the metric, else the typical error

    Returns a `Leaderboard`, a mapping with "model", "reference", "features", "quality", "sort", "rows", "plans" and "notes":
    `features` says by name what distances are on, `quality` holds what no plan changes (`nll`, nats per dimension, where
    asked for), `plans` has the verdict of each given plan against the best standard plan, by typical error, of the same
    number of evaluations: does it hold here? Plans that leave out blocks, or call a second network, are compared with as many
    evaluations of the whole network as their multiply-adds pay for, rounded down (`fewer.evaluate.equal_cost`).
    A pipeline is a row at its own number of steps and at each of `nfe`, by its own scheduler.
    Plans of a distilled model are compared by the energy distance to many-step samples (`fewer.evaluate.many_steps`), and the rows
    are its samplers; other plans that add noise are compared by Frechet distance. A standard plan that gives no finite samples is
    left out, and noted; a given one does not hold. Plans made for another model are played as `fewer.transfer.transferred` says.

    Raises InputError for options that do not go together, and for plans that cannot be played on this model.
    """
    model, plans, nfe = as_model(model), as_plans(plans), as_counts(nfe, "nfe")
    n, seed, margin = as_count(n, "n", 8), as_count(seed, "seed", 0), as_number(margin, "margin")
    batch, guidance = as_count_or_none(batch, "batch"), as_number_or_none(guidance, "guidance")
    if not 0 <= margin < 10:
        raise InputError(f"margin is {margin}; expected a share such as 0.05")
    scoring = scoring_of(model, data, features, metric)
    scoring.check(n)
    sort = _sorting(model, scoring, sort)
    higher = scoring.metric is not None and scoring.metric.higher and sort == scoring.metric.name
    report = progress or (lambda stage, done, total: None)
    plans, notes, costs = _transferred(model, plans)
    own = Quality()
    if nll:  # first: it may be refused, and what follows takes long
        if data is None:
            raise InputError("nll is the likelihood of data, and data is missing")
        report("likelihood of the data", 0, None)
        own = Quality({"nll": flow_nll(model, data, batch=batch or MICRO_BATCH).nats()})
    guidance = _guidance_of(plans) if guidance is None else guidance
    notes += guidance_notes(model, guidance, nfe)
    budgets = sorted({*nfe, *(cost.nfe for cost in costs)})
    rows_for(model, budgets[0], guidance)  # which says why a model cannot be guided
    size = MICRO_BATCH if batch is None else batch
    if model.distilled is not None:
        comparison = DistilledComparison(model, n, seed, size, guidance, scoring, lambda stage: report(stage, 0, None))
        found = comparison.board(budgets, plans, costs, margin)
        pairs = zip(plans, costs, found.verdicts, strict=True)
        return Leaderboard(
            model.describe(), found.reference, tuple(sorted(found.rows, key=lambda row: (row.nfe, _size(row, "energy")))),
            tuple(PlanVerdict(plan, model, cost, verdict, finite=finite) for plan, cost, (verdict, finite) in pairs),
            "energy", {}, own, (*notes, found.note),
        )  # fmt: skip
    standards = {budget: standard_plans(model, budget, guidance) for budget in budgets}
    noises = Evaluator(model, held_out_noise(model, n, seed), model.labels(n), batch=size, scoring=scoring)
    evaluator = _with_reference(noises, standards[budgets[-1]], guidance, report)
    rows, best = _standard_rows(evaluator, standards, report, notes)
    verdicts = []
    for plan, cost in zip(plans, costs, strict=True):
        report(f"plan {plan.name}", 0, None)
        quality, verdict = _compared(evaluator, plan, best[cost.nfe], margin)
        rows.append(Scored(plan.name, "plan", plan.nfe, quality or Quality(), calls=cost.calls))
        verdicts.append(PlanVerdict(plan, model, cost, verdict, finite=quality is not None))
    report("the pipeline as it is", 0, None)
    rows += pipeline_rows(evaluator, (None, *budgets), guidance, seed, notes)
    reference = evaluator.reference
    assert reference is not None  # the evaluator was made with one
    return Leaderboard(
        model.describe(), {"nfe": reference.nfe, "error": reference.error},
        tuple(sorted(rows, key=lambda row: (row.nfe, _size(row, sort, higher), _size(row, TYPICAL)))), tuple(verdicts), sort,
        evaluator.described, own, tuple(notes),
    )  # fmt: skip


def leaderboard_evaluations(
    model: Model, nfe: Sequence[int], plans: Sequence[Plan], guidance: float | None, n: int
) -> dict[str, int]:
    """Network evaluations that `compare` takes, by what makes them; those of the reference solution as they usually are."""
    guidance = _guidance_of(plans) if guidance is None else guidance
    if model.distilled is not None:
        budgets = sorted({*nfe, *(plan.nfe for plan in plans)})
        made = {
            "many-step samples": many_step_evaluations(model.distilled, n, guidance),
            "standard plans": n * sum(budget * len(renoising_plans(model, budget, guidance)) for budget in budgets),
            "given plans": n * sum(plan.nfe for plan in plans) + n * model.distilled.calls,
        }
        return {what: count for what, count in made.items() if count}
    budgets = sorted({*nfe, *(EqualCost.of(model, plan).nfe for plan in plans)})
    probe = min(n, PROBE)
    counts = {budget: len(standard_plans(model, budget, guidance)) for budget in budgets}
    made = {
        "reference solution": usual_evaluations(n, probe, guidance) + len(STANDARD_BASELINES) * probe * budgets[-1],
        "standard plans": n * sum(budget * count for budget, count in counts.items()),
        "given plans": n * sum(plan.nfe for plan in plans),
    }
    if model.pipeline is not None:
        own = (own_evaluations(model, guidance), *budgets)
        made["the pipeline as it is"] = sum(each * pipeline_noises(n, each) for each in own)
    return {what: count for what, count in made.items() if count}


def _size(row: Scored, name: str, higher: bool = False) -> float:
    """A figure of a row, negated where higher is better; infinite where it has none."""
    figure = row.quality.figures.get(name)
    return math.inf if figure is None else -figure.value if higher else figure.value


def _sorting(model: Model, scoring: Scoring, sort: str | None) -> str:
    """The figure to sort by. Raises InputError for one that rows do not have."""
    known = [*PAIRED] if scoring.metric is None else [scoring.metric.name, *PAIRED]
    if model.decode is not None:
        known.append("paired_rmse_images")
    if scoring.data is not None:
        known += DISTANCES
    if sort is not None and sort not in known:
        raise InputError(f"sort is {sort!r}; the figures of this leaderboard are {', '.join(known)}")
    return sort or known[0]


def _standard_rows(
    evaluator: Evaluator, standards: Mapping[int, list[Plan]], report: Progress, notes: list[str]
) -> tuple[list[Scored], dict[int, Side]]:
    """Every standard plan, scored, and at each budget the one of least typical error; those not finite are noted."""
    rows: list[Scored] = []
    best: dict[int, tuple[float, Side]] = {}
    total, done = sum(map(len, standards.values())), 0
    for budget, plans in standards.items():
        for plan in plans:
            done += 1
            report("standard plans", done, total)
            try:
                samples = evaluator.samples(plan)
            except InputError as error:
                notes.append(f"{error}; it is left out")
                continue
            quality = evaluator.quality(samples)
            size = quality.figures[TYPICAL].value
            if budget not in best or size < best[budget][0]:
                best[budget] = size, Side(plan.name, samples)
            rows.append(Scored(plan.name, "standard", plan.nfe, quality))
        if budget not in best:
            raise InputError(f"no standard plan of {budget} evaluations gives finite samples of {evaluator.model.name}")
    return rows, {budget: side for budget, (_, side) in best.items()}


def _guidance_of(plans: Sequence[Plan]) -> float | None:
    """The one guidance scale that plans were made for."""
    scales = {reference_guidance(plan) for plan in plans} or {None}
    if len(scales) > 1:
        given = ", ".join(f"{plan.name!r} {reference_guidance(plan)}" for plan in plans)
        raise InputError(f"guidance is missing: the plans were made for different scales ({given})")
    return scales.pop()


def _with_reference(noises: Evaluator, plans: list[Plan], guidance: float | None, report: Progress) -> Evaluator:
    """The noises with a reference solution, as fine as the best of the largest budget's standard plans requires."""
    if not plans:
        raise InputError("no standard plan can be made for this number of network evaluations")
    few = noises.first(PROBE)
    baselines = [plan for plan in plans if plan.name in STANDARD_BASELINES] or plans[:1]
    return noises.with_reference(
        [few.samples(plan) for plan in baselines], guidance=guidance, doubling=Doubling(improved=SHARE),
        progress=lambda stage: report(stage, 0, None),
    )  # fmt: skip


def _transferred(model: Model, plans: Sequence[Plan]) -> tuple[list[Plan], list[str], list[EqualCost]]:
    """The given plans as this model plays them, notes for the user, and the cost of each plan's baselines."""
    pairs = [transferred(model, plan) for plan in plans]
    played, notes = [plan for plan, _ in pairs], [note for _, remarks in pairs for note in remarks]
    costs = [EqualCost.of(model, plan) for plan in played]
    for plan, cost in zip(played, costs, strict=True):
        if costs_partial_calls(plan) and cost.macs is None:
            notes.append(
                f"torch counts no multiply-adds in {model.name}: {plan.name} is held against as many whole evaluations"
            )
    return played, notes, costs


def _compared(evaluator: Evaluator, plan: Plan, best: Side, margin: float) -> tuple[Quality | None, Verdict]:
    """A given plan's quality, and how it stands against the best standard plan; no quality where samples are not finite."""
    try:
        samples = evaluator.samples(plan)
    except NotFinite:
        return None, Verdict(best.name, margin, "worse", None)
    verdict = decide(evaluator, Side(plan.name, samples, plan.stochastic), best, margin)
    return evaluator.quality(samples, pairs=not plan.stochastic), verdict
