"""Tune a sampler of posteriors under a budget of calls, by pairs of true samples and measurements.

Candidates are compared by their scores on pairs (`fewer.search.posterior_pairs`). The verdict compares the best candidate with the
best of the methods on their usual plans at many calls, on pairs that neither saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.evaluate.statistics.paired import Decision
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import name_of, part
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.optimizer import queries
from fewer.search.deadline import Deadline
from fewer.search.posterior_arguments import BASELINE_CALLS, Asked, arguments, cases
from fewer.search.posterior_effort import AGAIN, FINALISTS, LEAST_TRIALS, SEARCHES, Effort
from fewer.search.posterior_pairs import BATCH, DISTANCE, SCORE, Case
from fewer.search.posterior_scored import SPENT, Found, Scored, with_method
from fewer.search.posterior_space import PosteriorSpace, settings_at, solvers_for
from fewer.search.study import Study
from fewer.tasks.inverse import PosteriorSampler

BEFORE = "seconds before the search"  # what a study knows of the sittings before this one


@dataclass(frozen=True)
class TunedPosterior:
    """A tuned sampler of posteriors and what it is worth, on pairs that the search did not see.

    plan, method  for `fewer.solve(.., plan=result.plan)`, which plays the plan by this method
    figure        what scores are: energy distances to the exact posteriors where these are known, else energy scores
    score         its mean score, in the data's unit
    against       the best of the methods on their usual plans at `baseline_calls` calls, chosen on the search's pairs
    best          that method with its settings
    baseline      its mean score on the same held-out pairs
    difference    the former less the latter, paired: below 0 where the tuned one is nearer to the posteriors
    decision      better: all of the difference's interval is below 0; not worse: below `margin` of the baseline's score; worse:
                  above 0; else it cannot be told
    searched      scores on the search's pairs of all candidates, in turn
    ranked        scores on the search's pairs of baselines at `baseline_calls` calls, by name
    effort        what was played
    notes         sentences beside
    held_out      the pairs of the comparison
    samples       of the tuned sampler and of the baseline on them, (B, each, *shape)
    """

    plan: Plan
    method: PosteriorSampler
    figure: str
    score: Interval
    against: str
    best: PosteriorSampler
    baseline: Interval
    baseline_calls: int
    difference: Interval
    decision: Decision
    searched: tuple[float, ...]
    ranked: Mapping[str, float]
    effort: Effort
    notes: tuple[str, ...]
    held_out: Case = field(repr=False)
    samples: tuple[Tensor, Tensor] = field(repr=False)

    @property
    def evaluations(self) -> int:
        """Network evaluations of single samples: those of `effort`, but for candidates that the time did not allow."""
        effort = self.effort
        missed = effort.searched - len(self.searched)
        return effort.total - missed * effort.pairs * effort.each * effort.nfe

    @property
    def recommended(self) -> bool:
        """Whether it is at least not worse."""
        return self.decision in ("better", "not worse")


@part(
    "tuned-posterior",
    title="A sampler of posteriors tuned for few calls: method, levels, noise, solver and settings, by true pairs",
    source="this package",
    role="procedure",
)
def tune_posterior(
    model: Model,
    operator: Any,
    *,
    nfe: int,
    method: str | PosteriorSampler | None = None,
    noise: float | Tensor = 0.05,
    data: Any = None,
    pairs: int = 48,
    each: int = 8,
    trials: int = 40,
    baseline_calls: int = BASELINE_CALLS,
    baselines: Mapping[str, PosteriorSampler] | None = None,
    exact: bool = True,
    margin: float = 0.02,
    time: float | None = None,
    evaluations: int | None = None,
    seed: int = 0,
    batch: int = BATCH,
    progress: Callable[[int, int], Any] | None = None,
) -> TunedPosterior:
    """Levels, weights, noise and settings of a method at `nfe` calls, by Bayesian optimisation for each of two solvers.

    The nearest few of all candidates are scored again on more samples, and the best of them is compared with the best baseline.

    method           by default all that the operator allows: the two that are nearest on their usual plans are searched
    operator, noise  as for `fewer.solve`
    data             true samples (N, *shape), N >= 2 pairs, a folder or .npz of images; by default samples of the model itself
    pairs, each      pairs of the search, as many again held out, and samples a measurement
    trials           candidates of each solver, or twice as many where a method takes levels alone
    baselines        by name; by default all methods that the operator allows, with their settings as they are and the two nearest
                     of them with two more
    exact            whether scores are energy distances to the exact posteriors where these are known, not energy scores
    time             most seconds, about; evaluations: most network evaluations of single samples: with fewer candidates and pairs
    batch            samples of a network call
    progress         progress(done, all candidates and baselines)

    Raises InputError for what `fewer.solve` refuses, for fewer data than pairs, and where time or evaluations are too few.
    """
    asked = arguments(
        model, operator, nfe=nfe, method=method, noise=noise, data=data, pairs=pairs, each=each, trials=trials,
        baseline_calls=baseline_calls, baselines=baselines, exact=exact, margin=margin, time=time, evaluations=evaluations,
        seed=seed, batch=batch,
    )  # fmt: skip
    deadline = Deadline(asked.time)
    return search(asked, *cases(asked), progress=progress, deadline=deadline)


def search(
    asked: Asked,
    seen: Case,
    held_out: Case,
    study: Study | None = None,
    progress: Callable[[int, int], Any] | None = None,
    deadline: Deadline | None = None,
) -> TunedPosterior:
    """The search with checked arguments, on its pairs and its held-out ones.

    study     of candidates, from which it goes on, and of the seconds that earlier sittings took, which count as if this one
              had taken them, whatever stage they were stopped in
    deadline  begun before the pairs were made
    """
    study, deadline = study or Study("posteriors"), deadline or Deadline(asked.time)
    deadline.began -= _seconds(study.noted(SPENT)) or 0.0
    scored = Scored(seen, study, deadline, asked.effort.candidates, progress)
    try:
        return _searched(asked, scored, held_out)
    finally:
        scored.spent()


def _searched(asked: Asked, scored: Scored, held_out: Case) -> TunedPosterior:
    """The search, and the comparison of what it found."""
    effort, model, deadline = asked.effort, asked.model, scored.deadline

    def usual(name: str, method: PosteriorSampler, calls: int) -> Found:
        plan = method.usual(model, calls)
        return scored(f"{name} at {calls}", 0, plan, method), plan, method

    found = [usual(name, method, effort.nfe) for name, method in asked.methods.items()]
    finalists = [method for *_, method in sorted(found, key=lambda entry: entry[0])[: effort.finalists]]
    baselines = _baselines(asked, usual)
    last = _before(scored.study, deadline) * effort.last / effort.first  # seconds of what comes after the search

    def late() -> bool:
        return asked.time is not None and deadline.spent + last > asked.time

    searched: list[Found] = []
    for method in finalists:
        solvers = solvers_for(method)
        for solver in solvers:
            space = PosteriorSpace(model, method, effort.nfe, solver)
            searched += _descend(asked, space, SEARCHES // len(solvers) * effort.trials, scored, late)
    _, plan, method = _nearest([*searched, *found], effort.finals, scored)
    against = min(baselines, key=lambda name: baselines[name][0])
    _, its_plan, best = baselines[against]
    mine = held_out.samples(plan, method)
    scored.spent()
    its = held_out.samples(its_plan, best)
    own, other = held_out.of_samples(mine), held_out.of_samples(its)
    difference, baseline = student((own - other).tolist()), student(other.tolist())
    named = plan.named(f"{name_of('tasks', method)} tuned, {plan.nfe} calls")
    notes = asked.notes
    if len(searched) < effort.searched:
        notes += (f"time was up after {len(searched)} candidates",)
    return TunedPosterior(
        with_method(named, method), method, DISTANCE if held_out.pairs.posteriors else SCORE, student(own.tolist()), against, best,
        baseline, effort.baseline_calls, difference, decided(difference, asked.margin * abs(baseline.value)),
        tuple(score for score, *_ in searched), {name: entry[0] for name, entry in baselines.items()}, effort, notes, held_out,
        (mine, its),
    )  # fmt: skip


def _before(study: Study, deadline: Deadline) -> float:
    """Seconds that the stages before the search took when they were played, which is now where the study does not know it."""
    before = _seconds(study.noted(BEFORE))
    if before is None:
        study.note(BEFORE, before := deadline.spent)
    return before


def _seconds(noted: Any) -> float | None:
    """Seconds that a study noted; None for what are none."""
    return float(noted) if isinstance(noted, int | float) and math.isfinite(noted) and noted >= 0 else None


def _nearest(found: Sequence[Found], finals: int, scored: Scored) -> Found:
    """The candidate of the least score; the nearest few are scored again, by other noise and on more samples."""
    ranked = sorted(found, key=lambda entry: entry[0])
    if not finals:
        return ranked[0]
    case = replace(scored.case, each=AGAIN * scored.case.each, seed=scored.case.seed + 2)
    again = [(scored("finals", k, *entry[1:], case), *entry[1:]) for k, entry in enumerate(ranked[:finals])]
    return min(again, key=lambda entry: entry[0])


def _baselines(asked: Asked, usual: Callable[[str, PosteriorSampler, int], Found]) -> dict[str, Found]:
    """The methods on their usual plans of many calls, the best of them with further settings."""
    calls = asked.effort.baseline_calls
    found = {name: usual(name, method, calls) for name, method in asked.baselines.items()}
    if asked.effort.variants:
        for name in sorted(found, key=lambda name: found[name][0])[:FINALISTS]:
            for more in _variants(asked.baselines[name]):
                title = f"{name} {', '.join(f'{key} {value:.3g}' for key, value in settings_at(more).items())}"
                found[title] = usual(title, more, calls)
    return found


def _variants(method: PosteriorSampler) -> Sequence[PosteriorSampler]:
    """The method with its first setting a quarter and three quarters along its range."""
    if not method.ranges:
        return []
    name, (low, high) = next(iter(method.ranges.items()))
    kind = round if isinstance(low, int) and isinstance(high, int) else float
    values = [kind(low * (high / low) ** share) for share in (0.25, 0.75)]
    return [replace(method, **{name: value}) for value in values]  # type: ignore[type-var]


def _descend(asked: Asked, space: PosteriorSpace, trials: int, scored: Scored, late: Callable[[], bool]) -> list[Found]:
    """The candidates of one method and solver; those that the study held are all taken, as they were played."""
    key = f"{name_of('tasks', space.method)}/{space.solver}"
    queried = queries(Bayesian().optimizer(space.start), asked.seed)
    query = next(queried)
    found: list[Found] = []
    for k in range(trials):
        if k >= max(LEAST_TRIALS, len(scored.kept(key))) and late():
            break
        plan, settled = scored.played(key, k, space.method) or space.at(query.x)
        score = scored(key, k, plan, settled)
        found.append((score, plan, settled))
        worst = max((each for each, *_ in found if math.isfinite(each)), default=1.0)
        if k + 1 < trials:
            query = queried.send(min(score, 10 * abs(worst)))
    return found


def decided(difference: Interval, margin: float) -> Decision:
    """What the interval of a difference says: below 0 is better."""
    if difference.high < 0:
        return "better"
    if difference.high <= margin:
        return "not worse"
    return "worse" if difference.low > 0 else "cannot tell"
