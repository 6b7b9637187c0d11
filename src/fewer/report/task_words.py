"""Sentences on tuned samplers of posteriors, in the report and on the command line."""

from __future__ import annotations

from fewer.report.words import evaluations, figure, percent, with_span
from fewer.results import PosteriorTask, Results

DECISIONS = {
    "better": "nearer to the posteriors than",
    "not worse": "not worse than",
    "worse": "worse than",
    "cannot tell": "not shown to be as good as",
}


def task_summary(results: Results) -> str:
    """What the plan costs and how good it is, beside the best method at many calls; a refusal says what to take in its place."""
    task = _task(results)
    said = f"{evaluations(results.cost.nfe)} of {task.method} for {measurements(task)}: {DECISIONS[results.verdict.decision]} "
    said += f"{results.verdict.against}"
    if results.verdict.refused:
        said += f", which {task.baseline} has: the tuned plan is not recommended in its place"
    return f"{said}."


def task_sentence(results: Results) -> str:
    """The figures of both, and their difference."""
    verdict, by = results.verdict, results.objective
    own = by.of(results.quality)
    other = next((by.of(each.quality) for each in results.baselines if each.name == verdict.against), None)
    margin = (
        f" at a margin of {percent(verdict.margin)} of it" if verdict.decision in ("not worse", "cannot tell") else ""
    )
    return (
        f"Its {by.title} is {with_span(own)}, that of {verdict.against} {with_span(other)}; the difference, on the same held-out "
        f"pairs, is {with_span(verdict.difference)}: {verdict.decision}{margin}."
    )


def measurements(task: PosteriorTask) -> str:
    """The operator and its noise."""
    noise = "a map of noise" if task.noise is None else f"noise of deviation {figure(task.noise)}"
    return f"{task.operator} under {noise}"


def settings(task: PosteriorTask) -> str:
    """The method's settings: "iterations 3, strength 1.2"."""
    shown = (f"{key} {figure(value) if isinstance(value, float) else value}" for key, value in task.settings.items())
    return ", ".join(shown) or "none"


def _task(results: Results) -> PosteriorTask:
    assert results.task is not None
    return results.task
