"""Light bridges where the true one is known: its own potential makes the second law."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer.claims.claim import Beside, Measured, claim
from fewer.evaluate.distances.transport import sinkhorn
from fewer.evaluate.statistics import paired
from fewer.processes.light_bridge import LightBridge

DIM, COMPONENTS, EPS = 3, 4, 0.5
UNPAIRED, HELD_OUT, STEPS, SMALL = 4000, 1000, 700, 600


@cache
def truth(seed: int) -> LightBridge:
    """A bridge from N(0, I) to modes that lie apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(COMPONENTS, DIM, dtype=torch.float64, generator=generator)
    roots = torch.randn(COMPONENTS, DIM, DIM, dtype=torch.float64, generator=generator)
    shapes = 0.1 * torch.eye(DIM, dtype=torch.float64) + 0.2 * roots @ roots.mT / DIM
    return LightBridge(torch.ones(COMPONENTS), centres, shapes, EPS)


def start(seed: int, n: int) -> Tensor:
    """Draws (n, d) of the first law."""
    return torch.randn(n, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def errors(mine: Tensor, seed: int) -> Tensor:
    """Squared errors (n,) of E[x_1 | x_0] on held-out states."""
    return paired.squared_errors(mine, truth(seed).ends(start(3 * seed + 2, HELD_OUT)).mean)


def barycentres(x0: Tensor, x1: Tensor, at: Tensor) -> Tensor:
    """E[x_1 | x_0] by the dual potential of the discrete problem, at states outside its sample."""
    cost = (x0[:, None] - x1).square().sum(2) / 2
    weights = torch.full((len(x0),), 1 / len(x0), dtype=torch.float64)
    g = sinkhorn(cost, weights, weights, EPS, tol=1e-6).g
    return torch.softmax((g - (at[:, None] - x1).square().sum(2) / 2) / EPS, 1) @ x1


@claim(
    "light-bridge/known-bridge",
    statement=f"Fitted to {UNPAIRED} unpaired draws of both ends, ten components find the bridge: error of E[x_1 | x_0] on "
    "held-out states over that of one component, the Gaussian bridge (ratio of RMSE); beside, the discrete entropic plan on "
    f"{SMALL} of the draws, extended by its potential.",
    baseline=f"the best Gaussian bridge, fitted alike; {DIM} dimensions, {COMPONENTS} modes, eps {EPS:g}",
    below=0.5,
    tier="full",
)
def known_bridge(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the potential is fitted to draws of the first law in place of the second."""
    x0, unpaired = start(3 * seed, UNPAIRED), start(3 * seed + 1, UNPAIRED)
    x1 = truth(seed).sample(unpaired, seed=seed)
    mine = LightBridge.fitted(x0, unpaired if sabotage else x1, EPS, 10, steps=STEPS, seed=seed)
    its = LightBridge.fitted(x0, x1, EPS, 1, steps=STEPS, seed=seed)
    at = start(3 * seed + 2, HELD_OUT)
    found = {"mine": errors(mine.ends(at).mean, seed), "its": errors(its.ends(at).mean, seed)}
    discrete = errors(barycentres(x0[:SMALL], x1[:SMALL], at), seed)
    beside: Beside = {
        "RMSE": paired.rmse(found["mine"]), "of the Gaussian bridge": paired.rmse(found["its"]),
        "of the discrete plan": paired.rmse(discrete),
    }  # fmt: skip
    return Measured(paired.ratio(found["mine"], found["its"]), beside)
