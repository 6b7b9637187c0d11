"""Plans with noise in diffusers pipelines: the caller's generator draws it, and samples have the law that `fewer.sample` has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import fewer
from fewer import Model, Plan
from fewer.engine import Draws, play
from fewer.engine.play import begin
from fewer.evaluate.distances.energy import energy_of_pairs
from fewer.solvers.noise_share import with_noise
from tests import pipelines as plain
from tests import tiny_pipelines as tiny

CONFIG = {**plain.LINEAR, "clip_sample": False}
CASES = {
    "ddpm": lambda: tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**CONFIG)),
    "ddim": lambda: tiny.unconditional("DDIMPipeline", diffusers.DDIMScheduler(**CONFIG)),
}
PLANS: dict[str, Callable[[Model], Plan]] = {  # from a level where a random network's prediction is not blown up
    "ancestral": lambda model: fewer.standard("ancestral", model, 4, "uniform", start=0.6),
    "multistep with noise": lambda model: with_noise(
        fewer.standard("dpmpp-3m", model, 5, "uniform", start=0.6), [0.3, 0, 0.6, 1]
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[tiny.Case]:
    made = CASES[request.param]()
    yield made
    fewer.unapply(made.pipe)


def images(x: Tensor) -> Tensor:
    """What a pipeline makes of samples."""
    return x.clamp(-1, 1)


@pytest.mark.parametrize("name", PLANS)
def test_the_callers_generator_draws_start_and_noise_in_turn(case: tiny.Case, name: str) -> None:
    """The same draws give the same samples as the engine, to rounding; other ones give others."""
    plan = PLANS[name](case.model)
    fewer.apply(plan, case.pipe)
    generator = torch.Generator().manual_seed(7)
    z = torch.randn(2, 1, 8, 8, generator=generator)
    own = Draws(lambda _: torch.randn(z.shape, generator=generator))
    with torch.inference_mode():
        expected = images(play(case.model, plan, begin(plan, z, lambda: z), draws=own))
    found = [case.run(len(plan.rows), generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(found[0], found[1])
    assert torch.allclose(found[0], expected, atol=1e-5)
    assert not torch.allclose(found[0], found[2], atol=1e-2)


@pytest.mark.parametrize("name", PLANS)
def test_a_pipelines_samples_have_the_law_of_samples(name: str) -> None:
    """Energy distance of 192 images each, by permutation: of 99 exchanges of the two sets, some are at least as far apart."""
    case = CASES["ddpm"]()
    plan, n = PLANS[name](case.model), 192
    fewer.apply(plan, case.pipe)
    given: dict[str, Any] = {"num_inference_steps": len(plan.rows), "output_type": "np"}
    made = case.pipe(n, generator=torch.Generator().manual_seed(3), **given).images
    x = torch.from_numpy(made).permute(0, 3, 1, 2).flatten(1) * 2 - 1
    y = images(fewer.sample(case.model, plan, n=n, seed=3, batch=n)).flatten(1)
    both, everything = torch.cat([x, y]).double(), torch.arange(n)
    draws = torch.Generator().manual_seed(0)

    def apart(order: Tensor) -> float:
        return energy_of_pairs(both[order[:n]], both[order[n:]])(everything)

    observed = apart(torch.arange(2 * n))
    exchanged = [apart(torch.randperm(2 * n, generator=draws)) for _ in range(99)]
    assert sum(other >= observed for other in exchanged) >= 2
    moved = energy_of_pairs(1.1 * both[:n] + 0.05, both[n:])(everything)
    assert sum(other >= moved for other in exchanged) < 2
