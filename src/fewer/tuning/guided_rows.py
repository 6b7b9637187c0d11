"""Rows, passes, scales, levels and weights of guided plans under one budget of passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from fewer.parts import part
from fewer.plan import Plan
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.joint import with_rows
from fewer.tuning.passes import constant, passing, pattern_of, patterns, scale_of, scaled
from fewer.tuning.problem import Problem
from fewer.tuning.ranking import Ranking
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate


@part(
    "guided-rows",
    title="Which rows make both passes, with their scales, levels and weights, under one budget of passes",
    source="this package; rows of one pass after Kynkaanniemi et al. 2024, held passes after Castillo et al. 2023",
    papers=(105, 326),
)
@dataclass(frozen=True)
class GuidedRows:
    """First which rows make the second pass, then everything that is a number in the best such plans.

    A row of one pass pays for another row. The patterns of `fewer.tuning.passes` with the passes of the space's base, each
    on the solvers and grids of the `grids` best standard plans, have their scales fitted by one step of Gauss-Newton on
    the `few` first noises: a second pass that is left out is made up for by larger scales elsewhere. They race for the
    lowest error. Then Gauss-Newton moves levels, weights and scales together, for `trial` iterations at a time: of the base
    itself, whose rows make as many passes as they can, and of the `starts` best patterns that differ in their rows of two
    passes, on a quarter of the noises; of the `finals` best of those, on all noises; and to its end, of the best.

    The target is the problem's, the fine solution under constant guidance. Raises InputError for a base whose rows are
    not classifier-free guided.
    """

    grids: int = 2
    few: int = 16
    starts: int = 3
    finals: int = 2
    trial: int = 4
    candidates: int = 250

    frees_passes = True  # it is for guided plans whose guidance may change
    from_plans = True

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each pattern, then one for each iteration of Gauss-Newton; at most `candidates`."""
        done = list(done)
        short = problem.first(max(32, len(problem) // 4))
        left = max(self.candidates - len(done), 0)
        for found in islice(self._stages(problem, short, space, done, seed), left):
            done.append(found)
            yield found

    def _stages(
        self, problem: Problem, short: Problem, space: Space, done: list[Candidate], seed: int
    ) -> Iterator[Candidate]:
        """The race, the first descents, the finals, and the end of the best; `done` grows by each candidate."""
        yield from self._race(problem, short, space, scale_of(space.base), done)
        for pattern, plan in self._begin(space, done).items():
            yield from self._walk(problem, short, space, pattern, plan, done, seed, self.trial)
        finals = self._finals(problem, done)
        for pattern, plan in finals.items():
            yield from self._walk(problem, problem, space, pattern, plan, done, seed, self.trial + 1)
        if finals:
            ends = _ends(done, "all")
            best = min(finals, key=lambda pattern: ends[pattern].error)
            yield from self._walk(problem, problem, space, best, finals[best], done, seed)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best end of a descent on all noises; before there is one, the best of all."""
        return min(_ends(done, "all").values() or done, key=lambda c: c.error)

    def _race(
        self, problem: Problem, short: Problem, space: Space, scale: float, done: list[Candidate]
    ) -> Iterator[Candidate]:
        """The best plan of every pattern that is not done, with its error."""
        known = [c for c in done if c.state.get("stage") == "race"]
        race, few = Ranking(short), problem.first(self.few)
        if known:  # the best of an interrupted race is played again
            race.score(min(known, key=lambda c: c.error).plan)
        for pattern in patterns(space.base.nfe):
            if any(c.state["pattern"] == pattern for c in known):
                continue
            remade = (with_rows(space.model, base, len(pattern)) for base in space.bases[: self.grids])
            plans = [scaled(few, passing(plan, pattern, scale)) for plan in remade if plan is not None]
            scores = [(score.value, n) for n, plan in enumerate(plans) if (score := race.score(plan)) is not None]
            problem.evaluations += short.evaluations + few.evaluations
            short.evaluations = few.evaluations = 0
            if scores:
                error, n = min(scores)
                yield Candidate(plans[n], error, "guided-rows", {"stage": "race", "pattern": pattern})

    def _begin(self, space: Space, done: list[Candidate]) -> dict[str, Plan]:
        """Where the first descents start, by pattern: the base, the best patterns that differ in more than held passes, and
        the plans that the space says to begin with.
        """
        best: dict[str, Candidate] = {}
        for candidate in sorted((c for c in done if c.state.get("stage") == "race"), key=lambda c: c.error):
            best.setdefault(candidate.state["pattern"].replace("h", "1"), candidate)
        some = list(best.values())[: self.starts]
        # an anchor is known by the name that a plan begins with, which the first descent takes away
        bases = [plan for plan in space.bases if plan.name.split()[0] not in space.anchors]
        standard = {constant(plan.nfe): plan for plan in bases[:1]} | {c.state["pattern"]: c.plan for c in some}
        return standard | {pattern_of(plan): plan for plan in space.starts}

    def _finals(self, problem: Problem, done: list[Candidate]) -> dict[str, Plan]:
        """The first descents' ends that are best on all noises, by pattern."""
        plans = {pattern: c.plan for pattern, c in _ends(done, "few").items()}
        errors = {pattern: problem.rmse(plan) for pattern, plan in plans.items()}
        return {pattern: plans[pattern] for pattern in sorted(errors, key=errors.__getitem__)[: self.finals]}

    def _walk(
        self, problem: Problem, on: Problem, space: Space, pattern: str, plan: Plan, done: list[Candidate], seed: int,
        most: int | None = None,
    ) -> Iterator[Candidate]:  # fmt: skip
        """The candidates of Gauss-Newton from the plan that are not done, at most so many, on all noises or on some."""
        state = {"stage": "all" if on is problem else "few", "pattern": pattern}
        own = Space(space.model, (plan,), space.keep, space.solver, space.anchors)
        trial = 1 if on is problem else self.trial
        strategy = GaussNewton(starts=1, trial=trial) if most is None else GaussNewton(1, trial, candidates=most)
        walked = [c for c in done if state.items() <= c.state.items()]
        for found in strategy.search(on, own, walked, seed) if own.names else ():
            if on is not problem:
                problem.evaluations += on.evaluations
                on.evaluations = 0
            yield replace(found, strategy="guided-rows", state=found.state | state)


def _ends(done: list[Candidate], stage: str) -> dict[str, Candidate]:
    """The last candidate of each descent of a stage, by pattern."""
    return {c.state["pattern"]: c for c in done if c.state.get("stage") == stage}
