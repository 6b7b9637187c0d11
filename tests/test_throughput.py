"""The benchmark of images a second: what is compared is the same flow from the same noise, and baselines are as good."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are no installed package

import fewer
from benchmarks.dit_pipeline import SCHEDULERS, Cache, blocks_run, images, noise_of, pipeline
from benchmarks.throughput import CACHES, Setting, Tried, baselines, settings


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    return fewer.load("dit-digits")


def test_the_pipeline_plays_a_plan_as_the_engine_does_from_the_same_noise(model: fewer.Model) -> None:
    plan = fewer.standard("unipc", model, 3, "logsnr")
    network = model.network.module
    pipe = pipeline(network, SCHEDULERS["Euler (its own)"]())
    fewer.apply(plan, pipe, model)
    with blocks_run(network) as count:
        made = images(pipe, 3, [0, 1, 2], seed=7)
    noise = noise_of(model, 3, seed=7)
    own = fewer.sample(model, plan, noise=noise, labels=torch.tensor([0, 1, 2]))
    assert torch.allclose(made, own.clamp(-1, 1), atol=1e-5)
    assert count == [3 * len(network.transformer_blocks)]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.slow
def test_both_schedulers_of_diffusers_go_to_the_reference_solution(model: fewer.Model, name: str) -> None:
    noise, labels = noise_of(model, 4, seed=1), [0, 1, 2, 3]
    fine = fewer.sample(model, fewer.standard("unipc-3", model, 64, "logsnr"), noise=noise, labels=torch.tensor(labels))
    errors = []
    for steps in (4, 24):
        made = images(Setting(name, steps).pipe(model.network.module), steps, labels, seed=1)
        errors.append(float((made - fine.clamp(-1, 1)).norm()))
    assert errors[1] < errors[0] / 2


def test_a_rival_is_the_cheapest_setting_that_is_as_good_on_all_noises() -> None:
    def found(steps: int, error: float, blocks: int, n: int = 8, cache: Cache | None = None) -> Tried:
        return Tried(Setting("UniPC-2", steps, cache), torch.full((n,), error**2), blocks)

    cache = CACHES[0]
    tries = [
        found(4, 0.3, 24), found(8, 0.1, 48), found(10, 0.05, 60), found(5, 0.1, 30, n=4),
        found(12, 0.1, 40, cache=cache), found(10, 0.1, 40, cache=cache), found(20, 0.01, 50, cache=cache),
    ]  # fmt: skip
    best = baselines(tries, 0.1 + 1e-6, 8)
    assert {name: (each.setting.steps, each.blocks) for name, each in best.items()} == {
        "UniPC-2": (8, 48), "UniPC-2, cache-dit": (10, 40),
    }  # fmt: skip


def test_without_the_library_no_setting_needs_it() -> None:
    assert all(setting.cache is None for setting in settings(with_cache=False))
    assert any(setting.cache == Cache(0.08, 8, False) for setting in settings(with_cache=True))  # its defaults
