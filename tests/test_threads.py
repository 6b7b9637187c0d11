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


@pytest.mark.parametrize("kind", [unconditional, guided])
def test_a_run_is_not_broken_off_by_another_thread(kind: Callable[[], Any]) -> None:
    """Of two threads that call one pipeline at once one is refused, and what the other makes is right."""
    case, plan, request = kind()
    fewer.apply(plan, case.pipe)
    expected, refused, step = request(case.pipe, 1), [], case.pipe.scheduler.step

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        result, case.pipe.scheduler.step = step(*args, **kwargs), step
        with pytest.raises(InputError, match="another thread"):
            elsewhere(lambda: request(case.pipe, 0))
        refused.append(True)
        return result

    case.pipe.scheduler.step = interrupted
    assert torch.equal(request(case.pipe, 1), expected)
    assert refused


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


def test_threads_leave_out_blocks_of_one_network_at_once() -> None:
    """Each thread's run has its own blocks, and a call of the network without a plan has all of them."""
    case, plan, request = guided()
    rows = [replace(row, blocks={"mid": Shortcut({n: 1.0})}) for n, row in enumerate(plan.rows[1:])]
    other = tiny.silent(type(case.pipe)(**case.pipe.components, requires_safety_checker=False))
    fewer.apply(replace(plan, rows=(plan.rows[0], *rows)), case.pipe)
    fewer.apply(replace(plan, rows=(*plan.rows[:3], rows[2])), other)
    inputs = tiny.drawn(1, 4, 8, 8), 9, tiny.drawn(1, 3, 8)
    expected = [request(case.pipe, 0), request(other, 0), case.pipe.unet(*inputs).sample]
    together = threading.Barrier(3)

    def several(work: Callable[[], Tensor]) -> list[Tensor]:
        together.wait()
        return [work() for _ in range(6)]

    works = [lambda: request(case.pipe, 0), lambda: request(other, 0), lambda: case.pipe.unet(*inputs).sample]
    with ThreadPoolExecutor(3) as pool:
        for found, one in zip(pool.map(several, works), expected, strict=True):
            assert all(torch.equal(each, one) for each in found)
    assert not any("forward" in vars(module) for module in case.pipe.unet.modules())
