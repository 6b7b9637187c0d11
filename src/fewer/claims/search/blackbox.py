"""Black-box optimizers over the levels of a few-step plan, against random search at equal network evaluations.

Exact mixtures of the plane, one a repetition, with noises, start and generator of their own; errors are of the chosen plans on
noises that no search saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

from fewer import GaussianMixture, Model, Plan, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.reference import Reference
from fewer.claims.repeated import geometric_mean
from fewer.evaluate.reference import reference_plan
from fewer.models.schedules import betas, discrete
from fewer.noise import Stream
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.consensus import Consensus
from fewer.search.blackbox.coordinate_descent import CoordinateDescent
from fewer.search.blackbox.dual_descent import DualDescent
from fewer.search.blackbox.eps_shotgun import EpsShotgun
from fewer.search.blackbox.frank_wolfe import FrankWolfe
from fewer.search.blackbox.gfm import GradientFreePlus
from fewer.search.blackbox.hyperband import Hyperband
from fewer.search.blackbox.nngp import NNGP, NNGPStudentT
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy

NFE, NOISES, HELD_OUT, FINE, PLAYS = 5, 64, 256, 64, 40
REPEATS, CLOSE = 8, 48  # mixtures, and as many where the two are near each other
SOLVER, GRID = "dpmpp-2m", "uniform"


def where(mixtures: int) -> str:
    """What the searches run on."""
    plays = f"{PLAYS} plays of {NOISES} noises each"
    return f"{mixtures} exact mixtures in the plane, {SOLVER} at {NFE} calls from its {GRID} grid, {plays}"


BED = where(REPEATS)
MISSING = {
    "dual-descent": "Its paper's own advantage is with thousands of values: a search is missing that plays so many."
}


@cache
def plane(k: int) -> Model:
    """The exact model of mixture k."""
    mixture = GaussianMixture.random((1, 1, 2), components=6, seed=k)
    return Model.from_mixture(
        mixture, discrete(betas("scaled_linear"), name="scaled_linear"), name=f"plane {k}", hash=f"plane {k}"
    )


@cache
def fine() -> Plan:
    """The reference solution's plan, which is of the noise schedule alone."""
    return reference_plan(plane(0), FINE)


@cache
def held_out(k: int, seed: int) -> Reference:
    """Noises of the comparison."""
    return Reference.of(plane(k), seed, HELD_OUT, fine())


def space(k: int) -> Space:
    """The plans around the start."""
    return Space(plane(k), (standard(SOLVER, plane(k), NFE, GRID),), solver=SOLVER)


@dataclass
class Reversed(Objective):
    """Scores that are the smaller the worse a plan is."""

    def score(self, plan: Plan, rmse: float | None = None) -> float:
        """1 / RMSE."""
        return 1 / super().score(plan, rmse)


def found(strategy: Strategy, k: int, seed: int, kind: type[Objective] = Objective) -> Plan:
    """The plan that a strategy chooses of those that it makes for as many evaluations as `PLAYS` plays take."""
    of = Reference.of(plane(k), seed, NOISES, fine(), stream=Stream.CHOICE).problem(kind)
    done: list[Candidate] = []
    for candidate in strategy.search(of, space(k), [], seed):
        if of.evaluations > PLAYS * NOISES * NFE:
            break
        done.append(candidate)
    return strategy.choose(done).plan


@cache
def error(strategy: Strategy, k: int, seed: int, kind: type[Objective] = Objective) -> float:
    """The RMSE of its plan on the held-out noises."""
    return rmse(found(strategy, k, seed, kind), k, seed)


def rmse(plan: Plan, k: int, seed: int) -> float:
    """On the held-out noises."""
    return float(held_out(k, seed).errors(plan).mean().sqrt())


def against_random(strategy: Strategy, mixtures: int, seed: int, sabotage: bool) -> Measured:
    """The ratio of the errors over the mixtures. The broken variant takes the worse plan for the better."""
    kind = Reversed if sabotage else Objective
    return Measured(
        geometric_mean([error(strategy, k, seed, kind) / error(RandomSearch(), k, seed) for k in range(mixtures)])
    )


for strategy, mixtures in (
    (Hyperband(), REPEATS), (Consensus(), CLOSE), (GradientFreePlus(), REPEATS), (FrankWolfe(), CLOSE),
    (CoordinateDescent(), CLOSE), (Bayesian(), CLOSE), (EpsShotgun(), CLOSE), (NNGP(), CLOSE), (NNGPStudentT(), REPEATS),
    (DualDescent(), CLOSE),
):  # fmt: skip
    claim(
        f"{strategy.name}/against-random",
        statement="At equal network evaluations the levels that it finds have a lower error, on held-out noise, than those of "
        "random search (ratio of paired RMSE, geometric mean over the mixtures).",
        baseline=f"random-search from the same start; {where(mixtures)}",
        below=1.0,
        tier="full" if mixtures == CLOSE else "quick",
        condition=MISSING.get(strategy.name, ""),
    )(partial(against_random, strategy, mixtures))


@claim(
    "random-search/against-start",
    statement="The best of random levels has a lower error, on held-out noise, than the standard plan that the draws begin with "
    "(ratio of paired RMSE, geometric mean over the mixtures): a baseline that is worth beating.",
    baseline=BED,
    below=1.0,
)
def drawn(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps the worst."""
    kind = Reversed if sabotage else Objective
    starts = [rmse(space(k).base, k, seed) for k in range(REPEATS)]
    ratios = [error(RandomSearch(), k, seed, kind) / start for k, start in enumerate(starts)]
    return Measured(geometric_mean(ratios))
