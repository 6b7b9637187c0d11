"""AutoDiffusion: evolution over time steps, then over time steps and skipped layers together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewer.blocks.find import at_granularity
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan, Shortcut
from fewer.registry import part
from fewer.search.ablation import Pattern
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.evolution import Evolution, Times
from fewer.search.strategy import Candidate, Strategy

Genes = tuple[Times, Pattern]  # times, and which layers run in which rows


@part(
    "autodiffusion",
    title="Two-stage evolution over time steps and skipped layers (AutoDiffusion)",
    source="Li et al. 2023, AutoDiffusion, arXiv:2309.10438",
    papers=(191,),
)
@dataclass(frozen=True)
class AutoDiffusion(Strategy):
    """A candidate is a falling list of times and, for each, the layers that are skipped: their branches are zero there.

    Where F calls of the whole network fit the budget, a candidate has `longer` F rows. The first stage evolves times
    with the whole network (`fewer.search.strategies.evolution`), `first` candidates. The second begins with `population` children
    of the `keep` best of them, all layers running, and goes on from the `keep` best of its own: a child comes with
    probability 1/2 by mutation (each time drawn anew, each layer of each row switched, with probability `mutation`),
    else by crossover (each row's time and layers from either parent), and skips further layers at random until the
    budget holds. The paper's fitness is the Frechet distance of generated images; here it is the search's objective, by
    default the paired error, and every candidate may become a parent at once.

    limit  the budget
    names  of layers that may be skipped and share no modules; by default the finest of the network
    """

    name = "autodiffusion"
    columns = frozenset({"steps", "blocks"})
    by_objective = True

    limit: Limit | None = None
    names: tuple[str, ...] = ()
    longer: float = 1.25
    population: int = 50
    keep: int = 10
    mutation: float = 0.25
    first: int = 200
    candidates: int = 500

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn; candidate k depends only on the seed, k and those before it."""
        names = self.names or skippable(space.model)
        whole = self._longer(space)
        times = [replace(c, state={"times": c.state["times"]}) for c in done if "runs" not in c.state]
        for candidate in self._evolution().search(objective, whole, times, seed):
            times.append(replace(candidate, strategy=self.name))
            yield times[-1]
        best = sorted(times, key=lambda c: c.error)[: self.keep]
        pool: list[tuple[float, Genes]] = [(c.error, _genes(c)) for c in done if "runs" in c.state]
        full = np.ones((len(names), whole.calls), dtype=np.bool_)
        for k in range(len(times) + len(pool), self.candidates):
            parents = [(c.state["times"], full) for c in best]
            if len(pool) >= self.population:
                parents = [genes for _, genes in sorted(pool, key=lambda entry: entry[0])[: self.keep]]
            plan, genes = self._child(whole, names, parents, np.random.default_rng([seed, k]))
            error = objective.score(plan)
            pool.append((error, genes))
            yield Candidate(plan, error, self.name, {"times": genes[0], "runs": genes[1].astype(int).tolist()})

    def choose(self, done: list[Candidate]) -> Candidate:
        """The fittest within the budget; before the second stage there is none, and the fittest is taken."""
        within = [c for c in done if "runs" in c.state]
        return min(within or done, key=lambda candidate: candidate.error)

    def within(self, limit: Limit, steps: Candidate | None) -> tuple[Strategy, ...]:
        """The same search under the limit."""
        return (replace(self, limit=limit),)

    def _evolution(self) -> Evolution:
        return Evolution(self.population, self.keep, self.mutation, min(self.first, self.candidates))

    def _longer(self, space: Space) -> Space:
        """The space with the rows of a candidate: the base's first row, again and again, under its solver."""
        rows = max(space.calls, round(space.calls * self.longer))
        base = replace(space.base, rows=(space.base.rows[0],) * rows)
        return Space(space.model, (base,), space.keep, space.solver or "ddim")

    def _child(
        self, space: Space, names: Sequence[str], parents: Sequence[Genes], rng: np.random.Generator
    ) -> tuple[Plan, Genes]:
        """A plan within the budget, and its genes."""
        if self.limit is None:
            raise InputError("autodiffusion needs a budget in multiply-adds or milliseconds: give macs or ms")
        evolution = self._evolution()
        while True:
            (ours, mine), (theirs, other) = (parents[int(i)] for i in rng.integers(len(parents), size=2))
            if rng.random() < 0.5:
                times = evolution.redrawn(space, ours, rng)
                runs = mine ^ (rng.random(mine.shape) < self.mutation)
            else:
                which = rng.random(len(ours)) < 0.5
                times = sorted(np.where(which, ours, theirs).tolist(), reverse=True)
                runs = np.where(which, mine, other)
            if not evolution.apart(space, times):
                continue
            plan = evolution.plan(space, times)
            for layer in rng.permutation(runs.size):
                if self.limit.cost(_skipping(plan, names, runs)) <= self.limit.most:
                    break
                runs[np.unravel_index(layer, runs.shape)] = False
            plan = _skipping(plan, names, runs)
            if (cost := self.limit.cost(plan)) <= self.limit.most:
                return plan, (times, runs)
            raise InputError(
                f"{self.limit.unit} is {self.limit.most:.4g}; autodiffusion cannot go below {cost:.4g} in {space.calls} rows"
            )


def skippable(model: Model) -> tuple[str, ...]:
    """Names of the finest blocks whose branch may be zero. Raises InputError where there are none."""
    names = tuple(each.name for each in at_granularity(model, "unit") if each.skippable)
    if not names:
        raise InputError(f"{model.name} has no block that may be skipped")
    return names


def _skipping(plan: Plan, names: Sequence[str], runs: Pattern) -> Plan:
    rows = [
        replace(row, blocks={name: Shortcut() for name, run in zip(names, column, strict=True) if not run})
        for row, column in zip(plan.rows, runs.T, strict=True)
    ]
    return replace(plan, rows=tuple(rows))


def _genes(candidate: Candidate) -> Genes:
    return candidate.state["times"], np.array(candidate.state["runs"], dtype=np.bool_)
