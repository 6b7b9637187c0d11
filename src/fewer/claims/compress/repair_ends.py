"""Repairs by errors as they are at the end of sampling, against those by errors of outputs.

A bundled network at half of its multiply-adds by first-order changes of the loss, repaired by least squares, then by as many
gradient steps of each. The figure is the root mean square difference of samples from the full network's, by the plan that a light
network's evidence has, over that of the baseline, from the same noises that no part has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from fewer import sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import against, light, repaired, subject
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.evidence import CALLS
from fewer.compression.recover.distillation import Distillation, EndDistillation, Error
from fewer.compression.recover.ends import Ends
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.taylor import Taylor
from fewer.compression.subject import Subject
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.noise import Stream, unit_noise

STEPS, NOISES, HALF = 100, 512, 0.5


def samples(of: Subject, network: nn.Module, seed: int) -> Tensor:
    """Samples (n, *shape) of a network in the place of the subject's own."""
    noise = unit_noise(seed, Stream.HELD_OUT.numbers(NOISES), of.model.shape)
    plan = standard("dpmpp-2m", of.model, CALLS, "logsnr")
    return sample(of.with_network(network), plan, noise=noise, labels=of.model.labels(NOISES), batch=64)


@dataclass(frozen=True)
class Upside(Distillation):
    """Errors count most at frequencies where samples have least, and at levels where nothing comes of them: the sabotage."""

    def _error(self, subject: Subject) -> Error:
        ends = Ends.of(subject.calibration)
        return Ends(ends.model, ends.power.mean().square() / ends.power).relative


def by_ends(name: str, seed: int, sabotage: bool) -> Measured:
    """Sabotage: the spectrum is turned over."""
    of = subject(seed, name)
    cut_, kept = light(of, Taylor(), Knapsack(), HALF)
    fitted = repaired(of, cut_, kept, LeastSquares())
    one, other = (
        repaired(of, fitted, kept, each)
        for each in ((Upside if sabotage else EndDistillation)(STEPS), Distillation(STEPS))
    )
    whole = samples(of, of.network, seed)
    mine, its = (squared_errors(samples(of, each, seed), whole) for each in (one, other))
    return Measured(ratio(mine, its), {"of outputs on states": against(of, one, other)})


for name in ("digits", "dit-digits"):
    claim(
        f"end-distillation/{name}",
        statement=f"At half of {name}'s multiply-adds, {STEPS} steps by errors as they are at the end of sampling leave samples "
        f"in {CALLS} calls nearer to the full network's than as many by errors of outputs (ratio of paired RMSE).",
        baseline=f"`distillation`, the same cut, least squares, {STEPS} steps and states",
        below=1.0,
        tier="full",
    )(partial(by_ends, name))
