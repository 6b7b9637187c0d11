"""Promises of samplers whose next call depends on the sample, and of noise schedules."""

from __future__ import annotations

from typing import Any

import torch

from fewer.dynamic import Corrector, Law, Sampler
from fewer.models.model import Model
from fewer.models.schedules import Schedule
from fewer.noise import Stream, unit_noise
from fewer.testing import demand

N = 6


def check(sampler: Sampler, model: Model) -> None:
    """Samples are finite, those of their seed's noise, and each its own whatever the batch."""
    noise = unit_noise(0, Stream.SAMPLES.numbers(N), model.shape)
    found = sampler.sample(model, N, seed=0).x
    demand(found.shape == noise.shape, f"{N} samples have shape {tuple(found.shape)}")
    demand(bool(found.isfinite().all()), "samples are not finite")
    same: dict[str, dict[str, Any]] = {"the second time": {"seed": 0}, "from the seed's own noise": {"noise": noise}}
    for when, options in same.items():
        demand(torch.equal(found, sampler.sample(model, N, **options).x), f"there are other samples {when}")
    alone = sampler.sample(model, N, seed=0, batch=1).x
    demand(torch.allclose(found, alone, atol=1e-3, rtol=1e-3), "a sample depends on its batch")


def check_corrector(corrector: Corrector) -> None:
    """A level's law stays nearly as it is (a Gaussian's variance within 30 % after four steps), and each sample is its own."""
    n, variance = 2048, torch.tensor([0.4, 1.0, 2.5])
    law = Law(0.5, lambda x: -x / variance, lambda x: -(x**2 / variance).flatten(1).sum(1) / 2)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(n, 1, 3, generator=generator) * variance.sqrt()
    draws = [(torch.randn(n, 1, 3, generator=generator), torch.rand(n, generator=generator).log()) for _ in range(4)]

    def moved(rows: slice) -> torch.Tensor:
        x = start[rows]
        for noise, log_u in draws:
            step = corrector.move(law, x, law.score(x), noise[rows], log_u[rows])
            known = step.score is None or torch.allclose(step.score, law.score(step.x), atol=1e-4)
            demand(known, "the score of the states that a step returns is not theirs")
            x = step.x
        return x

    x = moved(slice(None))
    demand(
        bool(x.isfinite().all()) and x.shape == start.shape, "states after a step are not finite, or of another shape"
    )
    demand(torch.allclose(x[:3], moved(slice(3)), atol=1e-4), "a state depends on its batch")
    ratio = x.flatten(0, 1).var(0) / variance
    demand(bool(((ratio - 1).abs() < 0.3).all()), f"variances of a level become {ratio.tolist()} of what they were")
    demand(corrector.calls >= 1, f"a step takes {corrector.calls} calls")


def check_schedule(schedule: Schedule) -> None:
    """Levels rise with the network's time, and each is the level of its own time."""
    demand(0 < schedule.tau_min < schedule.tau_max <= 1, f"levels lie in [{schedule.tau_min}, {schedule.tau_max}]")
    tau = torch.linspace(schedule.tau_min, schedule.tau_max, 33, dtype=torch.float64)
    times = schedule.time(tau)
    demand(bool((times.diff() > 0).all()), f"times fall where levels rise: {times.tolist()}")
    demand(torch.allclose(schedule.tau(times), tau, atol=1e-6), "a time's level has another time")
    demand(len(schedule.describe().splitlines()) == 1, "the description is not one line")
