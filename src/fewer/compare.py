"""A leaderboard of plans, the standard samplers and the pipeline as it is, on one model and the same noises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewer.engine import MICRO_BATCH, sample
from fewer.errors import InputError, NotFinite
from fewer.integrations.as_it_is import untold_guidance
from fewer.measures import paired
from fewer.measures.features import Features
from fewer.measures.interval import Interval
from fewer.measures.likelihood import flow_nll
from fewer.measures.measure import asked_guidance, squared_errors
from fewer.measures.own_metric import OwnMetric
from fewer.measures.reference import fine_solution
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.rivals import Held, Worth, cheapened
from fewer.transfer import transferred
from fewer.tuning.baselines import Judge, Scoring, distance_ratio, fresh_noise, pipeline_rows
from fewer.tuning.standards import standard_plans

YARDSTICKS = ("ddim logsnr", "dpmpp-2m logsnr", "unipc logsnr")  # such as run on any model
PROBE = 64  # noises on which the fine solution's calls are found
SHARE = 0.3  # of the best standard plan's error that a given plan may have


def compare(
    model: Model,
    nfe: Sequence[int],
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
    progress: Callable[[str, int, int | None], Any] | None = None,
) -> dict[str, Any]:
    """Paired RMSE to the fine solution (and distances to `data`) of everything, each with its 95 % interval.

    guidance  scale of classifier-free guidance; by default the one that the given plans were made for
    features  that the distances to `data` are on, instead of its principal components
    metric    one more figure of each, against `data` or else the fine solution
    nll       also the negative log-likelihood of `data` under the model's own flow, which no plan changes

    Returns {"model", "reference", "features", "quality", "rows", "plans", "notes"}: `features` says by name what
    distances are on, `quality` holds what no plan changes (`nll`, nats per dimension, where asked for), `rows` are sorted
    by evaluations and error, `plans` has the verdict of each given plan against the best standard plan of the same number
    of evaluations: does it hold here? Plans that leave out blocks, or call a second network, are held against as many
    evaluations of the whole network as their multiply-adds pay for, rounded down (`fewer.rivals`).
    A pipeline is a row at its own number of steps and at each of `nfe`, by its own scheduler.
    Plans that add noise are compared by Frechet distance. A standard plan that gives no finite samples is left out, and
    noted; a given one does not hold. Plans made for another model are played as `fewer.transfer.transferred` says.

    Raises InputError for options that do not go together, and for plans that cannot be played on this model.
    """
    if not 0 <= margin < 10:
        raise InputError(f"margin is {margin}; expected a share such as 0.05")
    scoring = Scoring(data, features, metric)
    scoring.check(n)
    report = progress or (lambda stage, done, total: None)
    plans, notes, worths = _given(model, plans)
    own: dict[str, Any] = {}
    if nll:  # first: it may be refused, and what follows takes long
        if data is None:
            raise InputError("nll is the likelihood of data, and data is missing")
        report("likelihood of the data", 0, None)
        own["nll"] = flow_nll(model, data, batch=batch or MICRO_BATCH).nats().to_dict()
    guidance = _guidance_of(plans) if guidance is None else guidance
    if (untold := untold_guidance(model, guidance)) is not None:
        notes.append(untold)
    budgets = sorted({*nfe, *(worth.nfe for worth in worths)})
    standards = {budget: standard_plans(model, budget, guidance) for budget in budgets}
    judge = _judge(model, standards[budgets[-1]], scoring, guidance, n, seed, batch, report)
    rows: list[dict[str, Any]] = []
    best: dict[int, _Best] = {}
    total, done = sum(len(found) for found in standards.values()), 0
    for budget in budgets:
        for plan in standards[budget]:
            done += 1
            report("standard plans", done, total)
            try:
                samples = judge.samples(plan)
            except InputError as error:
                notes.append(f"{error}; it is left out")
                continue
            loss = float(judge.errors(samples).mean())
            if budget not in best or loss < best[budget].loss:
                best[budget] = _Best(plan.name, samples, loss)
            rows.append({"name": plan.name, "kind": "standard", "nfe": budget, "quality": judge.quality(samples)})
        if budget not in best:
            raise InputError(f"no standard plan of {budget} evaluations gives finite samples of {model.name}")
    held = []
    for plan, worth in zip(plans, worths, strict=True):
        report(f"plan {plan.name}", 0, None)
        quality, verdict = _held(judge, plan, worth, best[worth.nfe], margin)
        rows.append({"name": plan.name, "kind": "plan", "nfe": plan.nfe, "quality": quality, "calls": worth.calls})
        held.append(verdict.to_dict())
    report("the pipeline as it is", 0, None)
    rows += pipeline_rows(judge, (None, *budgets), guidance, seed, notes)
    rows.sort(key=lambda row: (row["nfe"], row["quality"].get("paired_rmse", {}).get("value", math.inf)))
    return {
        "model": model.describe(), "reference": {"nfe": judge.fine.nfe, "error": judge.fine.error},
        "features": judge.described, "quality": own, "rows": rows, "plans": held, "notes": notes,
    }  # fmt: skip


@dataclass(frozen=True)
class _Best:
    """The standard plan of a budget that has the smallest mean squared error (`loss`), and its samples."""

    name: str
    samples: Tensor
    loss: float


def _guidance_of(plans: Sequence[Plan]) -> float | None:
    """The one guidance scale that plans were made for."""
    scales = {asked_guidance(plan) for plan in plans} or {None}
    if len(scales) > 1:
        given = ", ".join(f"{plan.name!r} {asked_guidance(plan)}" for plan in plans)
        raise InputError(f"guidance is missing: the plans were made for different scales ({given})")
    return scales.pop()


def _judge(
    model: Model, plans: list[Plan], scoring: Scoring, guidance: float | None, n: int, seed: int,
    batch: int | None, report: Callable[[str, int, int | None], Any],
) -> Judge:  # fmt: skip
    """Fresh noises and their fine solution, as fine as the best of the largest budget's standard plans asks for."""
    if not plans:
        raise InputError("no standard plan can be made for this number of network evaluations")
    noise, labels = fresh_noise(model, n, seed), model.labels(n)
    few, some = noise[:PROBE], None if labels is None else labels[:PROBE]
    yardsticks = [plan for plan in plans if plan.name in YARDSTICKS] or plans[:1]
    there = [sample(model, plan, noise=few, labels=some, batch=batch) for plan in yardsticks]
    fine = fine_solution(
        model, noise, labels, guidance=guidance, batch=batch, probe=PROBE,
        best=lambda target: SHARE * min(float(squared_errors(samples, target).mean().sqrt()) for samples in there),
        progress=lambda stage: report(stage, 0, None),
    )  # fmt: skip
    return Judge(model, noise, labels, fine, scoring, batch)


def _given(model: Model, plans: Sequence[Plan]) -> tuple[list[Plan], list[str], list[Worth]]:
    """The given plans as this model plays them, what there is to say of that, and what each is worth."""
    moved = [transferred(model, plan) for plan in plans]
    played, notes = [plan for plan, _ in moved], [note for _, said in moved for note in said]
    worths = [Worth.of(model, plan) for plan in played]
    for plan, worth in zip(played, worths, strict=True):
        if cheapened(plan) and worth.macs is None:
            notes.append(
                f"torch counts no multiply-adds in {model.name}: {plan.name} is held against as many whole evaluations"
            )
    return played, notes, worths


def _held(judge: Judge, plan: Plan, worth: Worth, best: _Best, margin: float) -> tuple[dict[str, Any], Held]:
    """A given plan's quality, and how it stands against the best standard plan."""
    try:
        samples = judge.samples(plan)
    except NotFinite:
        return {}, Held(plan, judge.model, worth, best.name, margin, "worse", None, finite=False)
    mine, theirs = judge.errors(samples), judge.errors(best.samples)
    ratio: Interval | None = None
    if plan.stochastic:
        own, its = (judge.quality(each, paired_too=False)["fd"] for each in (samples, best.samples))
        ratio = distance_ratio(own, its)
    elif theirs.any():
        ratio = paired.ratio(mine, theirs)
    without: paired.Decision = "worse" if mine.any() else "not worse"  # no ratio to a plan without error
    decision = without if ratio is None else paired.decide(ratio, margin)
    quality = judge.quality(samples, paired_too=not plan.stochastic)
    return quality, Held(plan, judge.model, worth, best.name, margin, decision, ratio)
