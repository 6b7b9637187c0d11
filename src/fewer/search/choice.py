"""The choice of a budget's plan on held-out noises, among all plans that its table shows, and the verdict on the tuned one.

The tuned plan and the k plans that it is held against are played on the same held-out noises: on the first ones, and on
more, up to four times as many, while the race is undecided. The baseline is the best one by the search's criterion (of pairs,
that of least typical error) on all noises of the last look. The figures of the tuned plan against it
(`fewer.evaluate.statistics.endings`, `fewer.evaluate.by_figure`) hold together, over all looks, with 95 % chance (the levels of
`fewer.evaluate.statistics.spending`). They need no more for there being k: that the baseline is the best of k on these very noises
makes it look better than it is, which speaks against the tuned plan only.

The tuned plan is taken where it is shown to be better or not worse, and no other plan is clearly better on these noises. Else
the baseline is kept, which no plan clearly beats, since none is better here. Intervals of the qualities beside are each plan's
own, for a number of noises fixed before; the baseline's, as the best of k, looks better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewer.errors import NotFinite
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.evaluator import Evaluator, Played
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.racing import Ahead, looks
from fewer.evaluate.verdict import in_words
from fewer.plan import Plan
from fewer.search.strategy import Candidate
from fewer.search.verdict import Measured, Outcome, Recommendation, luck

LONGEST = 4  # times the first held-out noises
LEAST, MOST = 3, 6  # standard plans played on held-out noises, besides those that the figures of the search call for


@dataclass(frozen=True)
class Terms:
    """How plans are compared: on the `first` held-out noises and up to four times as many, with a `margin` of non-inferiority.

    most      noises beyond which there is neither time nor evaluations; None for four times the first
    guidance  scale of the reference solution, which goes on record in the plan
    late      whether the time is up, so that nothing more is played than the comparison cannot do without
    fits      whether so many evaluations are left
    missing   why there is no tuned plan, where there is none
    by        what plans are judged by
    as_ranked  whether the figures of the search are of the same kind
    """

    first: int
    margin: float = 0.05
    guidance: float | None = None
    late: Callable[[], bool] = lambda: False
    fits: Callable[[int], bool] = lambda evaluations: True
    missing: str = "nothing was free to move"
    by: Criterion = PAIRED
    most: int | None = None
    as_ranked: bool = True

    @property
    def longest(self) -> int:
        """Noises of the last look."""
        return LONGEST * self.first if self.most is None else max(self.first, min(self.most, LONGEST * self.first))


def judge(
    evaluator: Evaluator, nfe: int, tuned: Candidate | None, ranked: list[Candidate], terms: Terms, cheaper: Sequence[Plan] = ()
) -> Outcome:  # fmt: skip
    """The outcome of a budget of `nfe` evaluations: the tuned plan, or the best of the others where it is not shown to be as good.

    ranked   the standard plans by their errors on the search's noises
    cheaper  plans of at most this cost that are no standard ones of this budget, such as those of smaller budgets

    The evaluator must have up to four times the first noises. Raises NotFinite where no standard plan gives finite samples.
    """
    standards = [candidate.plan for candidate in contenders(ranked, terms.by)]
    plans = [*standards[:1], *cheaper, *standards[1:]]  # the likely best first, where evaluations are for few of them
    field, tried = (
        _field(evaluator, plans, terms, 0 if tuned is None else tuned.plan.nfe),
        {plan.name for plan in plans},
    )
    moved = None if tuned is None else _played(evaluator, tuned.plan, terms.first)
    while True:
        verdict, n = _compared(tuned, moved, field, terms)
        shown = moved if moved is not None and verdict.recommended == "tuned" else _best(field, n, terms.by)
        more = _called_for(ranked, tried, shown, n, terms.by) if terms.as_ranked and not terms.late() else []
        if not more or not terms.fits(n * sum(plan.nfe for plan in more)):
            break
        tried |= {plan.name for plan in more}
        field += [played for plan in more if (played := _played(evaluator, plan, n)) is not None]  # and compared again
    best, *others = sorted(field, key=lambda played: _loss(played, n, terms.by).value)
    baselines = [_measured(best, n, terms.by)]
    baselines += [_measured(each, n, terms.by, scored=not terms.late()) for each in others]
    errors = {candidate.plan.name: candidate.error for candidate in ranked}
    if shown is moved and tuned is not None:
        chosen, name, searched = _measured(shown, n, terms.by), f"tuned {nfe}", tuned.error
    else:
        chosen, searched = baselines[0], errors.get(best.plan.name, math.nan)
        name = f"{best.plan.name} {nfe}" if best.plan.name in errors else best.plan.name
    if best.plan.stochastic or (moved is not None and moved.plan.stochastic):
        verdict = replace(verdict, rmse=None)  # which is of pairs
    if not chosen.plan.stochastic:
        verdict = replace(verdict, seeds=luck(evaluator.errors(chosen.samples), terms.margin))
    evidence: dict[str, Any] = {"quality": chosen.quality.to_dict(), "verdict": verdict.to_dict()}
    evidence |= {} if terms.guidance is None else {"guidance": terms.guidance}
    plan = replace(chosen.plan, name=name, model=evaluator.model.signature, evidence=evidence)
    return Outcome(nfe, replace(chosen, plan=plan), baselines, searched, ranked, verdict)


def contenders(ranked: Sequence[Candidate], by: Criterion = PAIRED) -> list[Candidate]:
    """The best standard plans of the search's noises: from 3 to 6, as many as were not clearly worse there than the best."""
    finite = sorted((each for each in ranked if math.isfinite(each.error)), key=lambda each: _found(each, by, "value"))
    finite = finite or list(ranked)
    whole = max((_found(candidate, by, "n", 0) for candidate in finite), default=0)
    kept = [candidate for candidate in finite if _found(candidate, by, "n", 0) == whole][:MOST]
    return kept if len(kept) >= LEAST else finite[:LEAST]


def _found(candidate: Candidate, by: Criterion, what: str, otherwise: float = math.inf) -> float:
    """Value, end or count of a standard plan's loss on the search's noises; one that had clearly lost was played on fewer."""
    found = candidate.state.get(by.ranked_as, {}).get(what)
    return otherwise if found is None else float(found)


def _loss(played: Played, n: int, by: Criterion) -> Interval:
    """The loss of a plan on the first n noises."""
    return by.loss(played.evaluator, played.on_first(n))


def _called_for(ranked: list[Candidate], tried: set[str], shown: Played, n: int, by: Criterion) -> list[Plan]:
    """Standard plans not tried yet whose loss on the search's noises lies wholly below that of the plan to be taken."""
    low = _loss(shown, n, by).low
    return [
        candidate.plan for candidate in ranked
        if candidate.plan.name not in tried and _found(candidate, by, "high") < low
    ]  # fmt: skip


def _field(evaluator: Evaluator, plans: Sequence[Plan], terms: Terms, kept: int) -> list[Played]:
    """The plans on the first noises, but for those that are not finite, and those after the first where it is late, or where
    no `kept` evaluations a noise would be left for the tuned plan.
    """
    field: list[Played] = []
    fault: NotFinite | None = None
    for plan in plans:
        if field and (terms.late() or not terms.fits(terms.first * (plan.nfe + kept))):
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


def _measured(played: Played, n: int, by: Criterion, scored: bool = True) -> Measured:
    """A plan on the first n noises; by pairs and the criterion alone where it is not to be scored by all figures."""
    samples = played.on_first(n)
    return Measured(played.plan, samples, by.quality(played.evaluator, samples, scored, not played.plan.stochastic))


def _best(field: list[Played], n: int, by: Criterion) -> Played:
    """The plan of least loss on the first n noises."""
    return min(field, key=lambda played: _loss(played, n, by).value)


def _compared(
    tuned: Candidate | None, moved: Played | None, field: list[Played], terms: Terms
) -> tuple[Recommendation, int]:
    """The verdict on the tuned plan and the noises that it took."""
    best = _best(field, terms.first, terms.by)
    kept = Recommendation(best.plan.name, terms.margin, "not worse", None, recommended="standard", reason="")
    if tuned is None:
        return replace(kept, reason=terms.missing), terms.first
    if moved is None:
        return replace(kept, decision="worse", reason="the tuned plan's samples are not finite"), terms.first
    if terms.by.flawless(best.evaluator, best.on_first(terms.first)):
        return replace(kept, reason="it has no error that a search could lower"), terms.first
    return _raced(moved, field, terms)


def _raced(moved: Played, field: list[Played], terms: Terms) -> tuple[Recommendation, int]:
    """The race of the tuned plan against the best of the others at each look: its verdict, and the noises that it took."""
    most, planned = terms.longest, looks(terms.longest, terms.first)
    evaluator, by = moved.evaluator, terms.by
    for n, alpha in planned:
        best = _best(field, n, by)
        ahead = Ahead(n, alpha, most, planned[-1][1], terms.margin)
        decision, futile = by.look(evaluator, moved.on_first(n), best.on_first(n), ahead)
        if decision != "cannot tell" or n == most or terms.late() or futile:
            break
    verdict = by.verdict(evaluator, moved.on_first(n), best.on_first(n), best.plan.name, terms.margin, alpha)
    beaten = next((p for p in field if by.better(evaluator, p.on_first(n), moved.on_first(n), terms.margin)), None)
    size = in_words(verdict)
    if not verdict.non_inferior:
        reason = f"of the tuned plan, {size}; not shown to be at most {terms.margin:.0%} worse"
    elif beaten is not None:
        reason = f"of the tuned plan, {size}; {beaten.plan.name} is clearly better"
    else:
        return Recommendation(**vars(verdict), recommended="tuned", reason=size), n
    return Recommendation(**vars(verdict), recommended="standard", reason=reason), n
