"""Evolution over time steps, the first stage of AutoDiffusion."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fewer.errors import InputError
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import find, part
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy
from fewer.solvers import compile_plan
from fewer.solvers.trace import Level

Times = list[float]


@part(
    "evolution",
    title="Evolution over time steps with one solver",
    source="Li et al. 2023, AutoDiffusion (first stage), arXiv:2309.10438",
    papers=(191,),
)
@dataclass(frozen=True)
class Evolution(Strategy):
    """A candidate is a falling list of network times, played with one solver and scored by the search's objective.

    After `population` random lists, each further one comes from the `keep` best so far: with probability 1/2 by
    mutation (each time drawn anew with probability `mutation`), else by crossover (each time from either parent).
    The start is kept. The paper scores by Frechet distance and evolves in generations; here every candidate may
    become a parent at once.
    """

    name = "evolution"
    columns = frozenset({"steps"})
    by_objective = True

    population: int = 50
    keep: int = 10
    mutation: float = 0.25
    candidates: int = 500

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn; candidate k depends only on the seed, k and those before it."""
        pool: list[tuple[float, Times]] = [(c.error, c.state["times"]) for c in done]
        for k in range(len(pool), self.candidates):
            times = self._next(pool, space, np.random.default_rng([seed, k]))
            plan = self.plan(space, times)
            error = objective.score(plan)
            pool.append((error, times))
            yield Candidate(plan, error, self.name, {"times": times})

    def _next(self, pool: list[tuple[float, Times]], space: Space, rng: np.random.Generator) -> Times:
        while True:
            if len(pool) < self.population:
                times = self.drawn(space, rng)
            else:
                best = [times for _, times in sorted(pool, key=lambda entry: entry[0])[: self.keep]]
                mother, father = (best[int(i)] for i in rng.integers(len(best), size=2))
                if rng.random() < 0.5:
                    times = self.redrawn(space, mother, rng)
                else:
                    inner = [a if rng.random() < 0.5 else b for a, b in zip(mother[1:], father[1:], strict=True)]
                    times = [mother[0], *sorted(inner, reverse=True)]
            if self.apart(space, times):
                return times

    def drawn(self, space: Space, rng: np.random.Generator) -> Times:
        """The start's time and others at random below it, falling."""
        high, low = _ends(space)
        return [high, *sorted((float(rng.uniform(low, high)) for _ in range(space.calls - 1)), reverse=True)]

    def redrawn(self, space: Space, times: Times, rng: np.random.Generator) -> Times:
        """The times with each but the start's drawn anew with probability `mutation`."""
        high, low = _ends(space)
        inner = [float(rng.uniform(low, high)) if rng.random() < self.mutation else t for t in times[1:]]
        return [high, *sorted(inner, reverse=True)]

    def apart(self, space: Space, times: Times) -> bool:
        """Whether all times lie apart, by 1e-6 of their range at least."""
        high, low = _ends(space)
        return all(a - b > 1e-6 * (high - low) for a, b in itertools.pairwise(times))

    def plan(self, space: Space, times: Times) -> Plan:
        """The plan of the space's solver at these times."""
        if space.solver is None:
            raise InputError("evolution needs the name of a solver")
        levels = [Level(float(space.model.schedule.tau(t))) for t in times]
        plan = compile_plan(find("solvers", space.solver).make(), levels, space.calls, "evolved")
        return space.adopt(plan, Recipe(space.solver, strategy=self.name))


def _ends(space: Space) -> tuple[float, float]:
    """The start's time, and that of the smallest level."""
    schedule = space.model.schedule
    return float(schedule.time(space.model.start)), float(schedule.time(schedule.tau_min))
