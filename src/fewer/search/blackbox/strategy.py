"""The strategy that plays a black-box optimizer over the numbers of a plan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from fewer.plan import Plan
from fewer.search.blackbox.numbers import Numbers
from fewer.search.blackbox.optimizer import Optimizer, Query, Span, Vector, queries
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Column, Strategy

FAILED = 1e30  # what a study keeps of an error that is not finite
_FEWEST = 32  # noises of a figure of all samples together, as which an objective without pairs is taken


@dataclass(frozen=True)
class BlackBox(Strategy):
    """A candidate is a plan at a point that the optimizer asks for, scored by the search's objective.

    The space's solver is played on levels that are moved as `fewer.search.blackbox.numbers` says, from those of the first
    base on. Every optimizer is so compared on the same plans, from the same start, with nothing but scores.

    candidates  plays at most
    reach       of weights that are added to the solver's own; 0 leaves these as they are
    """

    candidates: int = 500
    reach: float = 0.0

    by_objective = True
    simplex = False  # whether the optimizer is one on the simplex

    @property
    def columns(self) -> frozenset[Column]:
        """Steps, and with a reach the weights too."""
        return frozenset({"steps", "solver"}) if self.reach and not self.simplex else frozenset({"steps"})

    @abstractmethod
    def optimizer(self, start: Vector) -> Optimizer:
        """The optimizer, which begins at a point."""

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn; candidate k depends only on the seed, k and those before it."""
        numbers = Numbers.of(space, self.name, 0.0 if self.simplex else self.reach)
        start = numbers.gaps if self.simplex else numbers.start
        if len(start) <= self.simplex:  # one call has no level to move
            if not done:
                yield self._candidate(objective, numbers.at_gaps(numbers.gaps), Query(start))
            return
        walk, worst = queries(self.optimizer(start), seed), 0.0
        query = next(walk, None)
        for k in range(self.candidates):
            if query is None:
                return
            candidate = done[k] if k < len(done) else self._played(objective, numbers, query)
            failed = not candidate.error < FAILED
            worst = worst if failed else max(worst, candidate.error)
            if k >= len(done):
                yield candidate
            try:
                query = walk.send(worst if failed else candidate.error)
            except StopIteration:
                return

    def _played(self, objective: Objective, numbers: Numbers, query: Query) -> Candidate:
        plan = numbers.at_gaps(query.x) if self.simplex else numbers.at_box(query.x)
        return self._candidate(objective, plan, query)

    def _candidate(self, objective: Objective, plan: Plan, query: Query) -> Candidate:
        error = spanned(objective, query.span).score(plan)
        return Candidate(plan, error, self.name, {"x": query.x.tolist(), "span": list(query.span)})

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best of those that were played on the most noises."""
        most = max(_share(candidate) for candidate in done)
        return super().choose([candidate for candidate in done if _share(candidate) == most])


def _share(candidate: Candidate) -> float:
    first, last = candidate.state["span"]
    return float(last - first)


def spanned(objective: Objective, span: Span) -> Objective:
    """The noises of a span, at least one, or as many as an objective without pairs needs."""
    n = len(objective)
    least = min(n, 1 if objective.criterion.paired else _FEWEST)
    first = min(round(span[0] * n), n - least)
    last = max(round(span[1] * n), first + least)
    return objective if last - first == n else objective.subset(first, last)
