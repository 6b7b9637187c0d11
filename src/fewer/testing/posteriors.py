"""Promises of samplers of posteriors."""

from __future__ import annotations

import torch

from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.operators import Matrix
from fewer.tasks.inverse.solve import solve
from fewer.testing import demand

N, NOISE = 6, 0.3
FEW, MANY = 6, 24  # calls


def check(method: PosteriorSampler) -> None:
    """Under three processes samples are finite and each its own in any batch; many calls bring them near the measurement."""
    prior = GaussianMixture.random((1, 2, 2), 1, seed=1)
    operator = Matrix(torch.eye(4)[:2], (1, 2, 2))
    y = operator(prior.sample(2, seed=2)[0]).float() + 1.0
    processes: tuple[tuple[Schedule, int], ...] = (
        (discrete(betas("linear")), 1), (Flow(), 5), (VarianceExploding(0.01, 50.0), 7)
    )  # fmt: skip
    for schedule, batch in processes:
        model = Model.from_mixture(prior, schedule)
        plan = method.usual(model, FEW)
        demand(plan.nfe == FEW, f"the usual plan of {FEW} calls has {plan.nfe}")
        x = solve(model, operator, y, plan=plan, method=method, noise=NOISE, n=N).samples
        demand(
            x.shape == (2, N, 1, 2, 2) and bool(x.isfinite().all()),
            f"samples have shape {tuple(x.shape)}, or are not finite",
        )
        demand(float(x.std(1).max()) > 0, "the samples of a measurement are all the same")
        apart = solve(model, operator, y, plan=FEW, method=method, noise=NOISE, n=N, batch=batch).samples
        demand(torch.allclose(x, apart, atol=1e-3, rtol=1e-3), "a sample depends on its batch")
    found = solve(model, operator, y, plan=MANY, method=method, noise=NOISE, n=N)
    unseen = operator(prior.sample(64, seed=3)[0].float())
    prior_misfit = float((unseen[:, None] - y).square().mean())
    demand(found.misfit * NOISE**2 < prior_misfit, "samples are no nearer to their measurement than the prior's")
