"""Numbers and sentences of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fewer.evaluate.statistics.interval import Interval
from fewer.results import Baseline, Budget, Verdict, error_of

NONE = "–"
QUALITY = {
    "typical_error": "typical error",
    "elsewhere": "elsewhere",
    "paired_rmse": "RMSE",
}  # names of figures in words


def decimals(value: float | None) -> int:
    """Digits after the point that show three significant ones, at most 6."""
    if value is None or value == 0:
        return 0
    return min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def figure(value: float | Interval | None, places: int | None = None) -> str:
    """Three significant digits, or `places` after the point, of a number or an interval's value; a dash for None."""
    value = value.value if isinstance(value, Interval) else value
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:,.{decimals(value) if places is None else places}f}"
    if not text.strip("-0.,"):
        return text.lstrip("-")
    return text.replace("-", "−")


def span(interval: Interval | None, places: int | None = None) -> str:
    """The two ends of the 95 % interval, to the precision of its value."""
    if interval is None or not interval.bounded:
        return NONE
    digits = decimals(interval.value) if places is None else places
    return f"{figure(interval.low, digits)} to {figure(interval.high, digits)}"


def with_span(interval: Interval | None) -> str:
    """Value and interval in words."""
    if interval is None:
        return "not measured"
    return figure(interval) + _ends(interval)


def _ends(interval: Interval) -> str:
    ends = span(interval)
    return "" if ends == NONE else f" (95\u00a0% interval {ends})"


def evaluations(count: int) -> str:
    """'1 network evaluation', '5 network evaluations'."""
    return f"{count:,} network evaluation{'' if count == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share in percent: 0.05 is '5 %', with a space that does not break."""
    return NONE if share is None else f"{100 * share:.3g}\u00a0%".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{figure(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def budget(request: Budget) -> str:
    """The budget in words."""
    if request.match:
        return "the cheapest plan that is not worse than the pipeline as it is"
    for amounts, what in ((request.macs, "multiply-adds"), (request.ms, "milliseconds")):
        if amounts:
            return f"{', '.join(figure(amount) for amount in amounts)} {what} per sample"
    nfe = sorted(set(request.nfe))
    if not nfe:
        return "no limit on network evaluations"
    if len(nfe) > 2 and nfe == list(range(nfe[0], nfe[-1] + 1)):
        return f"{nfe[0]} to {nfe[-1]} network evaluations per sample"
    listed = ", ".join(f"{n:,}" for n in nfe)
    return f"{listed} network evaluation{'' if nfe == [1] else 's'} per sample"


def baseline(against: str, baselines: Sequence[Baseline]) -> str:
    """What the plan was compared with, named as a reader would."""
    found = _named(against, baselines)
    if found is None:
        return against
    return f"the best standard sampler, {against}" if found.kind == "standard" else "the pipeline as it is"


def ratio_of(verdict: Verdict, baselines: Sequence[Baseline]) -> str:
    """What the ratio is of: samplers that add noise have no paired error and are compared by distance."""
    if verdict.figure != Verdict.model_fields["figure"].default:
        return verdict.figure
    found = _named(verdict.against, baselines)  # files of before a verdict named its figure
    by_distance = found is not None and not error_of(found.quality) and found.quality.get("fd")
    return "Frechet distance" if by_distance else "error"


def capital(text: str) -> str:
    """The text with its first letter a capital, the others as they are."""
    return text[:1].upper() + text[1:]


def sentence(note: str) -> str:
    """A note as a sentence: with a capital, and a full stop."""
    text = note.strip()
    return capital(text) + ("" if text.endswith((".", "!", "?", ":")) else ".")


def verdict_sentence(
    verdict: Verdict, nfe: int, plan: str, baselines: Sequence[Baseline], whole_calls: float | None = None
) -> str:
    """The verdict in one plain sentence; a refusal says what was kept and why.

    whole_calls  where not all of its calls are whole ones: as many whole calls have its multiply-adds
    """
    other = baseline(verdict.against, baselines)
    margin = percent(verdict.margin)
    said = (
        {
            "better": f"is better than {other}",
            "not worse": f"is not worse than {other} at a margin of {margin}",
            "worse": f"is worse than {other}",
            "cannot tell": f"cannot be told from {other} at a margin of {margin}",
        }[verdict.decision]
        + _size(verdict.ratio, ratio_of(verdict, baselines), verdict.difference)
        + _ending_elsewhere(verdict)
    )
    cost = f"at {evaluations(nfe)} per sample"
    if whole_calls is not None and whole_calls < nfe * (1 - 1e-9):
        equal = f"at the multiply-adds of {figure(whole_calls)} network evaluations per sample"
        cost = f"{equal}, in {nfe} calls, not all of the whole network"
    if not verdict.refused:
        return f"A{cost[1:]}, the tuned plan {said}."
    found = _named(verdict.against, baselines)
    if found is not None and found.kind == "pipeline":
        return f"No plan tried is shown to match the pipeline as it is; {cost}, the best one {said}."
    kept = plan if found is None else verdict.against
    reason = (verdict.reason or "").strip().rstrip(".").removeprefix(f"kept {verdict.against}: ")
    return (
        f"Kept the best standard plan, {kept} {cost}, because {reason or f'on held-out noise the tuned plan {said}'}."
    )


def _named(name: str, baselines: Sequence[Baseline]) -> Baseline | None:
    return next((b for b in baselines if b.name == name), None)


def _ending_elsewhere(verdict: Verdict) -> str:
    """Shares of samples that end in another mode than the reference, where there are any, and what a distance says against it."""
    said = ""
    if verdict.shares is not None and any(share is not None and share.value > 0 for share in verdict.shares):
        own, theirs = (percent(None if share is None else share.value) for share in verdict.shares)
        said = f"; {own} of its samples are other images than the reference's, of {verdict.against}'s {theirs}"
    if verdict.decision in ("better", "not worse") and verdict.farther is not None and verdict.farther.low > 0:
        said += "; by energy distance its samples as a whole are farther from the reference's"
    return said


def _size(ratio: Interval | None, what: str, difference: Interval | None = None) -> str:
    if ratio is None and difference is not None:
        return f": its {what} less that of the other is {figure(difference)}{_ends(difference)}"
    return "" if ratio is None else f": its {what} is {figure(ratio)} times as large{_ends(ratio)}"
