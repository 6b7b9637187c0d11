"""Truncated start: the levels in which the network would only say what a Gaussian says are not played."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from fewer.calibrate.gaussian_start import FromGaussian, Gaussian
from fewer.evaluate.reference import reference_plan
from fewer.levels import tau_of_s
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part, parts
from fewer.search.objective import Objective
from fewer.search.on_levels import free_levels, grid_levels, ranked_grids, solvers
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy
from fewer.search.trajectory import guidance_of, log_range


class Choice(NamedTuple):
    """s = sigma / alpha of the start, the Gaussian that it is from, and the solver and grid below it."""

    s: float
    kind: str
    solver: str
    grid: str

    @property
    def name(self) -> str:
        """The name of the plan: the Gaussian first, the grid last."""
        return f"{self.kind} {self.s:.4g} {self.solver} {self.grid}"


@part(
    "truncated",
    title="Truncated start from a fitted Gaussian; its level, Gaussian, solver and grid chosen on the model",
    source="Franzese et al. 2022, How Much is Enough? (the Gaussian auxiliary model), arXiv:2206.05173",
    papers=(212,),
)
@dataclass(frozen=True)
class Truncated(Strategy):
    """A start at S saves the calls of s > S, and pays with the error of the Gaussian there: between them is a best S.

    Starts are of a Gaussian, diagonal or of principal components (`ranks`), or plain noise. The Gaussians are fitted to
    the user's data where there are any and the search is not guided, else to `samples` of the model itself from a fine
    plan of `calls` calls (samples x calls network evaluations, twice that under guidance); one stands for all classes.
    The plan's noise z is carried to S by the Gaussian's closed flow, so that errors stay paired. S goes over `levels`
    values, regular in log s, from below the model's start down to the data's mean deviation, then kind, solver and grid
    over what there is, one after another; and all again, in `rounds` rounds, with S moved by half as much each time. A
    trial is one play on all noises.
    """

    name = "truncated"
    columns = frozenset({"steps", "solver"})
    prepares = True
    by_objective = True

    samples: int = 512
    calls: int = 12
    ranks: tuple[int, ...] = (8, 32, 128)
    levels: int = 8
    rounds: int = 2

    @property
    def candidates(self) -> int:
        """The most that the rounds try."""
        return self.rounds * (self.levels + 2 + len(self.ranks) + len(parts("solvers")) + len(parts("grids")))

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One coordinate after another; each trial that is new is a candidate. Raises InputError where steps are kept."""
        free_levels(space, self.name)
        prepared = {name: anchor for name, anchor in space.anchors.items() if isinstance(anchor, FromGaussian)}
        gaussians = prepared or self.prepare(objective, space, seed)
        errors = {candidate.state["choice"]: candidate.error for candidate in done}
        at = self._first(space, gaussians)
        for turn in range(self.rounds):
            for field in Choice._fields:
                options = [at._replace(**{field: value}) for value in self._values(field, space, gaussians, at, turn)]
                for choice in options:
                    plan = self.plan(space, gaussians, choice)
                    if plan is not None and choice.name not in errors:
                        errors[choice.name] = objective.score(plan)
                        yield Candidate(plan, errors[choice.name], self.name, {"choice": choice.name})
                at = min([at, *options], key=lambda choice: errors.get(choice.name, math.inf))

    def prepare(self, objective: Objective, space: Space, seed: int) -> dict[str, FromGaussian]:
        """A solver that starts from each of the Gaussians, by its name: the solver that is kept, or the first-order one."""
        data = self.data(objective, space, seed)
        ranks = sorted({min(rank, data[0].numel(), len(data) - 1) for rank in self.ranks})
        fits = {"noise": Gaussian.point(data), "diagonal": Gaussian.diagonal(data)}
        fits |= {f"pca-{rank}": Gaussian.principal(data, rank) for rank in ranks}
        solver = (space.solver or "ddim") if "solver" in space.keep else "ddim"
        return {name: FromGaussian(gaussian, space.model.start, solver) for name, gaussian in fits.items()}

    def data(self, objective: Objective, space: Space, seed: int) -> Tensor:
        """Samples (n, *shape) that the Gaussians are fitted to: the user's data or samples of the model."""
        guidance = guidance_of(space)
        if objective.scoring.data is not None and guidance in (None, 1):
            return objective.scoring.data
        model, plan = space.model, reference_plan(space.model, self.calls, guidance)
        noise = unit_noise(seed, Stream.CALIBRATION.numbers(self.samples), model.shape, device=model.device)
        return replace(objective, noise=noise, labels=model.labels(self.samples)).samples(plan)

    def plan(self, space: Space, gaussians: Mapping[str, FromGaussian], choice: Choice) -> Plan | None:
        """The plan of a choice; None where its grid cannot place so few calls."""
        levels = grid_levels(space, choice.grid, tau_of_s(choice.s))
        if levels is None:
            return None
        plan = replace(gaussians[choice.kind], solver=choice.solver)(levels, space.calls).named(choice.name)
        return space.adopt(plan, Recipe(choice.solver, choice.grid, anchor=choice.kind, strategy=self.name))

    def _first(self, space: Space, gaussians: Mapping[str, FromGaussian]) -> Choice:
        """The first choice: the richest Gaussian, and the solver and grid of the best of the bases."""
        kind = list(gaussians)[-1]
        recipes, tried = [plan.recipe for plan in space.bases], solvers(space)
        solver = next((recipe.solver for recipe in recipes if recipe.solver in tried), tried[0])
        grid = next((recipe.grid for recipe in recipes if recipe.grid), "logsnr")
        return Choice(self._starts(space, gaussians)[0], kind, solver, grid)

    def _values(
        self, field: str, space: Space, gaussians: Mapping[str, FromGaussian], at: Choice, turn: int
    ) -> Sequence[Any]:
        """The values that a coordinate is tried at."""
        if field == "s":
            starts = self._starts(space, gaussians)
            between = (starts[0] / starts[-1]) ** (0.5**turn / (len(starts) - 1)) if len(starts) > 1 else 1.0
            return starts if turn == 0 else [s for s in (at.s * between, at.s / between) if s < self._top(space)]
        if field == "kind":
            return list(gaussians)
        return solvers(space) if field == "solver" else ranked_grids()

    def _starts(self, space: Space, gaussians: Mapping[str, FromGaussian]) -> list[float]:
        """S from below the model's start to the data's mean deviation, regular in log s."""
        top, low = self._top(space), math.exp(log_range(space.model)[1])
        deviation = max(anchor.gaussian.deviation for anchor in gaussians.values())
        low = max(min(deviation, top / 2), low)
        return [top * (low / top) ** (k / self.levels) for k in range(1, self.levels + 1)]

    def _top(self, space: Space) -> float:
        return math.exp(log_range(space.model)[0])
