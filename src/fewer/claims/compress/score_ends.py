"""Units chosen by where samples end, against units chosen by the loss that networks are trained by.

A bundled network at half of its multiply-adds, by the same knapsack, repaired by least squares alone. The figure is the root mean
square difference of samples from the full network's, by the plan that a light network's evidence has, over that of the baseline,
from the same noises that no part has seen. Beside it stands what the outputs are off on states of all levels alike.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import Reversed, against, light, repaired, subject, turned
from fewer.claims.compress.repair_ends import HALF, samples
from fewer.compression import Score
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.costs import Costs
from fewer.compression.evidence import CALLS
from fewer.compression.masks import Learnt, MaskLearner
from fewer.compression.masks.best import BetterEnd
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.taylor import EndGaussNewton
from fewer.compression.subject import Subject
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.registry import resolve


class Backwards(BetterEnd):
    """The choice with the best and the worst units of each group exchanged."""

    def learn(self, subject: Subject, costs: Costs) -> Learnt:
        """Importance is greatest where that of `better-end` is least."""
        found = super().learn(subject, costs)
        return replace(found, importance=turned(found.importance))


BROKEN: dict[str, Score | MaskLearner] = {"end-gauss-newton": Reversed(EndGaussNewton()), "better-end": Backwards()}


def by_ends(name: str, by: str, other: str, seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least important units stay."""
    of = subject(seed, name)
    mine = BROKEN[by] if sabotage else resolve("compress", by)
    cuts = (light(of, score, Knapsack(), HALF) for score in (mine, resolve("compress", other)))
    one, two = (repaired(of, network, kept, LeastSquares()) for network, kept in cuts)
    whole = samples(of, of.network, seed)
    errors = (squared_errors(samples(of, each, seed), whole) for each in (one, two))
    return Measured(ratio(*errors), {"of outputs on states": against(of, one, two)})


def ends_claim(by: str, how: str, network: str, other: str) -> None:
    """Register that a score leaves less to repair than another."""
    claim(
        f"{by}/{network}-against-{other}",
        statement=f"At half of the multiply-adds of {network}, cut {how} and repaired by least squares, samples in {CALLS} calls "
        f"are nearer to the full network's than by `{other}` (ratio of paired RMSE).",
        baseline=f"`{other}`, the same knapsack and least squares",
        below=1.0,
        tier="full",
    )(partial(by_ends, network, by, other))


ENDS, EITHER = "by where samples end", "by where samples end if that leaves less than half to repair, else by `taylor`"
ends_claim("end-gauss-newton", ENDS, "digits", "taylor")
ends_claim("end-gauss-newton", ENDS, "digits", "gauss-newton")
ends_claim("end-gauss-newton", ENDS, "cifar16-unet", "gauss-newton")
ends_claim("better-end", EITHER, "digits", "end-gauss-newton")
ends_claim("better-end", EITHER, "cifar16-unet", "taylor")
