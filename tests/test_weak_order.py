"""Weak order of samplers with noise on a mixture, whose law is not that of a line of rows: by simulation along common paths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewer.claims.solvers.orders import compiled, in_log_s, output
from fewer.engine.paths import BrownianPath, spans
from fewer.models.mixture import GaussianMixture
from fewer.noise import unit_noise
from fewer.registry import find, parts

SAMPLES = 40_000
MIXTURE = GaussianMixture.random((1,), components=3, seed=2)
QUICK = ("euler-ancestral", "dpmpp-2m-sde", "er-sde-3")
NAMES = [
    part.name for part in parts("solvers") if part.make().order >= 1 and compiled(part.make(), [0.9, 0.5]).stochastic
]


def squares(name: str, n: int) -> Tensor:
    """x^2 of each sample after n steps from the exact law, from the same start and along the same path for every n."""
    plan = compiled(find("solvers", name).make(), in_log_s(n))
    path, along = BrownianPath(lambda draw: unit_noise(0, range(1), (SAMPLES, 1), draw)[0]), spans(plan)
    start, tau = unit_noise(1, range(1), (SAMPLES, 1))[0].double(), float(plan.start.tau)
    states, outputs = [tau * start + (1 - tau) * MIXTURE.sample(SAMPLES, seed=1)[0].double()], []
    for k, row in enumerate(plan.rows[:-1]):  # the last goes on to level 0
        outputs.append(output(MIXTURE, states[k], float(row.tau)))
        new = sum((float(a) * states[j] for j, a in (row.a or {k: 1.0}).items()), torch.zeros(()))
        new = sum((float(b) * outputs[j] for j, b in row.b.items()), new)
        span = along[k]
        states.append(new if span is None else new + float(row.noise) * path.increment(span).double())
    return states[-1].square()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_weak_order_on_a_mixture(name: str) -> None:
    """Each doubling of the steps changes the mean by 2^p less than the one before, to half an order and three standard errors."""
    coarse, middle, fine = (squares(name, n) for n in (8, 16, 32))
    (first, wide), (second, narrow) = (
        (abs(float(change.mean())), 3 * float(change.std()) / SAMPLES**0.5)
        for change in (coarse - middle, middle - fine)
    )
    assert second - narrow <= (first + wide) / 2 ** (find("solvers", name).make().order - 0.5)
