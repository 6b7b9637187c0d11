"""Whether a second, smaller network may take some of the rows: the exact mixture of images and one Gaussian in its place.

The Gaussian has the mixture's mean and its leading directions of variance: their denoisers agree at high noise, where
the component of a sample does not show yet, and differ below. It is trained, so to say, under another process, so that
each row has a time of its own network. Errors are paired RMSE to the reference of the mixture.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import torch

from fewer import GaussianMixture, Model, Plan, sample, standard
from fewer.blocks.policies.t_stitch import SmallNetwork
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.exact import NOISES, images, mixture_of, reference
from fewer.evaluate.cost.clock import clock_ratio
from fewer.evaluate.cost.price import plan_macs
from fewer.evaluate.statistics.interval import Interval
from fewer.models.schedules import VarianceExploding

RANK, ROWS, SMALL, BATCH = 8, 10, 2, 64


def merged(mixture: GaussianMixture, rank: int) -> GaussianMixture:
    """One Gaussian with the mixture's mean and covariance, of which `rank` directions are kept."""
    of = mixture.to(dtype=torch.float64)
    mean = of.weights @ of.means
    covariance = torch.zeros(of.dim, of.dim, dtype=torch.float64)
    for k, weight in enumerate(of.weights):
        along = of.basis[k] * (of.variances[k] - of.residual[k]) @ of.basis[k].T
        away = of.means[k] - mean
        covariance += weight * (along + of.residual[k] * torch.eye(of.dim) + torch.outer(away, away))
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(covariance))
    rest = values[rank:].mean()[None]
    return GaussianMixture(torch.ones(1), mean[None], vectors[None, :, :rank], values[None, :rank], rest, of.shape)


@cache
def both() -> Model:
    """The mixture under the scaled-linear process, with the Gaussian under the variance-exploding one."""
    one = merged(mixture_of(images()), RANK).to(dtype=torch.float32)
    small = Model.from_mixture(one, VarianceExploding(0.002, 200.0), name="one Gaussian", hash="one Gaussian")
    return replace(images(), others=(small,))


def mixed(sabotage: bool) -> Plan:
    """The large network's plan with the small one in its first rows; sabotage: at the large network's times."""
    plan = SmallNetwork(SMALL).apply(large_plan(ROWS), both())
    return misled(plan) if sabotage else plan


def misled(plan: Plan) -> Plan:
    """The plan whose rows of the small network have the large network's times, as far as the small one has such."""
    large, small = both().schedule, both().called(1).schedule
    most = float(small.time(small.tau_max))
    rows = (replace(row, t=min(float(large.time(row.tau)), most)) if row.network else row for row in plan.rows)
    return replace(plan, rows=tuple(rows))


def large_plan(calls: int) -> Plan:
    """DPM-Solver++(2M) of so many calls of the large network."""
    return standard("dpmpp-2m", images(), calls, "logsnr")


def ratio(plan: Plan, other: Plan, seed: int, noises: int = NOISES) -> Interval:
    """RMSE of a plan over that of another, each with its networks, to the mixture's reference, from the same noise."""
    return replace(reference(seed, noises=noises), model=both()).ratio(plan, other)


def beside(plan: Plan) -> Beside:
    """What the plan costs, of the large network's in all rows."""
    whole = large_plan(ROWS)
    mine, its = (partial(sample, both(), each, BATCH, batch=BATCH) for each in (plan, whole))
    return {
        "macs, share of the large network's": plan_macs(both(), plan) / plan_macs(both(), whole),
        "clock, share of the large network's": clock_ratio(mine, its, repeats=12, warmup=2),
    }


@claim(
    "small-network/not-worse",
    statement=f"One Gaussian in the first {SMALL} of {ROWS} rows in place of the mixture of ten makes the error at most 5 % "
    "larger (ratio of paired RMSE).",
    baseline="the mixture in all rows, same table and noise",
    below=1.05,
)
def not_worse(seed: int, sabotage: bool) -> Measured:
    """Sabotage: its times are not converted."""
    plan = mixed(sabotage)
    last = SmallNetwork(SMALL, "last").apply(large_plan(ROWS), both())
    measured = Measured(ratio(plan, large_plan(ROWS), seed), beside(plan))
    return measured.with_beside({"in the last rows instead": ratio(last, large_plan(ROWS), seed)})


@claim(
    "small-network/against-small",
    statement=f"With the mixture in the last {ROWS - SMALL} of {ROWS} rows alone the error is below half of that of the one "
    "Gaussian in all rows (ratio of paired RMSE).",
    baseline="the Gaussian in all rows, same table and noise",
    below=0.5,
)
def against_small(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the mixture in the first rows alone, as many."""
    rows, where = (ROWS - SMALL, "last") if sabotage else (SMALL, "first")
    plan = SmallNetwork(rows, where).apply(large_plan(ROWS), both())
    return Measured(ratio(plan, SmallNetwork(ROWS).apply(large_plan(ROWS), both()), seed), beside(plan))


@claim(
    "small-network/against-fewer-calls",
    statement=f"{ROWS} rows, the first {SMALL} of the small network, have a lower error than the fewer calls of the large "
    "network that as many multiply-accumulates pay for, rounded up (ratio of paired RMSE).",
    baseline=f"DPM-Solver++(2M) of {ROWS - SMALL + 1} calls of the large network on the same grid, same noise",
    below=1.0,
)
def against_fewer_calls(seed: int, sabotage: bool) -> Measured:
    """Sabotage: its times are not converted."""
    plan = mixed(sabotage)
    return Measured(ratio(plan, large_plan(ROWS - SMALL + 1), seed), beside(plan))
