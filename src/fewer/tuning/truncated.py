"""Truncated start: the levels in which the network would only say what a Gaussian says are not played."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.measures.reference import fine_plan
from fewer.noise import unit_noise
from fewer.parts import part, parts
from fewer.plan import Plan
from fewer.solvers import places
from fewer.steps import Range, levels
from fewer.tuning.gaussian_start import FromGaussian, Gaussian
from fewer.tuning.on_levels import best, free_levels, solvers
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate
from fewer.tuning.trajectory import guidance_of, log_range

_NOISES = 1 << 22  # number of the first noise that the Gaussian is fitted from: no search and no judge uses it


class Choice(NamedTuple):
    """s = sigma / alpha of the start, the Gaussian that it is from, and the solver and grid below it."""

    s: float
    kind: str
    solver: str
    grid: str

    @property
    def name(self) -> str:
        """As the plan is called: the Gaussian first, the grid last."""
        return f"{self.kind} {self.s:.4g} {self.solver} {self.grid}"


@part(
    "truncated",
    title="Truncated start from a fitted Gaussian; its level, Gaussian, solver and grid chosen on the model",
    source="Franzese et al. 2022, How Much is Enough? (the Gaussian auxiliary model)",
    papers=(212,),
)
@dataclass(frozen=True)
class Truncated:
    """What a start costs in s > S is saved, what the Gaussian misses there is paid: between them is a best S.

    Starts are of a Gaussian, diagonal or of principal components (`ranks`), or plain noise. The Gaussians are fitted to
    the user's data where there are any and the search is not guided, else to `samples` of the model itself from a fine
    plan of `calls` calls (samples x calls network evaluations, twice that under guidance); one stands for all classes.
    The plan's noise z is carried to S by the Gaussian's closed flow, so that errors stay paired. S goes over `levels`
    values, regular in log s, from below the model's start down to the data's mean deviation, then kind, solver and grid
    over what there is, one after another; and all again, in `rounds` rounds, with S moved by half as much each time. A
    trial is one play on all noises.
    """

    samples: int = 512
    calls: int = 12
    ranks: tuple[int, ...] = (8, 32, 128)
    levels: int = 8
    rounds: int = 2

    @property
    def candidates(self) -> int:
        """The most that the rounds try."""
        return self.rounds * (self.levels + 2 + len(self.ranks) + len(parts("solvers")) + len(parts("steps")))

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One coordinate after another; each trial that is new is a candidate. Raises InputError where steps are kept."""
        free_levels(space, "truncated")
        own = {name: made for name, made in space.anchors.items() if isinstance(made, FromGaussian)}
        made = own or self.anchors(problem, space, seed)
        errors = {candidate.plan.name: candidate.error for candidate in done}
        at = self._first(space, made)
        for turn in range(self.rounds):
            for field in Choice._fields:
                options = [at._replace(**{field: value}) for value in self._values(field, space, made, at, turn)]
                for choice in options:
                    plan = self.plan(space, made, choice)
                    if plan is not None and choice.name not in errors:
                        errors[choice.name] = problem.rmse(plan)
                        yield Candidate(plan, errors[choice.name], "truncated")
                at = min([at, *options], key=lambda choice: errors.get(choice.name, math.inf))

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best."""
        return best(done)

    def anchors(self, problem: Problem, space: Space, seed: int) -> dict[str, FromGaussian]:
        """A solver that starts from each of the Gaussians, by its name: the solver that is kept, or the first-order one."""
        data = self.data(problem, space, seed)
        ranks = sorted({min(rank, data[0].numel(), len(data) - 1) for rank in self.ranks})
        found = {"noise": Gaussian.point(data), "diagonal": Gaussian.diagonal(data)}
        found |= {f"pca-{rank}": Gaussian.principal(data, rank) for rank in ranks}
        solver = (space.solver or "ddim") if "solver" in space.keep else "ddim"
        return {name: FromGaussian(gaussian, space.model.start, solver) for name, gaussian in found.items()}

    def data(self, problem: Problem, space: Space, seed: int) -> Tensor:
        """What the Gaussians are fitted to: (n, *shape), the user's data or samples of the model."""
        guidance = guidance_of(space)
        if problem.data is not None and guidance in (None, 1):
            return problem.data
        model, plan = space.model, fine_plan(space.model, self.calls, guidance)
        problem.evaluations += plan.nfe * self.samples
        noise = unit_noise(seed, range(_NOISES, _NOISES + self.samples), model.shape, device=model.device)
        return sample(model, plan, noise=noise, labels=model.labels(self.samples), batch=problem.batch)

    def plan(self, space: Space, made: Mapping[str, FromGaussian], choice: Choice) -> Plan | None:
        """The plan of a choice; None where its grid cannot place so few calls."""
        span = Range(space.model.schedule, choice.s / (1 + choice.s))
        try:
            spots = places(space.model, levels(choice.grid, span, space.calls))
        except InputError:
            return None
        plan = replace(made[choice.kind], solver=choice.solver)(spots, space.calls)
        rows = [replace(row, guidance=own.guidance) for row, own in zip(plan.rows, space.base.rows, strict=True)]
        return replace(plan, rows=tuple(rows), name=choice.name, model=space.made_for)

    def _first(self, space: Space, made: Mapping[str, FromGaussian]) -> Choice:
        """Where the rounds begin: the richest Gaussian, and what the best of the bases has of solver and grid."""
        kind = list(made)[-1]
        words = [plan.name.split() for plan in space.bases]
        grids, own = {grid.name for grid in parts("steps")}, solvers(space)
        solver = next((word[0] for word in words if word[0] in own), own[0])
        grid = next((word[-1] for word in words if word[-1] in grids), "logsnr")
        return Choice(self._starts(space, made)[0], kind, solver, grid)

    def _values(
        self, field: str, space: Space, made: Mapping[str, FromGaussian], at: Choice, turn: int
    ) -> Sequence[Any]:
        """What a coordinate is tried at."""
        if field == "s":
            starts = self._starts(space, made)
            between = (starts[0] / starts[-1]) ** (0.5**turn / (len(starts) - 1)) if len(starts) > 1 else 1.0
            return starts if turn == 0 else [s for s in (at.s * between, at.s / between) if s < self._top(space)]
        if field == "kind":
            return list(made)
        return solvers(space) if field == "solver" else [grid.name for grid in parts("steps") if grid.ranked]

    def _starts(self, space: Space, made: Mapping[str, FromGaussian]) -> list[float]:
        """S from below the model's start to the data's mean deviation, regular in log s."""
        top, low = self._top(space), math.exp(log_range(space.model)[1])
        deviation = max(anchor.gaussian.deviation for anchor in made.values())
        low = max(min(deviation, top / 2), low)
        return [top * (low / top) ** (k / self.levels) for k in range(1, self.levels + 1)]

    def _top(self, space: Space) -> float:
        return math.exp(log_range(space.model)[0])
