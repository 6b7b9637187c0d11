"""Whether what the data leave open of the weights finds the samples that the network should not have made."""

from __future__ import annotations

from functools import cache, partial

from fewer import standard, uncertainty
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.claims.uncertainty.beds import POINTS, bed
from fewer.epistemic.uncertainty import Uncertainty
from fewer.evaluate.statistics.selective import auroc, selective_risk

NETWORKS, SAMPLES, CALLS, KEPT = 24, 1024, 12, 0.8
BED = (
    f"a fully connected network trained on {POINTS} points of a mixture in the plane, {CALLS} calls of ddim, {SAMPLES} samples; "
    "bad are those where the true density is below that of all but a hundredth of true draws"
)
METHODS = ("random-weights", "last-layer", "bayesdiff")


@cache
def doubts(method: str, number: int) -> Uncertainty:
    """The samples of a network with their deviations."""
    found = bed(number)
    plan = standard("ddim", found.model, CALLS, "uniform")
    return uncertainty(found.model, plan, SAMPLES, method=method, data=found.points, batch=SAMPLES)


def judged(method: str, number: int, sabotage: bool) -> tuple[float, float, float]:
    """AUROC, and the share of bad samples among all and among those that are kept; sabotage: scores of other samples."""
    doubt = doubts(method, number)
    bad, score = bed(number).bad(doubt.samples), doubt.score
    score = score.roll(1) if sabotage else score
    return auroc(score, bad), float(bad.double().mean()), selective_risk(score, bad, KEPT)


def numbers(seed: int) -> range:
    """The networks of a seed."""
    return range(NETWORKS * seed, NETWORKS * (seed + 1))


def finds_bad_samples(method: str, seed: int, sabotage: bool) -> Measured:
    """Mean AUROC over networks."""
    area, share, kept = zip(*(judged(method, k, sabotage) for k in numbers(seed)), strict=True)
    left = f"of those left when the most doubtful {100 * (1 - KEPT):.0f} % go"
    return Measured(mean(area), {"share of bad samples": mean(share), left: mean(kept)})


for name in METHODS:
    claim(
        f"{name}/finds-bad-samples",
        statement="A bad sample has the higher score than a good one more often than by chance (mean AUROC over "
        f"{NETWORKS} networks; beside, what is left when doubtful samples are dropped): {BED}.",
        baseline="chance, 0.5",
        above=0.5,
        tier="full",
    )(partial(finds_bad_samples, name))


@claim(
    "random-weights/against-last-layer",
    statement="A random subset of all weights finds bad samples better than the last layer's weights do (mean difference of AUROC "
    f"over {NETWORKS} networks): {BED}.",
    baseline="replays under draws of the last layer's weights, as many, of the same posterior",
    above=0.0,
    tier="full",
)
def against_last_layer(seed: int, sabotage: bool) -> Measured:
    """Sabotage: scores of other samples."""
    mine = [judged("random-weights", k, sabotage)[0] for k in numbers(seed)]
    its = [judged("last-layer", k, False)[0] for k in numbers(seed)]
    gaps = [a - b for a, b in zip(mine, its, strict=True)]
    return Measured(mean(gaps), {"random weights": mean(mine), "last layer": mean(its)})
