"""Guided rows by regression: every pass is weighed by itself, and the fit tells which rows need both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import ceil, comb, prod

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.pass_weights import Conditions
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.samplers import compiled
from fewer.search.elimination import eliminated
from fewer.search.objective import Objective
from fewer.search.pass_space import PassSpace, passes_of
from fewer.search.row_fit import BOTH, LABEL, Fitted, RowFit
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import SCORED, GaussNewton, on_all_noises
from fewer.search.strategies.regression import RowsByRegression, levels_of, of_stage, row_fit
from fewer.search.strategy import NUMBERS, Candidate, Strategy

VALUES = 8  # of samples, for each weight of a row, on which choices are compared at least


@part(
    "guided-regression",
    title="Which rows make both passes, and weights on each pass, by regression on the reference solution's way",
    source="this package; backward elimination after Efroymson 1960; rows of one pass after Kynkaanniemi et al. 2024, "
    "arXiv:2404.07724, weights on earlier passes after Castillo et al. 2023, arXiv:2312.12487",
    papers=(105, 326),
)
@dataclass(frozen=True)
class GuidedRegression(Strategy):
    """Under P passes, N rows of which P - N make both, for every N from P / 2 to P - 1 and the levels of several grids.

    For each N and grid, all choices of the rows that make both passes are fitted (`fewer.search.row_fit`, each pass a regressor),
    on the `few` first noises, and the best is taken. Where there are more than `most` choices, rows that all make both passes are
    fitted instead, and the second passes that are missed least are dropped (`fewer.search.elimination`). From the best fits of the
    `rows.starts` best numbers of rows, second passes that were found by dropping move to other rows as long as that lowers the
    error. From the best of these, and from plans that the space says to begin with, Gauss-Newton moves levels and all weights on
    the distance to the reference solution.

    rows     how rows are fitted, on how many grids, and from how many numbers of rows the search goes on; `rows` moves no levels
    descent  the Gauss-Newton of each start
    lengths  numbers of rows at most
    few      noises on which all choices are compared; more where these are fewer than eight values for each weight of a row
    most     choices that are all fitted, at most
    swaps    moves of second passes from each start, at most

    Raises InputError for a base whose rows are not classifier-free guided.
    """

    rows: RowsByRegression = field(default_factory=lambda: RowsByRegression(grids=2))
    descent: GaussNewton = field(default_factory=lambda: GaussNewton(starts=1, trial=1, few=8, candidates=12, secant=6))
    lengths: int = 6
    few: int = 4
    most: int = 40
    swaps: int = 4

    name = "guided-regression"
    columns = NUMBERS | {"passes"}
    from_plans = True
    by_objective = True

    @property
    def candidates(self) -> int:
        """Patterns, their fits, rounds of swaps, and steps of the descents."""
        return self.rows.grids * self.lengths + self.rows.starts * (1 + self.swaps + self.descent.candidates)

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each number of rows and grid, then one for each step from the best; none where weights are kept."""
        if not isinstance(space.base.rows[0].guidance, ClassifierFree):
            raise InputError(
                f"{self.name} needs classifier-free guidance in all rows; plan {space.base.name!r} has none"
            )
        if "solver" in space.keep:
            return
        done = list(done)
        for candidate in self._stages(objective, space, done, seed):
            done.append(candidate)
            yield candidate

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best choice of the descents that came to all noises; before there is one, the best of all."""
        starts = {c.state["start"] for c in of_stage(done, "descent")}
        ends = [steps for n in starts if on_all_noises(steps := of_stage(done, "descent", n))]
        scored = [c for c in done if SCORED in c.state]  # fits go by pairs, whatever the objective
        fits = [c for c in done if c.state["stage"] != "passes"] or done  # whose errors are on fewer noises
        return min([self.descent.choose(steps) for steps in ends] or scored or fits, key=lambda c: c.error)

    def kept(self, fit: RowFit, fitted: Fitted, passes: int) -> tuple[Conditions, ...]:
        """The passes of each row, so many in all, of a fit of rows with both passes each."""
        return eliminated(fit, fitted, passes)

    def _stages(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        fit = row_fit(objective, space, self.rows.levels, self.rows.noises, self.rows.ridge)
        passes, shapes = space.base.nfe, self._shapes(space)
        few = fit.first(max(self.few, ceil(VALUES * (1 + passes) / prod(space.model.shape))))
        for taus in shapes[len(of_stage(done, "passes")) :]:
            yield self._candidate(few, self._compared(fit, few, taus, passes), {"stage": "passes"})
        best = best_of_lengths(of_stage(done, "passes"))[: self.rows.starts]
        for n, start in enumerate(best):
            if not of_stage(done, "fit", n):
                fitted = fit(levels_of(start.plan), passes_of(start.plan))
                yield self._candidate(fit, fitted, {"stage": "fit", "start": n})
            if not self._compares_all(len(start.plan.rows), passes):
                yield from self._swapped(fit, n, of_stage(done, "fit", n)[0], done)
        fits = best_of_lengths([c for c in done if c.state["stage"] not in ("passes", "descent")])[: self.rows.starts]
        plans = [c.plan for c in fits]
        for n, plan in enumerate((*plans[:1], *space.starts, *plans[1:])):
            own = PassSpace(space.model, (plan,), space.keep)
            for step in self.descent.search(objective, own, of_stage(done, "descent", n), seed):
                yield self._named(step.plan, step.error, {"stage": "descent", "start": n, **step.state})

    def _compares_all(self, rows: int, passes: int) -> bool:
        """Whether all choices of the rows that make both passes are fitted."""
        return comb(rows, passes - rows) <= self.most

    def _compared(self, fit: RowFit, few: RowFit, taus: Sequence[float], passes: int) -> Fitted:
        """The fit on the few noises of rows at these levels, with the passes that are best, so many in all."""
        if not self._compares_all(len(taus), passes):
            return few(taus, self.kept(fit, fit(taus, [BOTH] * len(taus)), passes))
        best = here = Fitted()
        for rows in patterns(len(taus), passes):
            here = few(taus, rows, here)
            if not best.rows or here.rmse < best.rmse:
                best = here
        return best

    def _shapes(self, space: Space) -> list[tuple[float, ...]]:
        """Levels of every number of rows on every grid that places them."""
        passes, shapes = space.base.nfe, []
        lengths = range(-(-passes // 2), max(passes, 2))
        every = max(1, -(-len(lengths) // self.lengths))
        for plan in space.bases[: self.rows.grids]:
            for rows in lengths[::every]:
                shapes += placed(space, plan, rows)
        return list(dict.fromkeys(shapes))

    def _swapped(self, fit: RowFit, n: int, start: Candidate, done: list[Candidate]) -> Iterator[Candidate]:
        """Second passes moved to other rows, the best move at a time, while one lowers the error."""
        made = of_stage(done, "swap", n)
        here = made[-1] if made else start
        if len(made) == self.swaps or (made and made[-1].state["ended"]):
            return
        taus, rows = levels_of(here.plan), passes_of(here.plan)
        known = fit(taus, rows)
        for _ in range(self.swaps - len(made)):
            moves = (fit(taus, moved, known) for moved in neighbours(known.rows))
            found = min(moves, key=lambda each: each.rmse, default=known)
            if found.rmse >= here.error:
                yield replace(here, state={"stage": "swap", "start": n, "ended": True})
                return
            known, here = found, self._candidate(fit, found, {"stage": "swap", "start": n, "ended": False})
            yield here

    def _candidate(self, fit: RowFit, fitted: Fitted, state: dict[str, object]) -> Candidate:
        return self._named(fit.plan(fitted), fitted.rmse, state)

    def _named(self, plan: Plan, error: float, state: dict[str, object]) -> Candidate:
        pattern = "".join(str(len(row)) for row in passes_of(plan))
        return Candidate(replace(plan, recipe=Recipe(strategy=self.name, passes=pattern)), error, self.name, state)


def patterns(rows: int, passes: int) -> Iterator[tuple[Conditions, ...]]:
    """All choices of the rows that make both passes, so many passes in all.

    Each shares as many first rows with the one just before as with any before that, so that a fit of it makes no call twice.
    """
    for both in combinations(range(rows), passes - rows):
        yield tuple(BOTH if n in both else LABEL for n in range(rows))


def best_of_lengths(found: Sequence[Candidate]) -> list[Candidate]:
    """The best candidate of each number of rows, the best first."""
    best: dict[int, Candidate] = {}
    for candidate in sorted(found, key=lambda c: c.error):
        best.setdefault(len(candidate.plan.rows), candidate)
    return list(best.values())


def placed(space: Space, plan: Plan, rows: int) -> list[tuple[float, ...]]:
    """The levels of so many rows on a plan's grid, once; none where it cannot place them."""
    if plan.recipe.grid is None:
        return []
    try:
        made = compiled("ddim", space.model, rows, plan.recipe.grid, None)
    except InputError:
        return []
    return [levels_of(made)] if len(made.rows) == rows else []


def neighbours(rows: Sequence[Conditions]) -> list[tuple[Conditions, ...]]:
    """The rows with one second pass moved to another row."""
    pairs = [(i, j) for i, one in enumerate(rows) for j, other in enumerate(rows) if one == BOTH and other == LABEL]
    return [tuple(LABEL if n == i else BOTH if n == j else row for n, row in enumerate(rows)) for i, j in pairs]
