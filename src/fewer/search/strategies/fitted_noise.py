"""The share of fresh noise of each row, fitted to a tuned plan by a distance of all samples."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fewer.errors import InputError
from fewer.plan import Plan
from fewer.plan.file import digest
from fewer.registry import part
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.optimizer import Vector, queries
from fewer.search.blackbox.strategy import FAILED, BlackBox
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.regression import Regression
from fewer.search.strategy import NUMBERS, Candidate, Strategy
from fewer.solvers.noise_share import noisy_rows, shares_of, with_noise


@part(
    "fitted-noise",
    title="The share of fresh noise in each row of a tuned plan, by a distance of all samples",
    source="this package; one number a step after AdaSDE, Wang et al. 2025, arXiv:2510.23285, which learns it by distillation",
)
@dataclass(frozen=True)
class FittedNoise(Strategy):
    """Shares of noise g_n = most x_n^2 for a plan that `begins_with` has tuned, by a black-box optimizer over x in [0, 1]^n.

    The plan without noise is the first candidate, so that noise is taken only where it pays on the search's noises; then come the
    shares of the `models` best standard samplers with noise (`Space.noisy`), and the optimizer begins at the best of these. All
    candidates have the same starting noises and the same unit noise in each row: their distances differ by the shares alone, and
    are smooth in x, the deviation of the noise that is added. Where the search begins with plans of the user's (`--start-from`),
    the best of these is given noise, and nothing is tuned before.

    Paired errors are of no use here: noise moves a sample away from the reference solution's, however good it is.

    begins_with  the search of the deterministic plan, which has three quarters of what the search may take
    by          the optimizer, of the black-box strategies
    candidates  plans with noise, at most
    most        the largest share, in [0, 1]
    models      standard samplers with noise whose shares are tried, at most
    """

    begins_with: Strategy = field(default_factory=Regression)
    by: BlackBox = field(default_factory=Bayesian)
    candidates: int = 80
    most: float = 1.0
    models: int = 3

    name = "fitted-noise"
    columns = NUMBERS
    from_plans = True
    by_objective = True
    unpaired = True

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 1:
            raise InputError(f"most is {self.most}; expected the largest share of noise, in [0, 1]")

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Plans with noise; candidate k depends only on the seed, k and those before it."""
        given = space.starts or space.bases[:1]
        base = given[0] if len(given) == 1 else min(given, key=objective.score)
        if not noisy_rows(base):
            return
        points, worst = self._points(self._starts(base, space.noisy), seed), 0.0
        x = next(points)
        for k in range(self.candidates):
            known = k < len(done)
            candidate = done[k] if known else self._candidate(objective, base, x)
            if not known:
                yield candidate
            failed = not candidate.error < FAILED
            worst = worst if failed else max(worst, candidate.error)
            try:
                x = points.send(worst if failed else candidate.error)
            except StopIteration:
                return

    def _starts(self, base: Plan, noisy: Sequence[Plan]) -> list[Vector]:
        """No noise, and the shares of standard plans that have as many rows, each once."""
        shares = [found for plan in noisy if (found := shares_of(plan)) is not None]
        fitting = [found[: noisy_rows(base)] for found in shares if len(found) == len(base.rows)]
        points = [np.sqrt(np.minimum(np.array(found) / self.most, 1)) for found in fitting if self.most]
        return list({tuple(x): x for x in (np.zeros(noisy_rows(base)), *points)}.values())[: 1 + self.models]

    def _points(self, starts: Sequence[Vector], seed: int) -> Generator[Vector, float, None]:
        """The points to try, each answered with its value: the starts, and then the optimizer's, on from the best of them."""
        values: list[float] = []
        for x in starts:
            values.append((yield x))
        known = {tuple(x): value for x, value in zip(starts, values, strict=True)}
        walk = queries(self.by.optimizer(starts[int(np.argmin(values))]), seed)
        query = next(walk, None)
        while query is not None:
            value = known.get(tuple(query.x))
            try:
                query = walk.send((yield query.x) if value is None else value)
            except StopIteration:
                return

    def _candidate(self, objective: Objective, base: Plan, x: Vector) -> Candidate:
        """The plan at a point."""
        shares = (self.most * np.clip(x, 0, 1) ** 2).tolist()
        plan = with_noise(base, shares)
        plan = replace(plan, recipe=replace(plan.recipe, strategy=self.name, parents=(digest(base),)))
        return Candidate(plan, objective.score(plan), self.name, {"x": x.tolist(), "shares": shares})
