"""Selection of a search's solver by the extrapolated curves of short searches (accept then stop)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fewer.plan import Plan
from fewer.registry import part
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.blackbox.strategy import FAILED, BlackBox
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy

ACCEPTED, TOLERANCE = (
    3,
    5.0,
)  # points of a curve that are taken unseen, and deviations beyond which the next one ends it


def accepted(sizes: Sequence[int], losses: Sequence[float]) -> int:
    """How many points of a curve, largest size first, lie on one line of log loss against log size.

    After the first `ACCEPTED` each is taken unless it is more than `TOLERANCE` deviations off the line through those before it: of
    L(D) = B / (D_l + D^b) + E the part before D is large against D_l is flat, and would make the line too flat, too.
    """
    x, y = np.log(sizes), np.log(losses)
    for n in range(ACCEPTED, len(x)):
        line = np.polyfit(x[:n], y[:n], 1)
        spread = float((y[:n] - np.polyval(line, x[:n])).std())
        if abs(y[n] - np.polyval(line, x[n])) > TOLERANCE * spread:
            return n
    return len(x)


def extrapolated(sizes: Sequence[int], losses: Sequence[float], to: float) -> float:
    """The loss at a size, on the line through the accepted points of a curve (sizes falling, losses above 0)."""
    if len(sizes) < 2:
        return losses[0]
    n = accepted(sizes, losses)
    return math.exp(np.polyval(np.polyfit(np.log(sizes[:n]), np.log(losses[:n]), 1), math.log(to)))


def curve(errors: Sequence[float]) -> tuple[list[int], list[float]]:
    """The least error after all plays, after half of them, after a quarter, .., and these numbers of plays."""
    sizes = [len(errors)]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes, [max(min(*errors[:n], FAILED), 1 / FAILED) for n in sizes]


@part(
    "accept-then-stop",
    title="Search over levels with the solver whose short search promises the least error at its end (accept then stop)",
    source="Lin et al. 2024, Selecting large language model to fine-tune via rectified scaling law, arXiv:2402.02314",
    papers=(25,),
)
@dataclass(frozen=True)
class AcceptThenStop(Strategy):
    """log min error ~ a - b log plays, fitted to a short search with each solver from the most plays down, point by point until one
    is off the line; the solver of the lowest error on its line at the end of the search is gone on with.

    What the paper fine-tunes are pretrained networks, on more and more data; here the levels of solvers are searched with more
    and more plays. A solver whose standard levels are good is what the paper calls pre-learned: its curve is flat until enough
    is played to improve on them, and that part is left out of the fit. Half a search, a quarter of it, .. cost nothing beside it.

    search_by  the optimizer of levels
    first      plays with each solver before one is selected
    """

    candidates: int = 500
    first: int = 16
    search_by: BlackBox = field(default_factory=RandomSearch)

    name = "accept-then-stop"
    columns = frozenset({"steps"})
    by_objective = True

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The short searches, one after the other, then the selected one."""
        made = {name: [c for c in done if c.state["solver"] == name] for name in solvers(space)}
        for name in made:
            yield from self._played(objective, space, name, made, self.first, seed)
        best = self.selected({name: [c.error for c in each] for name, each in made.items()})
        yield from self._played(objective, space, best, made, self.candidates, seed)

    def selected(self, errors: dict[str, list[float]]) -> str:
        """The solver with the least extrapolated error, of those of each solver's first plays."""
        end = self.candidates - self.first * (len(errors) - 1)
        return min(errors, key=lambda name: extrapolated(*curve(errors[name][: self.first]), max(end, self.first)))

    def _played(
        self, objective: Objective, space: Space, solver: str, made: dict[str, list[Candidate]], most: int, seed: int
    ) -> Iterator[Candidate]:
        """The plays of a solver's search, on from those that were made, up to so many of it and to `candidates` of all."""
        own = replace(space, bases=(solvers(space)[solver],), solver=solver)
        search = replace(self.search_by, candidates=most)
        for candidate in search.search(objective, own, list(made[solver]), seed):
            if sum(map(len, made.values())) >= self.candidates:
                return
            plan = replace(candidate.plan, recipe=replace(candidate.plan.recipe, strategy=self.name))
            made[solver].append(
                replace(candidate, plan=plan, strategy=self.name, state=candidate.state | {"solver": solver})
            )
            yield made[solver][-1]


def solvers(space: Space) -> dict[str, Plan]:
    """The best base of each solver that the bases are of, or of the space's own where they name none."""
    found: dict[str, Plan] = {}
    for plan in space.bases:
        if plan.recipe.solver is not None and plan.recipe.anchor is None:
            found.setdefault(plan.recipe.solver, plan)
    return found or ({} if space.solver is None else {space.solver: space.base})
