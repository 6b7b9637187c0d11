"""Tune a sampler of posteriors under a budget of calls, by pairs of true samples and measurements.

Candidates are compared by the energy score, which is least for the posterior itself (`fewer.evaluate.posteriors.energy_scores`): it
needs no exact posterior, only pairs (x, y), which any data or the model's own samples give. The verdict compares the best candidate
with the best of the methods on their usual plans at many calls, on pairs that neither saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_data, as_model
from fewer.engine import sample
from fewer.errors import InputError, NotFinite
from fewer.evaluate.posteriors import energy_scores
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.evaluate.statistics.paired import Decision
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import name_of, parts, resolve
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.optimizer import queries
from fewer.search.posterior_space import PosteriorSpace
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.given_operators import as_operator
from fewer.tasks.inverse.operators import Linear, Operator
from fewer.tasks.inverse.solve import solve

SOLVERS = ("ddim", "dpmpp-2m")
FINE = 64  # calls of the model's own samples, where no data are given
BASELINE_CALLS = 100
BATCH = 1024


@dataclass(frozen=True, eq=False)
class Pairs:
    """True samples x (B, *shape) and measurements y (B, *measured) of them."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, eq=False)
class Case:
    """An inverse problem with pairs: scores of methods on it.

    each, seed  samples a measurement, and their noise
    """

    model: Model
    operator: Operator
    noise: float | Tensor
    pairs: Pairs
    each: int
    seed: int

    def samples(self, plan: Plan | int, method: PosteriorSampler) -> Tensor:
        """(B, each, *shape)."""
        found = solve(
            self.model, self.operator, self.pairs.y, plan=plan, method=method, noise=self.noise, n=self.each, seed=self.seed,
            batch=BATCH,
        )  # fmt: skip
        return found.samples

    def scores(self, plan: Plan | int, method: PosteriorSampler) -> Tensor:
        """Energy scores (B,); infinite where samples are not finite."""
        try:
            return energy_scores(self.samples(plan, method), self.pairs.x)
        except NotFinite:
            return torch.full((len(self.pairs.x),), math.inf, dtype=torch.float64)


@dataclass(frozen=True)
class TunedPosterior:
    """A tuned sampler of posteriors and what it is worth, on pairs that the search did not see.

    plan, method  for `fewer.solve(.., plan=result.plan, method=result.method)`
    score         its mean energy score, in the data's unit
    against       the best of the methods on their usual plans at `baseline_calls` calls, chosen on the search's pairs
    baseline      its mean energy score on the same held-out pairs
    difference    the former less the latter, paired: below 0 where the tuned one is nearer to the posteriors
    decision      better: all of the difference's interval is below 0; not worse: below `margin` of the baseline's score; worse:
                  above 0; else it cannot be told
    searched      energy scores on the search's pairs of all candidates, in turn
    """

    plan: Plan
    method: PosteriorSampler
    score: Interval
    against: str
    baseline: Interval
    baseline_calls: int
    difference: Interval
    decision: Decision
    searched: tuple[float, ...]

    @property
    def recommended(self) -> bool:
        """Whether it is at least not worse."""
        return self.decision in ("better", "not worse")


def tune_posterior(
    model: Model,
    operator: Any,
    *,
    nfe: int,
    method: str | PosteriorSampler = "mmps",
    noise: float | Tensor = 0.05,
    data: Any = None,
    pairs: int = 48,
    each: int = 8,
    trials: int = 40,
    baseline_calls: int = BASELINE_CALLS,
    baselines: Mapping[str, PosteriorSampler] | None = None,
    margin: float = 0.02,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> TunedPosterior:
    """Levels, weights, noise and settings of one method at `nfe` calls, by Bayesian optimisation for each of two solvers.

    operator, noise  as for `fewer.solve`
    data             true samples (N, *shape), N >= 2 pairs, a folder or .npz of images; by default samples of the model itself
    pairs, each      pairs of the search, as many again held out, and samples a measurement
    trials           candidates of each solver
    baselines        by name; all methods that the operator allows by default, with their settings as they are
    progress         progress(done, all candidates and baselines)

    Raises InputError for what `fewer.solve` refuses, and for fewer data than pairs.
    """
    model, nfe, trials = as_model(model), as_count(nfe, "nfe", 2), as_count(trials, "trials", 2)
    pairs, each = as_count(pairs, "pairs", 8), as_count(each, "each", 2)
    measured = as_operator(operator, model.shape)
    sampler: PosteriorSampler = resolve("tasks", method)
    x = _truth(model, data, 2 * pairs, seed)
    made = _measured(measured, x, noise, seed)
    search, held_out = (
        Case(model, measured, noise, Pairs(x[rows], made[rows]), each, seed + k)
        for k, rows in enumerate((slice(pairs), slice(pairs, 2 * pairs)))
    )
    others = _baselines(measured) if baselines is None else dict(baselines)
    total, done = len(SOLVERS) * trials + len(others), 0

    def told(score: float) -> float:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)
        return score

    spaces = [PosteriorSpace(model, sampler, nfe, solver) for solver in SOLVERS]
    found: list[tuple[float, Plan, PosteriorSampler]] = []
    for space in spaces:
        asked = queries(Bayesian().optimizer(space.start), seed)
        query = next(asked)
        for k in range(trials):
            plan, settled = space.at(query.x)
            score = told(float(search.scores(plan, settled).mean()))
            found.append((score, plan, settled))
            worst = max((each for each, *_ in found if math.isfinite(each)), default=1.0)
            if k + 1 < trials:
                query = asked.send(min(score, 10 * worst))
    _, plan, settled = min(found, key=lambda entry: entry[0])
    ranked = {name: told(float(search.scores(baseline_calls, each).mean())) for name, each in others.items()}
    against = min(ranked, key=lambda name: ranked[name])
    mine, its = held_out.scores(plan, settled), held_out.scores(baseline_calls, others[against])
    difference = student((mine - its).tolist())
    baseline = student(its.tolist())
    return TunedPosterior(
        plan.named(f"{name_of('tasks', method)} tuned, {nfe} calls"), settled, student(mine.tolist()), against, baseline,
        baseline_calls, difference, decided(difference, margin * abs(baseline.value)), tuple(score for score, *_ in found),
    )  # fmt: skip


def decided(difference: Interval, margin: float) -> Decision:
    """What the interval of a difference says: below 0 is better."""
    if difference.high < 0:
        return "better"
    if difference.high <= margin:
        return "not worse"
    return "worse" if difference.low > 0 else "cannot tell"


def _baselines(operator: Operator) -> dict[str, PosteriorSampler]:
    """All methods that the operator allows, but for those that need an exact model."""
    known = [part for part in parts("tasks") if part.role == "posterior sampler" and part.name != "exact-guidance"]
    made: Sequence[tuple[str, PosteriorSampler]] = [(part.name, part.make()) for part in known]
    return {name: each for name, each in made if not each.linear or isinstance(operator, Linear)}


def _truth(model: Model, data: Any, n: int, seed: int) -> Tensor:
    """N true samples, float32 on the CPU."""
    given = as_data(data, model)
    if given is not None:
        if len(given) < n:
            raise InputError(f"data holds {len(given)} samples; {n} are needed, half of them held out (fewer pairs=)")
        rows = torch.randperm(len(given), generator=torch.Generator().manual_seed(seed))[:n]
        return given[rows].cpu()
    if model.exact is not None and model.classes is None:
        return model.exact.sample(n, seed)[0].float().cpu()
    noises = unit_noise(seed, Stream.CALIBRATION.numbers(n), model.shape, device=model.device)
    return sample(model, reference_plan(model, FINE), noise=noises).cpu()


def _measured(operator: Operator, x: Tensor, noise: float | Tensor, seed: int) -> Tensor:
    """Measurements (n, *measured) of x, with noise."""
    with torch.no_grad():
        clean = operator(x)
    e = unit_noise(seed, Stream.CALIBRATION.numbers(len(x)), operator.measured, Draw.PROBE())
    return clean + torch.as_tensor(noise, dtype=torch.float32) * e
