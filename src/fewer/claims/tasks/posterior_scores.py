"""What the model's own samples say of a sampler of posteriors, without the posterior."""

from __future__ import annotations

from fewer.claims.claim import Measured, claim
from fewer.claims.tasks.posterior_beds import problem
from fewer.evaluate.posteriors import energy_distances, energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.search.posterior_pairs import made_pairs
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.mmps import MMPS

PAIRS, EACH, CALLS, NEAR = 768, 8, 10, 0.1


@claim(
    "posterior-fidelity/own-samples",
    statement="By pairs of the model's own samples and measurements of them alone, energy scores tell how much nearer one sampler "
    "is to the exact posteriors than another: difference of scores less half the difference of energy distances, in units of the "
    f"latter, mean over {PAIRS} pairs of inpainting; within {NEAR:g} of 0.",
    baseline="energy distances to the closed-form posteriors; MMPS and DiffPIR of a tenth of its strength at 10 calls, mixture in "
    "16 dimensions",
    above=-NEAR,
    below=NEAR,
    tier="full",
)
def own_samples(seed: int, sabotage: bool) -> Measured:
    """Sabotage: each measurement is paired with another's sample."""
    case = problem(16, "inpaint")
    pairs = made_pairs(case.model, case.operator, case.noise, PAIRS, seed)
    truth = pairs.x.roll(int(sabotage), 0)
    mine, its = (case.samples(pairs.y, each, CALLS, EACH, seed) for each in (MMPS(), DiffPIR(80.0)))
    scores = energy_scores(mine, truth) - energy_scores(its, truth)
    half = (energy_distances(mine, pairs.posteriors, seed) - energy_distances(its, pairs.posteriors, seed)) / 2
    beside: dict[str, Interval | float] = {
        "difference of scores": student(scores.tolist()),
        "half the difference of distances": student(half.tolist()),
    }
    return Measured(student(((scores - half) / float(half.mean().abs())).tolist()), beside)
