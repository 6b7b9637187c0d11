"""The result of a search in one sentence that needs no knowledge of the field."""

from __future__ import annotations

from collections.abc import Sequence

from fewer.evaluate.statistics.interval import Interval
from fewer.report.words import figure
from fewer.results import Baseline, Cost, Quality, Results, Verdict

SAID = {"typical_error": "error", "paired_rmse": "error", "fd": "Frechet distance"}
FLAT = 0.05  # of a time, within which two are called about the same


def summary(results: Results) -> str:
    """What the plan costs and how good it is: beside the pipeline as it is, or else beside the best standard sampler.

    "8 calls in place of 50, at about the same error: 0.0200 against 0.0192; 5.6 times as fast". Errors are called about the same
    where their intervals overlap. Where a standard sampler was kept, or a budget in milliseconds is exceeded, it says so.
    """
    own = _own(results)
    kept = results.verdict.refused and not results.budget.match
    said = _beside_pipeline(results, own) if own is not None else _beside_standards(results)
    if kept:
        said += "; " + _kept(results.verdict, results.baselines)
    elif results.budget.match and results.verdict.refused:
        said = f"No plan was shown to match the pipeline as it is; the best that was found: {said}"
    if any(entry.within == "no" for entry in results.front):
        said += "; the plan takes longer than the budget in milliseconds"
    return f"{said}."


def _own(results: Results) -> Baseline | None:
    """The pipeline as it is, at its own number of steps; None where there is none, or it has no figure of the plan's."""
    own = next((b for b in results.baselines if b.kind == "pipeline"), None)
    return own if own is not None and _common(results, own.quality) else None


def _common(results: Results, other: Quality) -> str | None:
    """The first figure that both have: what plans were judged by, or else an error or a distance."""
    names = (results.objective.figure, *SAID)
    return next((name for name in names if results.quality.get(name) and other.get(name)), None)


def _said(results: Results, name: str) -> str:
    """A figure in words: "error", or the title of what plans were judged by."""
    by = results.objective
    return SAID.get(name, name) if by.paired or name != by.figure else by.title


def _beside_pipeline(results: Results, own: Baseline) -> str:
    name = _common(results, own.quality)
    assert name is not None  # `_own` has looked
    found, theirs = results.quality[name], own.quality[name]
    assert found is not None
    assert theirs is not None
    fewer = "in place of" if results.cost.nfe < own.nfe else "beside the pipeline's"
    said = f"{calls(results.cost.nfe)} {fewer} {own.nfe}, at {_compared(found, theirs)} {_said(results, name)}: "
    return said + f"{figure(found)} against {figure(theirs)}" + _speed(results.cost, own.cost)


def _beside_standards(results: Results) -> str:
    """The plan beside the best other one of its cost that was played on the same noises."""
    by, kept = results.objective, results.verdict.refused
    found = by.of(results.quality)
    if found is None:
        return calls(results.cost.nfe)
    entry = next((each for each in results.front if each.cost == results.cost), results.front[-1])
    same = (b for b in results.baselines if b.nfe == entry.nfe and b.name == results.verdict.against and b.fresh)
    against = next(same, None)
    theirs = None if against is None else by.of(against.quality)
    said = f"an error of {figure(found)}" if by.paired else f"{_article(by.title)} {by.title} of {figure(found)}"
    if kept or theirs is None:
        return f"{calls(results.cost.nfe)} at {said}"
    ratio = results.verdict.ratio
    share = "" if ratio is None or results.verdict.decision != "better" else f", {_share(ratio)} less"
    plain = f"{calls(results.cost.nfe)} at {said}, against {figure(theirs)}"
    return f"{plain} of the best standard sampler, {results.verdict.against}{share}"


def _kept(verdict: Verdict, baselines: Sequence[Baseline]) -> str:
    what = "standard sampler" if any(b.name == verdict.against and b.kind == "standard" for b in baselines) else "plan"
    return {
        "worse": f"no tuned plan is as good as the {what} {verdict.against}, which is kept",
        "cannot tell": f"it cannot be told whether a tuned plan is as good as the {what} {verdict.against}, which is kept",
    }.get(verdict.decision, f"the {what} {verdict.against} is kept")


def _compared(found: Interval, theirs: Interval) -> str:
    if found.high < theirs.low:
        return "a smaller"
    return "a larger" if found.low > theirs.high else "about the same"


def _speed(cost: Cost, own: Cost) -> str:
    """How many times as fast, where both were clocked."""
    if cost.ms is None or own.ms is None or cost.ms.value <= 0:
        return ""
    times = own.ms.value / cost.ms.value
    if abs(times - 1) <= FLAT:
        return "; as fast"
    return f"; {times:.2g} times as fast" if times < 10 else f"; {times:.0f} times as fast"


def _article(word: str) -> str:
    return "an" if word[:1] in "aeiou" else "a"


def _share(ratio: Interval) -> str:
    return f"{100 * (1 - ratio.value):.0f} %"


def calls(count: int) -> str:
    """ "1 call", "8 calls"."""
    return f"{count:,} call{'' if count == 1 else 's'}"
