"""The choice of a budget's plan on held-out noises, among all plans that its table shows, and the verdict on the tuned one.

The tuned plan and the k plans that it is held against are played on the same held-out noises: on the first ones, and on
more, up to four times as many, while the race is undecided. The baseline is the one of least typical error on all noises
of the last look. That it is the best of k on these very noises is allowed for: the figures of the tuned plan against all k
(`fewer.evaluate.statistics.endings`) hold together, over all looks, with 95 % chance (the levels of
`fewer.evaluate.statistics.spending`, divided by k after Bonferroni), so that those against the baseline do, whichever it is.

The tuned plan is taken where it is shown to be better or not worse, and no other plan is clearly better on these noises. Else
the baseline is kept, which no plan clearly beats, since none has a smaller typical error here. Intervals of the qualities
beside are each plan's own, for a number of noises fixed before; the baseline's, as the smallest of k, looks better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewer.errors import NotFinite
from fewer.evaluate.evaluator import Evaluator, Played
from fewer.evaluate.scoring import Quality
from fewer.evaluate.statistics.endings import typical
from fewer.evaluate.statistics.racing import Ahead, looks
from fewer.evaluate.verdict import in_words, of_pairs
from fewer.plan import Plan
from fewer.search.strategy import Candidate
from fewer.search.verdict import Measured, Outcome, Recommendation, luck

LONGEST = 4  # times the first held-out noises
LEAST, MOST = 3, 6  # standard plans played on held-out noises, besides those that the figures of the search call for


@dataclass(frozen=True)
class Terms:
    """How plans are compared: on the `first` held-out noises and up to four times as many, with a `margin` of non-inferiority.

    guidance  scale of the reference solution, which goes on record in the plan
    late      whether the time is up, so that nothing more is played than the comparison cannot do without
    missing   why there is no tuned plan, where there is none
    """

    first: int
    margin: float = 0.05
    guidance: float | None = None
    late: Callable[[], bool] = lambda: False
    missing: str = "nothing was free to move"


def judge(
    evaluator: Evaluator, nfe: int, tuned: Candidate | None, ranked: list[Candidate], terms: Terms, cheaper: Sequence[Plan] = ()
) -> Outcome:  # fmt: skip
    """The outcome of a budget of `nfe` evaluations: the tuned plan, or the best of the others where it is not shown to be as good.

    ranked   the standard plans by their errors on the search's noises
    cheaper  plans of at most this cost that are no standard ones of this budget, such as those of smaller budgets

    The evaluator must have up to four times the first noises. Raises NotFinite where no standard plan gives finite samples.
    """
    plans = [*cheaper, *(candidate.plan for candidate in contenders(ranked))]
    field, tried = _field(evaluator, plans, terms), {plan.name for plan in plans}
    moved = None if tuned is None else _played(evaluator, tuned.plan, terms.first)
    while True:
        verdict, n = _compared(tuned, moved, field, terms)
        shown = moved if moved is not None and verdict.recommended == "tuned" else _best(field, n)
        more = [] if terms.late() else _called_for(ranked, tried, shown, n)
        if not more:
            break
        tried |= {plan.name for plan in more}
        field += [played for plan in more if (played := _played(evaluator, plan, n)) is not None]  # and compared again
    best, *others = sorted(field, key=lambda played: typical(played.errors(n)).value)
    baselines = [_measured(best, n), *(_measured(each, n, scored=not terms.late()) for each in others)]
    errors = {candidate.plan.name: candidate.error for candidate in ranked}
    if shown is moved and tuned is not None:
        chosen, name, searched = _measured(shown, n), f"tuned {nfe}", tuned.error
    else:
        chosen, searched = baselines[0], errors.get(best.plan.name, math.nan)
        name = f"{best.plan.name} {nfe}" if best.plan.name in errors else best.plan.name
    verdict = replace(verdict, seeds=luck(evaluator.errors(chosen.samples), terms.margin))
    evidence: dict[str, Any] = {"quality": chosen.quality.to_dict(), "verdict": verdict.to_dict()}
    evidence |= {} if terms.guidance is None else {"guidance": terms.guidance}
    plan = replace(chosen.plan, name=name, model=evaluator.model.signature, evidence=evidence)
    return Outcome(nfe, replace(chosen, plan=plan), baselines, searched, ranked, verdict)


def contenders(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The best standard plans of the search's noises: from 3 to 6, as many as were not clearly worse there than the best."""
    finite = sorted((each for each in ranked if math.isfinite(each.error)), key=_typical) or list(ranked)
    whole = max((_played_on(candidate) for candidate in finite), default=0)
    kept = [candidate for candidate in finite if _played_on(candidate) == whole][:MOST]
    return kept if len(kept) >= LEAST else finite[:LEAST]


def _typical(candidate: Candidate) -> float:
    """The typical error of a standard plan on the search's noises."""
    return float(candidate.state.get("typical_error", {}).get("value", math.inf))


def _played_on(candidate: Candidate) -> int:
    """The noises that a standard plan was ranked on; one that had clearly lost was stopped."""
    return int(candidate.state.get("typical_error", {}).get("n", 0))


def _called_for(ranked: list[Candidate], tried: set[str], shown: Played, n: int) -> list[Plan]:
    """Standard plans not tried yet whose typical error on the search's noises lies wholly below that of the plan to be taken."""
    low = typical(shown.errors(n)).low
    return [
        candidate.plan for candidate in ranked
        if candidate.plan.name not in tried and (candidate.state.get("typical_error", {}).get("high") or math.inf) < low
    ]  # fmt: skip


def _field(evaluator: Evaluator, plans: Sequence[Plan], terms: Terms) -> list[Played]:
    """The plans on the first noises, but for those that are not finite, and, where it is late, those after the first."""
    field: list[Played] = []
    fault: NotFinite | None = None
    for plan in plans:
        if field and terms.late():
            break
        try:
            field.append(Played.on(evaluator, plan, terms.first))
        except NotFinite as error:
            fault = error
    if not field and fault is not None:
        raise fault
    return field


def _played(evaluator: Evaluator, plan: Plan, n: int) -> Played | None:
    """The plan on the first noises; None where its samples are not finite."""
    try:
        return Played.on(evaluator, plan, n)
    except NotFinite:
        return None


def _measured(played: Played, n: int, scored: bool = True) -> Measured:
    """A plan on the first n noises; by its errors alone where it is not to be scored by distances and the user's metric too."""
    samples = played.on_first(n)
    quality = played.evaluator.quality(samples) if scored else Quality(played.evaluator.pair_figures(samples))
    return Measured(played.plan, samples, quality)


def _best(field: list[Played], n: int) -> Played:
    """The plan of least typical error on the first n noises."""
    return min(field, key=lambda played: typical(played.errors(n)).value)


def _compared(
    tuned: Candidate | None, moved: Played | None, field: list[Played], terms: Terms
) -> tuple[Recommendation, int]:
    """The verdict on the tuned plan and the noises that it took."""
    best = _best(field, terms.first)
    kept = Recommendation(best.plan.name, terms.margin, "not worse", None, recommended="standard", reason="")
    if tuned is None:
        return replace(kept, reason=terms.missing), terms.first
    if moved is None:
        return replace(kept, decision="worse", reason="the tuned plan's samples are not finite"), terms.first
    if not best.errors(terms.first).any():
        return replace(kept, reason="it has no error that a search could lower"), terms.first
    return _raced(moved, field, terms)


def _raced(moved: Played, field: list[Played], terms: Terms) -> tuple[Recommendation, int]:
    """The race of the tuned plan against all others: its verdict, and the noises that it took."""
    most = LONGEST * terms.first
    planned = [(n, alpha / len(field)) for n, alpha in looks(most, terms.first)]
    evaluator = moved.evaluator
    for n, alpha in planned:
        best = _best(field, n)
        found = evaluator.compared(moved.on_first(n), best.on_first(n), alpha)
        ahead = Ahead(n, alpha, most, planned[-1][1], terms.margin)
        if found.decision(terms.margin) != "cannot tell" or n == most or terms.late() or ahead.futile_endings(found):
            break
    verdict = of_pairs(evaluator, moved.on_first(n), best.on_first(n), best.plan.name, terms.margin, alpha)
    beaten = next((each for each in field if _clearly_better(each, moved, n, terms.margin)), None)
    size = in_words(verdict)
    if not verdict.non_inferior:
        reason = f"of the tuned plan, {size}; not shown to be at most {terms.margin:.0%} worse"
    elif beaten is not None:
        reason = f"of the tuned plan, {size}; {beaten.plan.name} is clearly better"
    else:
        return Recommendation(**vars(verdict), recommended="tuned", reason=size), n
    return Recommendation(**vars(verdict), recommended="standard", reason=reason), n


def _clearly_better(one: Played, other: Played, n: int, margin: float) -> bool:
    """Whether one of the two figures shows this plan to be better than the other on the first n noises, and none to be worse."""
    if not other.errors(n).any():
        return False
    return one.evaluator.compared(one.on_first(n), other.on_first(n)).decision(margin) == "better"
