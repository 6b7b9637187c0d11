"""Levels of a distilled model's calls, and the share of the noise that each step keeps, by evolution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fewer.levels import s_of_tau, tau_of_s
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy
from fewer.solvers import compile_plan, places
from fewer.solvers.sde.ancestral import renoised
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector

Numbers = NDArray[np.float64]
TOP = 20.0  # s of a start from pure noise, from where steps in log s are counted
LEAST = 1e-3  # of a step in log s


@dataclass(frozen=True)
class Kept(OneLevelACall):
    """x' = (1 - tau') D + tau' (r eps + sqrt(1 - r^2) z): each step keeps a share r of the noise, the last all."""

    shares: tuple[float, ...]
    order: int = 0

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        for (here, there), share in zip(pairwise(levels), (*self.shares, 1.0), strict=True):
            out = trace.call(x, here)
            x = renoised(trace, out.data, out.noise, there, share)
        return x


@part(
    "renoising",
    title="Levels and shares of fresh noise of distilled models, by evolution",
    source="this package; the evolution as in Li et al. 2023, AutoDiffusion, arXiv:2309.10438",
)
@dataclass(frozen=True)
class Renoising(Strategy):
    """The level of each call but the first, and the share of the noise that each step but the last keeps: 2 (N - 1) numbers.

    Each candidate is one of the `keep` best so far, the standard plans among them, moved: every step in log s by a factor
    exp(spread xi), every share by spread xi held in [0, 1], or set to 0 or 1 with a chance of `ends`; `spread` falls to a fifth.
    """

    name = "renoising"
    columns = frozenset({"steps", "solver"})
    by_objective = True
    renoises = True

    keep: int = 8
    spread: float = 0.5
    ends: float = 0.15
    candidates: int = 160

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn; candidate k depends only on the seed, k and those before it."""
        free = [column for column in ("steps", "solver") if column not in space.keep]
        if space.calls < 2 or not free:
            return
        bases = [numbers_of(plan) for plan in space.bases]
        pool = [(c.error, np.array(c.state["numbers"])) for c in done]
        # the bases' own scores, on these noises
        known = [(objective.score(plan), own) for plan, own in zip(space.bases[: self.keep], bases, strict=False)]
        for k in range(len(pool), self.candidates):
            rng = np.random.default_rng([seed, k])
            best = sorted([*known, *pool], key=lambda entry: entry[0])[: self.keep]
            parent = best[int(rng.integers(len(best)))][1]
            moved = self.moved(parent, self.spread * 0.2 ** (k / self.candidates), free, rng)
            plan = plan_of(moved, space)
            error = objective.score(plan)
            pool.append((error, moved))
            yield Candidate(plan, error, self.name, {"numbers": moved.tolist()})

    def moved(self, numbers: Numbers, spread: float, free: Sequence[str], rng: np.random.Generator) -> Numbers:
        """Numbers near these."""
        steps, shares = np.split(numbers, 2)
        if "steps" in free:
            steps = np.maximum(steps * np.exp(spread * rng.normal(size=len(steps))), LEAST)
        if "solver" in free:
            shares = np.clip(shares + spread * rng.normal(size=len(shares)), 0, 1)
            ends = rng.random(len(shares)) < self.ends
            shares = np.where(ends, rng.integers(0, 2, size=len(shares)), shares)
        return np.concatenate([steps, shares])


def numbers_of(plan: Plan) -> Numbers:
    """Steps in log s from each call to the next, and the shares of the noise that these keep.

    A step x' = a x + b u keeps a tau + b (1 - tau) ... of eps: with x = (1 - tau) D + tau eps and u = eps - D the weight of eps
    is a tau + b, and the share that over tau'.
    """
    taus = [float(row.tau) for row in plan.rows]
    logs = [math.log(TOP if tau == 1 else s_of_tau(tau)) for tau in taus]
    steps = [max(a - b, LEAST) for a, b in pairwise(logs)]
    weights = [
        float((row.a or {n: 1.0}).get(n, 0.0)) * taus[n] + float(row.b.get(n, 0.0))
        for n, row in enumerate(plan.rows[:-1])
    ]
    shares = [min(max(weight / tau, 0.0), 1.0) for weight, tau in zip(weights, taus[1:], strict=True)]
    return np.array([*steps, *shares])


def plan_of(numbers: Numbers, space: Space) -> Plan:
    """The plan of these numbers, from the level that the base starts at."""
    steps, shares = np.split(numbers, 2)
    start = float(space.base.rows[0].tau)
    log_s, taus = math.log(TOP if start == 1 else s_of_tau(start)), [start]
    low = s_of_tau(space.model.schedule.tau_min)
    for left, step in zip(range(len(steps) - 1, -1, -1), steps.tolist(), strict=True):
        log_s = max(log_s - step, math.log(low) + left * LEAST)
        taus.append(min(float(tau_of_s(math.exp(log_s))), taus[-1] * (1 - 1e-9)))
    plan = compile_plan(Kept(tuple(shares.tolist())), places(space.model, taus), space.calls, "renoised")
    return space.adopt(plan, Recipe(None, strategy=Renoising.name))


def is_renoising(plan: Plan) -> bool:
    """Whether each row of a plan goes on from its own state and output alone, as those here do."""
    return all(set(row.a or {n: 1.0}) <= {n} and set(row.b) <= {n} for n, row in enumerate(plan.rows))
