"""Threads: the documented recipe gives each request the image that it has alone; a scheduler that two share refuses one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.plan import Shortcut

DOCS = Path(__file__).parents[1] / "docs" / "drop-in.md"
ROWS = 4


def recipe() -> str:
    """The Python block of the docs that makes the pipeline of a thread."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return next(block for block in blocks if "threading.local()" in block)


def unconditional() -> tuple[tiny.Case, fewer.Plan, Callable[[Any, int], Tensor]]:
    case = tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler())

    def request(pipe: Any, seed: int) -> Tensor:
        given = {"generator": torch.Generator().manual_seed(seed), "num_inference_steps": ROWS, "output_type": "np"}
        return torch.from_numpy(pipe(**given).images)

    return case, fewer.standard("dpmpp-2m", case.model, nfe=ROWS), request


def guided() -> tuple[tiny.Case, fewer.Plan, Callable[[Any, int], Tensor]]:
    """Its plan guides, so that the network, which all threads share, has a hook."""
    case = tiny.stable_diffusion()
    told, negative = (5 * tiny.drawn(1, 3, 8, seed=seed) for seed in (2, 3))

    def request(pipe: Any, seed: int) -> Tensor:
        given = {
            "prompt_embeds": told + seed,
            "negative_prompt_embeds": negative,
            "latents": tiny.drawn(1, 4, 8, 8, seed=seed),
        }
        return pipe(num_inference_steps=ROWS, guidance_scale=2.0, output_type="latent", **given).images

    return case, fewer.standard("unipc", case.model, nfe=2 * ROWS, guidance=3.0), request


@pytest.mark.parametrize("kind", [unconditional, pytest.param(guided, marks=pytest.mark.slow)])
def test_the_recipe_for_servers_gives_each_request_its_own_image(kind: Callable[[], Any]) -> None:
    case, plan, request = kind()
    space: dict[str, Any] = {"pipe": case.pipe, "plan": plan, "fewer": fewer}
    exec(recipe(), space)
    seeds = range(16)
    alone = [request(space["pipeline"](), seed) for seed in seeds]
    together = threading.Barrier(8)

    def serve(first: int) -> list[Tensor]:
        pipe = space["pipeline"]()
        together.wait()
        return [request(pipe, seed) for seed in seeds[first::8]]

    with ThreadPoolExecutor(8) as pool:
        for first, images in enumerate(pool.map(serve, range(8))):
            for seed, image in zip(seeds[first::8], images, strict=True):
                assert torch.equal(image, alone[seed]), seed


@pytest.mark.parametrize("kind", [unconditional, guided])
def test_a_pipeline_that_threads_share_never_gives_a_wrong_image(kind: Callable[[], Any]) -> None:
    case, plan, request = kind()
    fewer.apply(plan, case.pipe)
    alone = [request(case.pipe, seed) for seed in range(4)]
    together = threading.Barrier(4)

    def serve(seed: int) -> list[str]:
        said = []
        for _ in range(6):
            together.wait()
            try:
                assert torch.equal(request(case.pipe, seed), alone[seed])
            except InputError as error:
                said.append(str(error))
        return said

    with ThreadPoolExecutor(4) as pool:
        said = [line for lines in pool.map(serve, range(4)) for line in lines]
    assert all("another thread" in line and "docs/drop-in.md" in line and "\n" not in line for line in said)
    assert torch.equal(request(case.pipe, 0), alone[0])


def elsewhere(work: Callable[[], Any]) -> Any:
    """What a piece of work gives in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_run_is_its_threads_until_it_is_over() -> None:
    case, plan, _ = unconditional()
    scheduler = fewer.FewerScheduler.from_plan(plan, case.model)
    scheduler.set_timesteps()
    x = tiny.drawn(1, 1, 8, 8)
    calls: dict[str, Callable[[], Any]] = {
        "scale_model_input": lambda: scheduler.scale_model_input(x, t),
        "step": lambda: scheduler.step(x, t, x),
        "add_noise": lambda: scheduler.add_noise(x, x, t),
        "scale_noise": lambda: scheduler.scale_noise(x, t, x),
        "set_begin_index": lambda: scheduler.set_begin_index(1),
    }

    def played(x: Tensor, first: int) -> Tensor:
        nonlocal t
        for t in scheduler.timesteps[first:]:
            x = scheduler.step(0.5 * x, t, scheduler.scale_model_input(x, t)).prev_sample
        return x

    t = scheduler.timesteps[0]
    y = scheduler.step(0.5 * x, t, scheduler.scale_model_input(x, t)).prev_sample
    t = scheduler.timesteps[1]
    for call in calls.values():
        with pytest.raises(InputError, match="in use in another thread"):
            elsewhere(call)
    whole = played(y, 1)
    for _ in range(2):  # one after another, in threads of their own
        elsewhere(scheduler.set_timesteps)
        with pytest.raises(InputError, match="another thread"):  # which began the run that is to come
            played(x, 0)
        assert torch.equal(elsewhere(lambda: (scheduler.set_timesteps(), played(x, 0))[1]), whole)
    scheduler.set_timesteps()
    assert torch.equal(played(x, 0), whole)


def test_a_run_that_another_thread_broke_off_is_refused_and_the_others_is_right() -> None:
    case, plan, request = unconditional()
    fewer.apply(plan, case.pipe)
    expected, found, step = request(case.pipe, 1), [], case.pipe.scheduler.step

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        result, case.pipe.scheduler.step = step(*args, **kwargs), step
        found.append(elsewhere(lambda: request(case.pipe, 1)))
        return result

    case.pipe.scheduler.step = interrupted
    with pytest.raises(InputError, match="another thread"):
        request(case.pipe, 0)
    assert torch.equal(found[0], expected)


def test_plans_on_pipelines_that_share_a_network_come_off_one_by_one() -> None:
    case, plan, request = guided()
    other = tiny.silent(type(case.pipe)(**case.pipe.components, requires_safety_checker=False))
    fewer.apply(plan, case.pipe)
    expected = request(case.pipe, 0)
    fewer.apply(plan, other)
    assert torch.equal(request(case.pipe, 0), expected)
    assert torch.equal(request(other, 0), expected)
    fewer.unapply(case.pipe)
    assert torch.equal(request(other, 0), expected)
    fewer.unapply(other)
    assert not case.pipe.unet._forward_pre_hooks
    assert not case.pipe.unet._forward_hooks


def test_two_runs_cannot_leave_out_blocks_of_one_network_at_once() -> None:
    case, plan, request = guided()
    rows = (plan.rows[0], replace(plan.rows[1], blocks={"mid": Shortcut({0: 1.0})}), *plan.rows[2:])
    plan = replace(plan, rows=rows)
    other = tiny.silent(type(case.pipe)(**case.pipe.components, requires_safety_checker=False))
    for pipe in (case.pipe, other):
        fewer.apply(plan, pipe)
    expected = request(other, 1)

    def between(pipe: Any, i: int, t: Any, kwargs: Any) -> dict[str, Any]:
        if i == 0:
            assert torch.equal(elsewhere(lambda: request(other, 1)), expected)
        return {}

    with pytest.raises(InputError, match="blocks of this network"):
        case.pipe(
            num_inference_steps=ROWS, guidance_scale=2.0, output_type="latent", callback_on_step_end=between,
            prompt_embeds=tiny.drawn(1, 3, 8), negative_prompt_embeds=tiny.drawn(1, 3, 8), latents=tiny.drawn(1, 4, 8, 8),
        )  # fmt: skip
    assert torch.equal(request(other, 1), expected)
