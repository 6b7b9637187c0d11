"""Align Your Steps: levels of the least bound on what freezing the network between them does to the samples' law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from fewer.engine import play
from fewer.grids import Levels
from fewer.levels import tau_of_log_s
from fewer.models.ending import marked
from fewer.noise import Draw, Stream, unit_noise
from fewer.plan import Plan, Row, Start
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.on_levels import LevelStrategy, on_levels, solvers
from fewer.search.space import Space
from fewer.search.trajectory import NUMBERS, from_the_start, log_range

Matrix = NDArray[np.float64]
SEEN = 32  # noises by which the descent is stopped


@part(
    "ays",
    title="Levels of the least Kullback-Leibler bound of stochastic DDIM",
    source="Sabour et al. 2024, Align Your Steps, arXiv:2404.14507",
    papers=(123,),
)
@dataclass(frozen=True)
class AlignYourSteps(LevelStrategy):
    """Stochastic DDIM keeps D(x, s_i) fixed from level s_i to the next. By Girsanov's theorem the law of its paths is at
    most so far from the true reverse diffusion's, in nats,

        sum_i int_{s_{i-1}}^{s_i} s^-3 E|D(x_s, s) - D(x_{s_i}, s_i)|^2 ds,      x_{s_i} = x_s + sqrt(s_i^2 - s^2) z,

    both states on one forward path from data, for which the search's reference solutions stand. From `steps` levels of the
    EDM grid each level in turn goes to where the bound is least, no farther than `reach` of the gaps beside it, until a
    round lowers the bound by less than `tolerance`; where more calls are asked for each interval is then halved and all
    is done again, up to four times `steps`. After every round log s is interpolated to the number of calls and played
    on 32 noises: the bound counts every nat alike, whether one sees it or not, so the descent is stopped early, where
    the samples' error has not fallen for `patience` rounds, and the levels of its least are kept. They are played with
    each of a few solvers, since the authors use them with any.

    The authors draw s anew, by importance, for every trial. Here each of `paths` forward paths is seen at all of `grid`
    levels regular in log s, so that every trial has the same draws and costs no call: grid times paths evaluations in
    all, a play on 32 noises a round (mostly 5 to 20), and one play of each solver.
    """

    name = "ays"

    steps: int = 10
    reach: float = 0.25
    tolerance: float = 0.01
    patience: int = 3
    grid: int = 128
    paths: int = 64

    def levels_for(self, objective: Objective, space: Space, seed: int) -> Mapping[str, Sequence[float]]:
        """The levels where the descent was stopped, for every solver."""
        top, low = log_range(space.model)
        log_s = np.linspace(low, top, self.grid)
        costs = interval_costs(log_s, forward_differences(objective, space, log_s, self.paths, seed))
        return dict.fromkeys(solvers(space), self.stopped_early(objective, space, log_s, costs))

    def stopped_early(self, objective: Objective, space: Space, log_s: Levels, costs: Matrix) -> list[float]:
        """The levels of the descent that have the least error of samples, with the first of the solvers."""
        few = objective.first(SEEN)
        least, best, waited = np.inf, from_the_start(space.model, interpolated(log_s, space.calls)[:-1]), 0
        for at in self.descent(costs, log_s, space.calls):
            taus = from_the_start(space.model, interpolated(log_s[at], space.calls)[:-1])
            error = few.score(on_levels(space, taus, solvers(space)[0], self.name))
            waited += 1
            if error < least:
                least, best, waited = error, taus, 0
            if waited == self.patience:
                break
        return best

    def descent(self, costs: Matrix, log_s: Levels, calls: int) -> Iterator[list[int]]:
        """Rising grid indices of the levels, both ends among them: of the EDM grid, then after each round."""
        at = edm_indices(log_s, self.steps)
        yield at
        for _ in range(3):
            before, bound = np.inf, kl_bound(costs, at)
            while before - bound > self.tolerance * abs(bound):
                at = self.moved(costs, at)
                before, bound = bound, kl_bound(costs, at)
                yield at
            gaps = np.diff(at)
            if len(at) > calls or gaps.min() < 2:
                break
            at = sorted([*at, *(low + int(gap) // 2 for low, gap in zip(at, gaps, strict=False))])

    def moved(self, costs: Matrix, at: list[int]) -> list[int]:
        """Each inner level in turn where the bound of both intervals beside it is least."""
        at = list(at)
        for i in range(1, len(at) - 1):
            low, here, high = at[i - 1 : i + 2]
            first = min(here, max(low + 1, here - max(1, int(self.reach * (here - low)))))
            last = max(here, min(high - 1, here + max(1, int(self.reach * (high - here)))))
            both = costs[low, first : last + 1] + costs[first : last + 1, high]
            at[i] = first + int(both.argmin())
        return at


def edm_indices(log_s: Levels, steps: int, rho: float = 7.0) -> list[int]:
    """The steps + 1 indices of rising log s nearest to levels regular in s^(1/rho), no two alike."""
    low, high = float(np.exp(log_s[0] / rho)), float(np.exp(log_s[-1] / rho))
    places = np.interp(rho * np.log(np.linspace(low, high, steps + 1)), log_s, np.arange(len(log_s)))
    at = [round(place) for place in places.tolist()]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + 1)
    at[-1] = len(log_s) - 1
    for i in range(len(at) - 1, 0, -1):
        at[i - 1] = min(at[i - 1], at[i] - 1)
    return at


def forward_differences(objective: Objective, space: Space, log_s: Levels, paths: int, seed: int) -> Matrix:
    """(G, G): E|D_g - D_h|^2 over all values of a sample, for forward paths of the reference solutions at rising levels."""
    model = space.model
    n = min(paths, len(objective))
    size = max(1, min(objective.batch, NUMBERS // 4 // (len(log_s) * objective.target[0].numel())))
    looks = [_look(space, tau) for tau in tau_of_log_s(log_s)]
    variances = np.diff(np.exp(2 * log_s), prepend=0.0)
    gram = torch.zeros(len(log_s), len(log_s), dtype=torch.float64)
    for first in range(0, n, size):
        data = objective.target[first : min(first + size, n)]
        labels = None if objective.labels is None else objective.labels[first : first + len(data)]
        numbers = Stream.PATHS.numbers(len(data), first)
        x = data
        seen = []
        with torch.inference_mode():
            for g, (look, variance) in enumerate(zip(looks, variances, strict=True)):
                x = x + float(variance) ** 0.5 * unit_noise(seed, numbers, model.shape, Draw.ROW(g), model.device)
                seen.append(play(model, look, (1 - float(look.start.tau)) * x, labels).flatten().cpu())
                objective.counter.add(look.nfe * len(data))
        d = torch.stack(seen).double()
        d = d - d.mean(0)  # differences stay, and the products below lose less
        gram += d @ d.T / n
    squares = gram.diagonal()
    return np.asarray((squares[:, None] + squares[None, :] - 2 * gram).clamp(min=0).numpy())


def _look(space: Space, tau: float) -> Plan:
    """The plan of one call that ends in the data prediction at level tau: x - tau u = D."""
    row = Row(tau, {0: -tau}, guidance=space.base.rows[0].guidance)
    return Plan(Start(tau, tau), (row,), model=marked(space.model.schedule))


def interval_costs(log_s: Levels, differences: Matrix) -> Matrix:
    """(G, G): int_{s_a}^{s_b} s^-3 E|D_s - D_{s_b}|^2 ds of the interval from index a up to b, by trapezoids in log s."""
    integrand = np.exp(-2 * log_s)[:, None] * differences
    pieces = (integrand[1:] + integrand[:-1]) / 2 * np.diff(log_s)[:, None]
    up_to = np.concatenate([np.zeros((1, len(log_s))), np.cumsum(pieces, 0)])
    return np.asarray(np.diagonal(up_to)[None, :] - up_to)


def kl_bound(costs: Matrix, at: list[int]) -> float:
    """The bound in nats of the levels at rising indices: the sum of their intervals' costs."""
    return float(sum(costs[a, b] for a, b in pairwise(at)))


def interpolated(log_s: Levels, n: int) -> Levels:
    """n + 1 falling values of log s, interpolated at regular places between those given (rising), ends included."""
    places = np.linspace(0, len(log_s) - 1, n + 1)
    return np.interp(places, np.arange(len(log_s)), log_s)[::-1]
