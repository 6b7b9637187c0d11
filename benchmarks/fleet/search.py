"""A search of some thirty calls: the first stage of `fewer tune`, on two noises and without the comparison that follows it."""

from __future__ import annotations

from dataclasses import replace

import torch

from fewer.models.model import Model
from fewer.plan import Plan
from fewer.samplers import standard
from fewer.search.objective import Objective
from fewer.search.row_fit import RowFit
from fewer.search.trajectory import reference_trajectories

CALLS, NOISES, WAY = 3, 2, 8  # of the plan; of the search; calls of the way that rows are fitted to
GRIDS = ("logsnr", "karras", "uniform")


def short_search(model: Model) -> Plan:
    """The plan, of three grids with rows fitted by least squares to the model's own way, that ends nearest to its end."""
    noise = torch.randn(NOISES, *model.shape, generator=torch.Generator().manual_seed(1)).to(model.device)
    objective = Objective(model, noise, model.labels(NOISES))
    way = reference_trajectories(objective, None, WAY, NOISES)
    objective = replace(objective, target=way.states[-1].view_as(noise).to(noise))
    fit = RowFit(objective, way)
    levels = [[float(row.tau) for row in standard("euler", model, CALLS, grid).rows] for grid in GRIDS]
    fitted = [fit(taus) for taus in levels]
    return fit.plan(min(fitted, key=lambda each: each.rmse))
