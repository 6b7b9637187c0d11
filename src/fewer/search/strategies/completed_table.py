"""Random levels ranked by a table of plans and noises that is measured in part and completed by a low rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.plan import Plan
from fewer.registry import part
from fewer.search.blackbox.numbers import Numbers
from fewer.search.completion import Matrix, completed
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy

PART, WHOLE = "part", "whole"  # stages: plans on some noises, and the best of them on all
_FAILED = 1e30  # the largest squared error that is kept

Noises = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Play:
    """A plan to be played on the noises `at`, and its row (n,) of the table, nan where it was not played yet."""

    plan: Plan
    row: Matrix
    at: Noises
    stage: str

    def made(self, objective: Objective, strategy: str) -> Candidate:
        """The candidate, scored by these noises and those before."""
        errors = bounded(picked(objective, self.at).squared_errors(self.plan)) if len(self.at) else np.empty(0)
        rmse = float(np.sqrt(np.append(self.row[~np.isnan(self.row)], errors).mean()))
        return Candidate(self.plan, rmse, strategy, {"stage": self.stage, "errors": errors.tolist()})


@part(
    "completed-table",
    title="Random search over levels on few noises each, ranked by the low-rank completion of the table of errors",
    source="Gu, Song, Yin & Zhang 2023, Low rank matrix completion via robust alternating minimization in nearly linear time, "
    "arXiv:2302.11068",
    papers=(332,),
)
@dataclass(frozen=True)
class CompletedTable(Strategy):
    """|error| of plan i from noise j ~ (U V')_ij, a table of rank k: of rank 1 how bad the plan is, times how hard the noise is.

    Of `draws` plans with random levels, as those of `random-search`, each is played on a `share` of the noises, random ones of
    which every noise has as many plans. The table that these are entries of is completed (`fewer.search.completion`): how hard a
    noise is shows on all plans that had it. The `finalists` of the least mean over a whole row are then played on the other
    noises, too. All of this is repeated with new plans until `candidates` are made, and the best finalist is chosen. Of rank 0
    nothing is completed, and plans are ranked by what was measured of them: on the exact mixtures of the claim that chose the same
    plans, so that what is gained there over random search is by the few noises.
    """

    candidates: int = 500
    draws: int = 40
    share: float = 0.125
    finalists: int = 4
    rank: int = 1

    name = "completed-table"
    columns = frozenset({"steps"})

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates on some noises, then the finalists on all, round by round."""
        plays = self.plays(Numbers.of(space, self.name, 0.0), len(objective), seed)
        for k, play in enumerate(islice(plays, self.candidates)):
            candidate = done[k] if k < len(done) else play.made(objective, self.name)
            play.row[play.at] = candidate.state["errors"]
            if k >= len(done):
                yield candidate

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best of those on all noises; before there are any, of all."""
        return super().choose([c for c in done if c.state["stage"] == WHOLE] or done)

    def plays(self, numbers: Numbers, noises: int, seed: int) -> Iterator[Play]:
        """What to play next, where the rows of the plays before have been filled in; the start is the first plan."""
        d, each = len(numbers.start), max(1, round(self.share * noises))
        for n in range(self.candidates if d else 1):  # one call has no level to move
            rng = np.random.default_rng([seed, n])
            points = rng.random((self.draws if d else 1, d))
            if n == 0:
                points[0] = numbers.start
            plans, table = [numbers.at_box(x) for x in points], np.full((len(points), noises), np.nan)
            for plan, row, at in zip(plans, table, spread(len(plans), noises, each, rng), strict=True):
                yield Play(plan, row, at, PART)
            for i in np.argsort(means(table, self.rank, rng), kind="stable")[: self.finalists]:
                yield Play(plans[i], table[i], np.flatnonzero(np.isnan(table[i])), WHOLE)


def spread(plans: int, noises: int, each: int, rng: np.random.Generator) -> list[Noises]:
    """Which noises each plan is played on: random ones among those with the fewest plans before."""
    played, chosen = np.zeros(noises), []
    for _ in range(plans):
        at = np.sort(np.lexsort((rng.random(noises), played))[:each])
        played[at] += 1
        chosen.append(at)
    return chosen


def means(table: Matrix, rank: int, rng: np.random.Generator) -> Matrix:
    """The mean distance of each row (m,) of a table of squared errors (m, n), inf of plans that failed.

    What is nan is completed; of rank 0 it counts as the mean of what was measured in its row.
    """
    failed = (table >= _FAILED).any(1)
    found = np.full(len(table), np.inf)
    if not failed.all():
        distances = np.sqrt(table[~failed])
        whole = completed(distances, rank, rng) if rank else np.nanmean(distances, 1, keepdims=True)
        found[~failed] = np.where(np.isnan(distances), whole, distances).mean(1)
    return found


def picked(objective: Objective, at: Noises) -> Objective:
    """Some of the noises, with the same counter."""
    labels = None if objective.labels is None else objective.labels[at]
    return replace(objective, noise=objective.noise[at], labels=labels, target=objective.target[at], trajectory=None)


def bounded(errors: Tensor) -> Matrix:
    """Squared errors of which none is infinite or nan."""
    found: Matrix = torch.nan_to_num(errors, nan=_FAILED).clamp(max=_FAILED).numpy()
    return found
