"""Claims of the samplers of distilled models, on exact flow maps and on blurred ones."""

from __future__ import annotations

from functools import partial

import torch

from fewer import Plan, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.flow_maps import consistency_model, truth
from fewer.claims.repeated import mean
from fewer.evaluate.distances.energy import energy_difference
from fewer.models.model import Model
from fewer.solvers import Solver, compile_plan, places
from fewer.solvers.sde.consistency import Consistency, LatentConsistency
from fewer.solvers.sde.tcd import TrajectoryConsistency

CALLS, N, GROUPS = 4, 2048, 8
BLUR = 0.3


def plan_of(solver: Solver, model: Model, calls: int = CALLS) -> Plan:
    """The solver on LCM's own levels."""
    taus = [float(row.tau) for row in standard("lcm", model, calls, "lcm").rows]
    return compile_plan(solver, places(model, taus))


def exact(solver: Solver, seed: int, sabotage: bool) -> Measured:
    """How far the samples' deviation on each axis is from the data's, as a share of it, over groups of samples.

    The broken variant keeps all of the noise, which is not independent of the data prediction.
    """
    model, data = consistency_model(seed), truth(seed).sample(2**16, seed=seed + 1)[0]
    plan = plan_of(TrajectoryConsistency(0.0) if sabotage else solver, model)
    x = sample(model, plan, n=N, seed=seed, batch=N).double()
    off = [float((part.std(0) / data.std(0)).log().mean()) for part in x.chunk(GROUPS)]
    found = mean(off)
    return Measured(found if found.value > 0 else type(found)(-found.value, -found.high, -found.low, found.n))


for name, solver, of in (
    ("lcm", LatentConsistency(), (("solvers", "lcm"), ("grids", "lcm"))),
    ("consistency", Consistency(), (("solvers", "consistency"),)),
):
    claim(
        f"{name}/exact",
        of=of,
        statement=f"Where the data prediction is the end of the flow, samples of {CALLS} calls have the data's deviation: the "
        "logarithm of their ratio, without its sign.",
        baseline="the data's deviation; the exact flow map of two independent mixtures of three on the line",
        below=0.05,
    )(partial(exact, solver))


@claim(
    "tcd/less-noise",
    statement=f"With a share gamma = 0.3 of fresh noise, samples of {CALLS} calls of a model that errs are nearer to the data "
    "than with all noise fresh (LCM): difference of the energy distances.",
    baseline=f"lcm on the same levels and noises; flow maps blurred by {BLUR:g} towards the denoiser's mean; the paper's model is "
    "trained to jump to any level, which these are not",
    below=0.0,
)
def less_noise(seed: int, sabotage: bool) -> Measured:
    """The broken variant adds twice the noise."""
    model, differences = consistency_model(seed, BLUR), []
    for k in range(GROUPS):
        mine, its = (
            sample(model, plan_of(solver, model), n=N, seed=seed + k, batch=N).double()
            for solver in (TrajectoryConsistency(), LatentConsistency())
        )
        if sabotage:
            mine = mine + 0.5 * torch.randn(mine.shape, generator=torch.Generator().manual_seed(seed)).double()
        differences.append(energy_difference(mine, its, truth(seed).sample(N, seed=seed + k)[0]).value)
    return Measured(mean(differences))
