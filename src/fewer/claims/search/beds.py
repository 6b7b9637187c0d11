"""Searches of levels and noise on networks whose errors are known, by the distance of samples to the true distribution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fewer import Plan, sample, standard
from fewer.claims.beds import OTHER_NOISE, SAYS, Bed, bed, mean_of
from fewer.claims.broken import KeepsTheWorst
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.search.fitted import Dearest
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.reference import reference_plan
from fewer.guidance import guide
from fewer.noise import Stream, unit_noise
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.ays import AlignYourSteps
from fewer.search.strategies.evolution import Evolution
from fewer.search.strategy import Strategy

FEW, TOY, MANY, FINE, SEEN = 4, 10, 256, 128, 512
GRIDS = ("uniform", "trailing", "quadratic", "beta", "logsnr", "lu", "karras", "exponential")  # hand-crafted
DISTANCES = "difference of the energy distances to the class's true distribution"


@dataclass(frozen=True)
class Unfit(KeepsTheWorst, Evolution):
    """Evolution that keeps the worst."""


@dataclass
class ByDistance(Objective):
    """Plans are scored by the energy distance of their samples to data, as the paper's are by the Frechet distance."""

    def rmse(self, plan: Plan) -> float:
        """The distance of samples (n, *shape) to as many draws of the truth, averaged over classes."""
        assert self.labels is not None
        made, classes = self.samples(plan), self.labels.unique().tolist()
        pairs = ([x[self.labels == label].flatten(1).double() for x in (made, self.target)] for label in classes)
        return mean_of(energy_distance(*pair) for pair in pairs).value


def true_flow(on: Bed, seed: int) -> Objective:
    """Noises of a choice, with the samples that the truth's own flow ends in from them: what the network should have made."""
    truth = on.flawed.true_model(on.model.schedule)
    noise, labels = unit_noise(seed, Stream.CHOICE.numbers(SEEN), on.model.shape), on.labels(SEEN)
    target = sample(truth, guide(reference_plan(truth, FINE), 1.0), noise=noise, labels=labels)
    return Objective(on.model, noise, labels, target)


def data(on: Bed, seed: int) -> ByDistance:
    """Noises of a choice, with draws of the truth."""
    noise = unit_noise(seed, Stream.CHOICE.numbers(SEEN), on.model.shape)
    return ByDistance(on.model, noise, on.labels(SEEN), on.draws(seed + OTHER_NOISE, SEEN).float())


def found_by(strategy: Strategy, of: Objective, base: Plan, seed: int) -> Plan:
    """The plan that a strategy chooses, which keeps the base's solver."""
    space = Space(of.model, (base,), frozenset({"solver"}), base.recipe.solver)
    return strategy.choose(list(strategy.search(of, space, [], seed))).plan


def against(on: Bed, mine: Plan, its: Plan, seed: int) -> Measured:
    """Samples of one plan against those of another, with both distances."""
    x, y = on.made(mine, seed), on.made(its, seed)
    return Measured(on.nearer(x, y, seed), {"distance": on.distance(x, seed), "baseline's": on.distance(y, seed)})


def hand_made(on: Bed, solver: str, calls: int, seed: int) -> Plan:
    """The hand-crafted grid with which a solver's samples are nearest to the truth, on noise of its own."""
    return on.plain(solver, calls, on.best({grid: on.plain(solver, calls, grid) for grid in GRIDS}, seed))


@claim(
    "evolution/rough",
    of=(("search", "evolution"), ("search", "autodiffusion")),
    statement=f"On a network that is rough in time, {FEW} time steps that were evolved bring samples nearer to the data "
    f"than uniform ones: {DISTANCES}; beside, the same against the best hand-crafted grid, and with the error to the true flow's "
    "samples for fitness.",
    baseline=f"DDIM of {FEW} uniform steps; {SAYS['rough']}; the fitness is the energy distance of {SEEN} samples to the data, "
    "as the paper's is the Frechet distance; of the paper's conditions uniform steps that are far from the best are missing",
    below=0.0,
)
def evolved(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps the worst."""
    on = bed("rough")
    base = on.plain("ddim", FEW, "uniform")
    strategy = Unfit() if sabotage else Evolution()
    found, paired = (found_by(strategy, of(on, seed), base, seed) for of in (data, true_flow))
    beside: Beside = {
        "less the best hand-crafted grid's": against(on, found, hand_made(on, "ddim", FEW, seed), seed).figure,
        "by paired error": against(on, paired, base, seed).figure,
    }  # fmt: skip
    return against(on, found, base, seed).with_beside(beside)


def mends(name: str, seed: int, sabotage: bool) -> Measured:
    """Fresh noise against none. The broken variant takes steps so long that they err more than they mend."""
    on = bed(name)
    return against(on, on.plain("ancestral", 4 if sabotage else MANY), on.plain("ddim", MANY), seed)


for name, where in (("early", "of the noisiest levels"), ("drifting", "of all levels")):
    claim(
        f"ancestral/mends-{name}",
        statement=f"At {MANY} steps fresh noise mends what errors {where} have added up to: samples are nearer to the data: "
        f"{DISTANCES}.",
        baseline=f"DDIM on the same {MANY} levels; {SAYS[name]}",
        below=0.0,
    )(partial(mends, name))


@claim(
    "ays/stochastic",
    statement=f"With the stochastic DDIM that its bound is of, at {TOY} steps on an exact network of two-dimensional data, "
    f"optimised levels bring samples nearer to the data than hand-crafted schedules: {DISTANCES}.",
    baseline="the same sampler on the hand-crafted grid that is best on other noise; exact mixture of three classes in the plane",
    below=0.0,
)
def stochastic(seed: int, sabotage: bool) -> Measured:
    """The broken variant looks for the largest bound."""
    on = bed("exact-overlapping")
    base = on.plain("ancestral", TOY)
    strategy = Dearest() if sabotage else AlignYourSteps()
    found = found_by(strategy, true_flow(on, seed), on.plain("ddim", TOY), seed)
    levels = [float(row.tau) for row in found.rows]
    mine = guide(standard("ancestral", on.model, TOY, levels), 1.0)
    its = hand_made(on, "ancestral", TOY, seed)
    measured = against(on, mine, its, seed)
    return measured.with_beside({"on logsnr": on.distance(on.made(base, seed), seed)})
