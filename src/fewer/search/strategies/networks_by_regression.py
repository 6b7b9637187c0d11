"""Rows of two networks by regression: which row calls which follows from one recorded way, and its weights from a fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import torch

from fewer.blocks.policies.t_stitch import given_away
from fewer.errors import InputError
from fewer.plan import Plan, Row
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.passes import some_of
from fewer.search.recorded import Calls, Recorded, thinned
from fewer.search.refit import refitted
from fewer.search.row_fit import RowFit
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton, nearest, on_all_noises
from fewer.search.strategies.networks import Costs, row_costs
from fewer.search.strategies.regression import of_stage, row_fit
from fewer.search.strategy import NUMBERS, Candidate, Strategy
from fewer.solvers import compile_plan, places
from fewer.solvers.ode.ddim import DDIM


@part(
    "networks-by-regression",
    title="Rows, which of them call a second network, and all weights, by regression on the reference solution's way",
    source="this package; one network and then the other after Chen et al. 2024, Collaborative Decoding, "
    "arXiv:2411.17787, and Pan et al. 2024, T-Stitch, arXiv:2402.14167",
    papers=(279,),
)
@dataclass(frozen=True)
class NetworksByRegression(Strategy):
    """Where F calls of the first network fit the budget: N rows for some N from F + 1 to `longest` F.

    The second network is called once on each of at most `levels` states of the reference solution's way, which was recorded with
    the first one's outputs. From then on levels and networks of every N are chosen at no network call (`fewer.search.recorded`).
    The weights of the best `fits` of them are fitted to that way from the states that their own rows give
    (`fewer.search.refit`). From the best, Gauss-Newton moves levels and weights on the distance to the reference solution; not
    where its error is more than `worth` times that of F rows of the first network, chosen and fitted likewise, and no further
    where the first Jacobian does not bring it below the best plan of whole calls that there is: what is left of the evaluations
    is better spent on these then.

    limit    the budget
    whole    the best plan of whole calls; None where there is none
    noises   of the way
    lengths  numbers of rows that are tried, at most
    """

    limit: Limit | None = None
    whole: Plan | None = None
    levels: int = 32
    noises: int = 32
    longest: float = 2.0
    lengths: int = 8
    fits: int = 3
    worth: float = 1.0
    descent: GaussNewton = field(default_factory=lambda: GaussNewton(starts=1, trial=1, few=8, candidates=24, secant=6))

    name = "networks-by-regression"
    columns = NUMBERS | {"networks"}
    by_objective = True

    @property
    def candidates(self) -> int:
        """The fits, and the steps of the descent."""
        return self.fits + self.descent.candidates

    def within(self, limit: Limit, steps: Candidate | None) -> tuple[Strategy, ...]:
        """The same search under the limit, against the plan of whole calls."""
        return (replace(self, limit=limit, whole=None if steps is None else steps.plan),)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The better of the fits and, where it came to all noises, of the descent."""
        descent = of_stage(done, "descent")
        ends = [self.descent.choose(descent)] if on_all_noises(descent) else []
        return min([*of_stage(done, "rows"), *ends], key=lambda c: c.error)

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each fit, then one for each step of the descent; none where levels or weights are kept.

        Raises InputError without a limit.
        """
        if self.limit is None:
            raise InputError(f"{self.name} needs a budget in multiply-adds or milliseconds: give macs or ms")
        if space.keep & {"steps", "solver"}:
            return
        done = list(done)
        if not of_stage(done, "descent"):
            for candidate in self._fitted(objective, space, len(done)):
                done.append(candidate)
                yield candidate
        fits = of_stage(done, "rows")
        if not fits:
            return
        best = min(fits, key=lambda c: c.error)
        if best.error > self.worth * best.state["whole"]:
            return
        made, own = of_stage(done, "descent"), space.at(best.plan)
        steps = self.descent.search(objective, own, list(made), seed)
        while len(made) != self.descent.trial or self._ahead(objective, made[-1].plan):
            if (step := next(steps, None)) is None:
                return
            made.append(self._named(step.plan, step.error, {**step.state, "stage": "descent"}))
            yield made[-1]

    def _ahead(self, objective: Objective, plan: Plan) -> bool:
        """Whether a plan is nearer to the reference solution than that of whole calls, on the noises that descents begin on."""
        few = objective.first(self.descent.tried_on(len(objective)))
        return self.whole is None or nearest([few.squared_errors(each) for each in (plan, self.whole)]) == 0

    def _fitted(self, objective: Objective, space: Space, made: int) -> Iterator[Candidate]:
        """The fits after those that were made, of the least rests first."""
        fit = row_fit(objective, space, self.levels, self.noises)
        recorded = self._recorded(fit, space)
        whole, *of_both = self.shapes(recorded, space)
        best = sorted(of_both, key=lambda calls: calls.rest)[: self.fits]

        def plan_of(calls: Calls) -> Plan:
            return refitted(fit, planned(space, [recorded.taus[n] for n in calls.levels], calls.networks))

        if best[made:]:
            least = objective.score(plan_of(whole))
            for calls in best[made:]:
                plan = plan_of(calls)
                yield self._named(plan, objective.score(plan), {"stage": "rows", "whole": least})

    def _recorded(self, fit: RowFit, space: Space) -> Recorded:
        """The way of a fit with the second network's outputs on it; those of levels that it does not know stand for nothing."""
        way = thinned(fit.trajectory, self.levels)
        rule = space.base.rows[0].guidance
        first = known_from(way.taus.tolist(), space)
        second = torch.zeros_like(way.outputs)
        for n in range(first, len(way.outputs)):
            row = Row(float(way.taus[n]), {}, guidance=rule, network=1)
            second[n] = fit.objective.outputs(row, way.states[n].view_as(fit.objective.target)).flatten(1).cpu()
        return Recorded.of(way, [way.outputs, second])

    def shapes(self, recorded: Recorded, space: Space) -> list[Calls]:
        """As many rows of the first network as the budget pays for, then the best rows of both for each of some numbers."""
        known = known_from(recorded.taus, space)

        @cache
        def costs_of(rows: int) -> tuple[list[Costs], float]:
            return row_costs(self.limit, planned(space, recorded.taus[:rows], [0] * rows))

        def affords(rows: int, networks: Sequence[int]) -> bool:
            costs, room = costs_of(rows)
            return sum(cost[k] for cost, k in zip(costs, networks, strict=True)) <= room * (1 + 1e-12)

        whole = recorded.chosen(min(space.calls, recorded.calls), lambda networks: 1 not in networks)
        assert whole is not None
        most = min(int(self.longest * space.calls), recorded.calls)
        fitting = [rows for rows in range(space.calls + 1, most + 1) if affords(rows, [1] * rows)]
        some = some_of(range(space.calls + 1, space.calls + 1 + len(fitting)), self.lengths)
        found = [recorded.chosen(rows, partial(affords, rows), known) for rows in some]
        return [whole, *(calls for calls in found if calls is not None and 1 in calls.networks)]

    def _named(self, plan: Plan, error: float, state: dict[str, object]) -> Candidate:
        return Candidate(replace(plan, recipe=Recipe(strategy=self.name)), error, self.name, state)


def known_from(taus: Sequence[float], space: Space) -> int:
    """The first of falling levels that the second network knows, their number where it knows none."""
    top = space.model.called(1).schedule.tau_max + 1e-9
    return next((n for n, tau in enumerate(taus) if tau <= top), len(taus))


def planned(space: Space, taus: Sequence[float], networks: Sequence[int]) -> Plan:
    """First-order steps at these levels by these networks, under the guidance of the space's first row."""
    rule = space.base.rows[0].guidance
    plan = compile_plan(DDIM(), places(space.model, list(taus)), len(taus))
    plan = replace(plan, rows=tuple(replace(row, guidance=rule) for row in plan.rows), model=space.model.signature)
    return given_away(plan, space.model, [n for n, network in enumerate(networks) if network])
