"""AutoDiffusion's two-stage evolution: against its first stage alone, and as the baseline of the joint search."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fewer import standard
from fewer.claims.broken import reversed_weights
from fewer.claims.bundled import reference
from fewer.claims.claim import Measured, claim
from fewer.claims.search.joint import SAMPLER, best_of, limit, problem, searched
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.statistics.interval import Interval
from fewer.search.limit import Limit
from fewer.search.space import Space
from fewer.search.strategies.autodiffusion import AutoDiffusion
from fewer.search.strategies.evolution import Evolution
from fewer.search.strategies.joint import Joint
from fewer.search.strategy import Candidate

SEEDS, NOISES = 10, 24  # of the full comparison


@dataclass(frozen=True)
class Unfitting(AutoDiffusion):
    """AutoDiffusion that keeps the worst."""

    def choose(self, done: list[Candidate]) -> Candidate:
        """The least fit within the budget."""
        return max((c for c in done if "runs" in c.state), key=lambda candidate: candidate.error)


@claim(
    "autodiffusion/against-steps",
    statement="On dit-digits, within the multiply-adds of 4 calls of DDIM, times and skipped layers evolved together have a lower "
    "error than times alone (ratio of paired RMSE).",
    baseline="evolution over 4 times with the whole network, as many network evaluations; same noise",
    below=1.0,
)
def evolved(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least fit is taken."""
    name, calls, spent = "dit-digits", 4, 6000
    of = problem(name, seed, 12)
    space = Space(of.model, (standard("ddim", of.model, calls, "uniform"),), solver="ddim")
    both = (Unfitting if sabotage else AutoDiffusion)(
        Limit(of.model, "macs", calls * call_macs(of.model)), population=20, first=40
    )
    mine = best_of(both, of, space, spent, seed)
    alone = best_of(Evolution(population=20), of, space, spent, seed)
    return Measured(reference(name, seed).ratio(mine, alone))


@claim(
    "autodiffusion/against-joint",
    of=(("search", "joint"), ("search", "autodiffusion")),
    statement="On dit-digits the joint search comes to the final error of AutoDiffusion's 500 candidates with at most a fifth of "
    "its network evaluations (median share over ten seeds, infinite where that error is not met with as many).",
    baseline="AutoDiffusion with the same noises, budget and solver",
    below=0.2,
    tier="full",
)
def a_fifth(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the joint search's plans with reversed weights. The interval is of order statistics, 97.9 % for ten."""
    shares = sorted(share_needed(s, sabotage) for s in range(seed, seed + SEEDS))
    middle = (shares[SEEDS // 2 - 1] + shares[SEEDS // 2]) / 2
    return Measured(Interval(middle, shares[1], shares[-2], SEEDS))


def share_needed(seed: int, sabotage: bool) -> float:
    """Network evaluations of the joint search over AutoDiffusion's, to the latter's final error on the search's noises."""
    name = "dit-digits"
    whole, space = searched(name, seed)
    of = whole.first(NOISES).apart()
    theirs = AutoDiffusion(limit(name))
    goal = theirs.choose(list(theirs.search(of, replace(space, solver=SAMPLER[name][0]), [], seed))).error
    spent = of.evaluations
    of.counter.reset()
    for candidate in Joint(limit(name)).search(of, space, [], seed):
        used = of.evaluations
        plan = reversed_weights(candidate.plan) if sabotage else candidate.plan
        if used > spent:
            break
        if whole.first(NOISES).rmse(plan) <= goal:
            return used / spent
    return math.inf
