"""A solver for each step: schedules of steps and choices, found with a predictor of their error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fewer.errors import InputError
from fewer.levels import log_s, tau_of_log_s
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.on_levels import free_levels
from fewer.search.space import Space
from fewer.search.strategies.usf_choices import DERIVATIVES, ORDERS, PREDICTIONS, Choice, StepChoices
from fewer.search.strategies.usf_predictor import Array, Predictor
from fewer.search.strategy import Candidate, Strategy
from fewer.solvers import compile_plan, places

_APART = 0.02  # in log s, that neighbouring levels keep


@dataclass(frozen=True)
class Schedule:
    """Log s of the levels below the start, falling, and one choice a call."""

    logs: tuple[float, ...]
    choices: tuple[Choice, ...]

    def features(self) -> Array:
        """Numbers that a predictor sees: log s in units of 1, one of 0 and 1 for each choice that could be made."""
        marks = [
            [
                *(choice.predicts == kind for kind in PREDICTIONS),
                *(choice.order == order for order in ORDERS),
                choice.derivatives == "full",
                choice.corrector,
                choice.before,
            ]
            for choice in self.choices
        ]
        return np.array([*self.logs, *itertools.chain(*marks)], dtype=np.float64)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Schedule:
        """Read a schedule that `to_state` has written."""
        return cls(tuple(state["logs"]), tuple(Choice(**choice) for choice in state["choices"]))

    def to_state(self) -> dict[str, Any]:
        """The schedule as values of JSON."""
        return {"logs": list(self.logs), "choices": [asdict(choice) for choice in self.choices]}


@part(
    "per-step",
    title="Time, prediction, order, derivatives, starting point and corrector of each step, by predictor and evolution",
    source="Liu et al. 2023, A unified sampling framework for solver searching (USF, S3), arXiv:2312.07243",
    papers=(234,),
)
@dataclass(frozen=True)
class PerStep(Strategy):
    """Schedules of one `Choice` and one time a step, scored by their paired error on the first `few` noises.

    The first `first` are the best standard grids with equal choices for all steps, and random ones. Then, `rounds`
    times, a predictor of log error is fitted to all that were measured, `generations` of a population of `population`
    evolve under it (which costs no network call), and the `batch` best of them that are new are measured. At the end
    the `last` best are measured on all noises, and the best of those is chosen.

    The authors' predictor is a recurrent network trained to rank, which scores with Frechet distances to data; here it
    is a Gaussian process on the encoded schedule. Their choice of how a step's length enters its weights is left to
    the exact integral.
    """

    name = "per-step"
    columns = frozenset({"steps", "solver"})

    first: int = 80
    rounds: int = 8
    batch: int = 20
    population: int = 200
    generations: int = 10
    few: int = 32
    last: int = 6

    @property
    def candidates(self) -> int:
        """All that are measured."""
        return self.first + self.rounds * self.batch + self.last

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn, which depend on the seed and those before them only."""
        free_levels(space, self.name)
        if "solver" in space.keep:
            raise InputError("strategy per-step finds the solver, which keep holds fixed")
        few = objective.first(min(self.few, len(objective)))
        known = [(Schedule.from_state(c.state), c.error) for c in done if not c.state["last"]]
        while len(known) < self.first + self.rounds * self.batch:
            schedules = self._batch(space, known, seed)
            for schedule in schedules:
                plan = play_as(space, schedule)
                error = few.rmse(plan)
                known.append((schedule, error))
                yield Candidate(plan, error, self.name, {**schedule.to_state(), "last": False})
            if not schedules:  # every schedule there is has been measured
                break
        ranked = sorted(known, key=lambda entry: entry[1])[: self.last]
        for schedule, _ in ranked[sum(c.state["last"] for c in done) :]:
            plan = play_as(space, schedule)
            yield Candidate(plan, objective.rmse(plan), self.name, {**schedule.to_state(), "last": True})

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best on all noises; before any was played there, the best on the few."""
        return super().choose([c for c in done if c.state["last"]] or done)

    def _batch(self, space: Space, known: list[tuple[Schedule, float]], seed: int) -> list[Schedule]:
        """The schedules to measure next, without those of an unfinished batch that are known."""
        if len(known) < self.first:
            return self._begin(space, np.random.default_rng([seed, 0]))[len(known) :]
        spent = (len(known) - self.first) % self.batch
        before = known[: len(known) - spent]
        rng = np.random.default_rng([seed, len(before)])
        return self._evolve(space, before, rng)[spent:]

    def _begin(self, space: Space, rng: np.random.Generator) -> list[Schedule]:
        grids = [logs_of(space, plan) for plan in space.bases]
        alike = [
            Choice(predicts, order, corrector=corrector)
            for predicts, order, corrector in itertools.product(PREDICTIONS, (2, 3), (False, True))
        ]
        schedules = [Schedule(grid, (choice,) * space.calls) for grid in grids[:3] for choice in alike]
        schedules = schedules[: self.first // 2]
        while len(schedules) < self.first:
            logs = grids[int(rng.integers(len(grids)))]
            schedule = Schedule(logs, tuple(_random(rng) for _ in range(space.calls)))
            schedules.append(self._moved(space, schedule, rng))
        return schedules

    def _evolve(self, space: Space, known: list[tuple[Schedule, float]], rng: np.random.Generator) -> list[Schedule]:
        """The most promising new schedules; parents are the better half of each generation."""
        finite = [(schedule, error) for schedule, error in known if math.isfinite(error) and error > 0]
        worst = np.quantile([error for _, error in finite], 0.9)  # what is hopeless need not be distinguished
        predict = Predictor.fit(
            np.stack([schedule.features() for schedule, _ in finite]),
            np.log([min(error, worst) for _, error in finite]),
            space.calls - 1,
        )
        measured = {schedule for schedule, _ in known}
        pool = [schedule for schedule, _ in sorted(known, key=lambda entry: entry[1])[: self.population // 2]]
        seen: dict[Schedule, float] = {}
        for _ in range(self.generations):
            children: list[Schedule] = []
            while len(children) < self.population:
                mother, father = (pool[int(i)] for i in rng.integers(len(pool), size=2))
                children.append(self._moved(space, self._crossed(space, mother, father, rng), rng))
            pool = list(dict.fromkeys([*pool, *children]))
            scores = predict(np.stack([schedule.features() for schedule in pool]))
            seen |= dict(zip(pool, scores.tolist(), strict=True))
            pool = [pool[int(i)] for i in np.argsort(scores)[: self.population // 2]]
        fresh = sorted((s for s in seen if s not in measured), key=lambda schedule: seen[schedule])
        return fresh[: self.batch]

    def _crossed(self, space: Space, a: Schedule, b: Schedule, rng: np.random.Generator) -> Schedule:
        """Each step with its level from either parent."""
        mine = rng.random(space.calls) < 0.5
        logs = [x if own else y for x, y, own in zip(a.logs, b.logs, mine[1:], strict=True)]
        choices = tuple(x if own else y for x, y, own in zip(a.choices, b.choices, mine, strict=True))
        return Schedule(_falling(space, logs), choices)

    def _moved(self, space: Space, schedule: Schedule, rng: np.random.Generator) -> Schedule:
        """Half of the levels moved by 2 to 20 % of the mean gap, and one choice in ten made anew."""
        gap = (_top(space) - schedule.logs[-1]) / space.calls if schedule.logs else 1.0
        size = 0.2 * gap * 10 ** -rng.random()
        shifts = rng.normal(0, size, space.calls - 1) * (rng.random(space.calls - 1) < 0.5)
        logs = [log + float(shift) for log, shift in zip(schedule.logs, shifts, strict=True)]
        choices = tuple(_redrawn(choice, rng) if rng.random() < 0.1 else choice for choice in schedule.choices)
        return Schedule(_falling(space, logs), choices)


def _random(rng: np.random.Generator) -> Choice:
    return Choice(
        PREDICTIONS[int(rng.integers(len(PREDICTIONS)))],
        ORDERS[int(rng.integers(len(ORDERS)))],
        DERIVATIVES[int(rng.integers(len(DERIVATIVES)))],
        bool(rng.random() < 0.5),
        bool(rng.random() < 0.1),
    )


def _redrawn(choice: Choice, rng: np.random.Generator) -> Choice:
    """One of the five decisions drawn anew."""
    name = ("predicts", "order", "derivatives", "corrector", "before")[int(rng.integers(5))]
    return replace(choice, **{name: getattr(_random(rng), name)})


def _top(space: Space) -> float:
    model = space.model
    return float(log_s(min(model.start, 1 - model.schedule.tau_min)))


def _falling(space: Space, logs: list[float]) -> tuple[float, ...]:
    """The levels in falling order, apart from each other and from the start."""
    falling: list[float] = []
    for log in sorted(logs, reverse=True):
        falling.append(min(log, (falling[-1] if falling else _top(space)) - _APART))
    return tuple(falling)


def logs_of(space: Space, plan: Plan) -> tuple[float, ...]:
    """Log s of a plan's levels below its start."""
    return _falling(space, [float(log_s(row.tau)) for row in plan.rows[1:]])


def play_as(space: Space, schedule: Schedule) -> Plan:
    """The plan of a schedule, from the model's start, with the guidance of the space's rows."""
    taus = [space.model.start, *tau_of_log_s(np.array(schedule.logs)).tolist()]
    plan = compile_plan(StepChoices(schedule.choices), places(space.model, taus), space.calls, PerStep.name)
    return space.adopt(plan, Recipe(strategy=PerStep.name))
