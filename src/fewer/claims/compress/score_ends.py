"""Units chosen by where samples end, against units chosen by the loss that networks are trained by.

A bundled network at half of its multiply-adds, by the same knapsack, repaired by least squares alone. The figure is the root mean
square difference of samples from the full network's, by the plan that a light network's evidence has, over that of the baseline,
from the same noises that no part has seen. Beside it stands what the outputs are off on states of all levels alike.
"""

from __future__ import annotations

from functools import partial

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import Reversed, against, light, repaired, subject
from fewer.claims.compress.repair_ends import HALF, samples
from fewer.compression import Score
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.evidence import CALLS
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.taylor import EndGaussNewton, GaussNewton, Taylor
from fewer.evaluate.statistics.paired import ratio, squared_errors


def by_ends(name: str, baseline: Score, seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least important units stay."""
    of = subject(seed, name)
    scores = (Reversed(EndGaussNewton()) if sabotage else EndGaussNewton(), baseline)
    cuts = (light(of, score, Knapsack(), HALF) for score in scores)
    one, other = (repaired(of, network, kept, LeastSquares()) for network, kept in cuts)
    whole = samples(of, of.network, seed)
    mine, its = (squared_errors(samples(of, each, seed), whole) for each in (one, other))
    return Measured(ratio(mine, its), {"of outputs on states": against(of, one, other)})


BASELINES: dict[str, Score] = {"taylor": Taylor(), "gauss-newton": GaussNewton()}

for name, whose in (("digits", "digits'"), ("cifar16-unet", "cifar16-unet's")):
    for by, baseline in BASELINES.items():
        claim(
            f"end-gauss-newton/{name}-against-{by}",
            statement=f"Cut to half of its multiply-adds by where samples end and repaired by least squares, {whose} samples in "
            f"{CALLS} calls are nearer to the full network's than by `{by}` (ratio of paired RMSE).",
            baseline=f"`{by}`, the same knapsack and least squares",
            below=1.0,
            tier="full",
        )(partial(by_ends, name, baseline))
