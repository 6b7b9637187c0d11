"""Rows, passes, scales, levels and weights of guided plans under one budget of passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from fewer.plan import Plan
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.passes import constant, passing, pattern_of, patterns, scale_of, scaled
from fewer.search.ranking import Ranking
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.joint import with_rows
from fewer.search.strategy import NUMBERS, Candidate, Strategy


@part(
    "guided-rows",
    title="Which rows make both passes, with their scales, levels and weights, under one budget of passes",
    source="this package; rows of one pass after Kynkaanniemi et al. 2024, arXiv:2404.07724, held passes after "
    "Castillo et al. 2023, arXiv:2312.12487",
    papers=(105, 326),
)
@dataclass(frozen=True)
class GuidedRows(Strategy):
    """First which rows make the second pass, then everything that is a number in the best such plans.

    A row of one pass pays for another row. The patterns of `fewer.search.passes` with the passes of the space's base, each
    on the solvers and grids of the `grids` best standard plans, have their scales fitted by one step of Gauss-Newton on
    the `few` first noises: a second pass that is left out is made up for by larger scales elsewhere. They race for the
    lowest error. Then Gauss-Newton moves levels, weights and scales together, for `trial` iterations at a time: of the base
    itself, whose rows make as many passes as they can, and of the `starts` best patterns that differ in their rows of two
    passes, on a quarter of the noises; of the `finals` best of those, on all noises; and to its end, of the best.

    The target is the objective's, the reference solution under constant guidance. Raises InputError for a base whose rows are
    not classifier-free guided.
    """

    name = "guided-rows"
    columns = NUMBERS | {"passes"}
    from_plans = True
    by_objective = True

    grids: int = 2
    few: int = 16
    starts: int = 3
    finals: int = 2
    trial: int = 4
    candidates: int = 250

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each pattern, then one for each iteration of Gauss-Newton; at most `candidates`."""
        done = list(done)
        short = objective.first(max(32, len(objective) // 4))
        left = max(self.candidates - len(done), 0)
        for candidate in islice(self._stages(objective, short, space, done, seed), left):
            done.append(candidate)
            yield candidate

    def _stages(
        self, objective: Objective, short: Objective, space: Space, done: list[Candidate], seed: int
    ) -> Iterator[Candidate]:
        """The race, the first descents, the finals, and the end of the best; `done` grows by each candidate."""
        yield from self._race(objective, short, space, scale_of(space.base), done)
        for pattern, plan in self._begin(space, done).items():
            first = GaussNewton(starts=1, trial=self.trial, candidates=self.trial)
            yield from self._descend(first, short, space.at(plan), {"stage": "few", "pattern": pattern}, done, seed)
        finals = self._finals(objective, done)
        for pattern, plan in finals.items():
            final = GaussNewton(starts=1, trial=1, candidates=self.trial + 1)
            yield from self._descend(final, objective, space.at(plan), {"stage": "all", "pattern": pattern}, done, seed)
        if finals:
            ends = _ends(done, "all")
            best = min(finals, key=lambda pattern: ends[pattern].error)
            whole, state = GaussNewton(starts=1, trial=1), {"stage": "all", "pattern": best}
            yield from self._descend(whole, objective, space.at(finals[best]), state, done, seed)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best end of a descent on all noises; before there is one, the best of all."""
        ends = _ends(done, "all")
        best = [GaussNewton().choose([c for c in done if _is(c, "all", pattern)]) for pattern in ends]
        return min(best or done, key=lambda c: c.error)

    def _race(
        self, objective: Objective, short: Objective, space: Space, scale: float, done: list[Candidate]
    ) -> Iterator[Candidate]:
        """The best plan of every pattern that is not done, with its error."""
        known = [c for c in done if c.state.get("stage") == "race"]
        race, few = Ranking(short), objective.first(self.few)
        if known:  # the best of an interrupted race is played again
            race.score(min(known, key=lambda c: c.error).plan)
        for pattern in patterns(space.base.nfe):
            if any(c.state["pattern"] == pattern for c in known):
                continue
            remade = (with_rows(space.model, base, len(pattern)) for base in space.bases[: self.grids])
            plans = [scaled(few, passing(plan, pattern, scale)) for plan in remade if plan is not None]
            scores = [(score.ranked_by, n) for n, plan in enumerate(plans) if (score := race.score(plan)) is not None]
            if scores:
                error, n = min(scores)
                yield Candidate(plans[n], error, self.name, {"stage": "race", "pattern": pattern})

    def _begin(self, space: Space, done: list[Candidate]) -> dict[str, Plan]:
        """Starts of the first descents, by pattern: the base, the best patterns that differ in more than held passes, and
        the plans that the space says to begin with.
        """
        best: dict[str, Candidate] = {}
        for candidate in sorted((c for c in done if c.state.get("stage") == "race"), key=lambda c: c.error):
            best.setdefault(candidate.state["pattern"].replace("h", "1"), candidate)
        some = list(best.values())[: self.starts]
        # a solver fitted to the model is for all rows guided, as the search's own noises were played
        bases = [plan for plan in space.bases if space.around(plan).anchor is None]
        standard = {constant(plan.nfe): plan for plan in bases[:1]} | {c.state["pattern"]: c.plan for c in some}
        return standard | {pattern_of(plan): plan for plan in space.starts}

    def _finals(self, objective: Objective, done: list[Candidate]) -> dict[str, Plan]:
        """The first descents' ends that are best on all noises, by pattern."""
        plans = {pattern: c.plan for pattern, c in _ends(done, "few").items()}
        errors = {pattern: objective.score(plan) for pattern, plan in plans.items()}
        return {pattern: plans[pattern] for pattern in sorted(errors, key=errors.__getitem__)[: self.finals]}

    def _descend(
        self, strategy: GaussNewton, objective: Objective, space: Space, state: dict[str, str], done: list[Candidate],
        seed: int,
    ) -> Iterator[Candidate]:  # fmt: skip
        """The candidates of a descent that are not done; `state` names its stage and pattern."""
        descent = [c for c in done if state.items() <= c.state.items()]
        for step in strategy.search(objective, space, descent, seed) if space.names else ():
            recipe = replace(step.plan.recipe, strategy=self.name, passes=state["pattern"])
            yield Candidate(replace(step.plan, recipe=recipe), step.error, self.name, step.state | state)


def _is(candidate: Candidate, stage: str, pattern: str) -> bool:
    return candidate.state.get("stage") == stage and candidate.state["pattern"] == pattern


def _ends(done: list[Candidate], stage: str) -> dict[str, Candidate]:
    """The last candidate of each descent of a stage, by pattern."""
    return {c.state["pattern"]: c for c in done if c.state.get("stage") == stage}
