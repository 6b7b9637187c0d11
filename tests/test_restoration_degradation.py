"""DDIM where the drift is linear, the probability flow in the limit, and one line for times that make no sense."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.processes.restoration_degradation import RestorationDegradation

MEANS, VARIANCE = torch.tensor([-1.0, 0.5], dtype=torch.float64), 0.2
X = torch.linspace(-2, 2, 9, dtype=torch.float64)


def denoised(x: Tensor, t: float) -> Tensor:
    """E[x_0 | x_t] of two Gaussians of equal weight under dx = -x dt + sqrt(2) dw."""
    a, noise = math.exp(-t), 1 - math.exp(-2 * t)
    total = a**2 * VARIANCE + noise
    shares = torch.softmax(-((x[:, None] - a * MEANS) ** 2) / (2 * total), 1)
    return (shares * (MEANS + a * VARIANCE / total * (x[:, None] - a * MEANS))).sum(1)


LINEAR = RestorationDegradation(
    lambda x, t, there: x * math.exp(t - there),
    lambda s, t: math.sqrt(1 - math.exp(-2 * (t - s))),
    lambda x, t: (math.exp(-t) * denoised(x, t) - x) / (1 - math.exp(-2 * t)),
)


def test_where_the_drift_is_linear_and_it_restores_to_the_data_it_is_ddim() -> None:
    """x' = a' D + sigma' (x - a D) / sigma, at any length of steps."""
    x, times = X, [1.5, 0.7, 0.2, 0.01]
    for t, there in pairwise(times):
        a, sigma, data = math.exp(-t), math.sqrt(1 - math.exp(-2 * t)), denoised(x, t)
        x = math.exp(-there) * data + math.sqrt(1 - math.exp(-2 * there)) * (x - a * data) / sigma
    assert torch.allclose(LINEAR.sample(X, times, math.inf), x, atol=1e-12)


def test_a_short_step_follows_the_probability_flow_of_any_drift() -> None:
    """Its error falls as the root of the step where the restoration is as long as that root."""
    process = RestorationDegradation(  # dx = -x^3 dt + dw
        lambda x, t, there: x / (1 + 2 * x.square() * (there - t)).sqrt(), lambda s, t: math.sqrt(t - s), LINEAR.score
    )
    slope = -(X**3) - LINEAR.score(X, 0.5) / 2
    errors = [
        float((process.step(X, 0.5, 0.5 - h, 0.5 - 0.1 * math.sqrt(h)) - X + h * slope).abs().max()) / h
        for h in (1e-4, 1e-6)
    ]
    assert errors[1] < 0.2 * errors[0] < 0.1


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5], [0.2, 0.4], [0.5, -0.1]])
def test_times_that_do_not_fall_are_refused(times: list[float]) -> None:
    with pytest.raises(InputError, match="expected two or more, falling, none below 0"):
        LINEAR.sample(X, times)


def test_a_restoration_ends_before_the_step_does() -> None:
    with pytest.raises(InputError, match="expected 0 <= back <= there <= t"):
        LINEAR.step(X, 0.5, 0.2, 0.3)
    with pytest.raises(InputError, match="reach is 0; expected a positive number"):
        LINEAR.sample(X, [0.5, 0.1], 0)
