"""A front in a pipeline: the number of steps chooses the plan."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.integrations.scheduler import FewerScheduler


def ddpm() -> tiny.Case:
    return tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**tiny.plain.LINEAR, clip_sample=False))


def plans_of(case: tiny.Case) -> list[fewer.Plan]:
    return [fewer.standard("dpmpp-2m", case.model, nfe=n) for n in (4, 2, 3)]


def guided_plans(case: tiny.Case) -> list[fewer.Plan]:
    """Of two rows without guidance, and of three and four that guide, by scales of their own."""
    guided = [fewer.standard("ddim", case.model, nfe=2 * n, guidance=scale) for n, scale in ((3, 2.0), (4, 5.0))]
    return [fewer.standard("dpmpp-2m", case.model, nfe=2), *guided]


KINDS: dict[str, tuple[Callable[[], tiny.Case], Callable[[tiny.Case], list[fewer.Plan]], dict[str, Any]]] = {
    "ddpm": (ddpm, plans_of, {}),
    "stable diffusion": (tiny.stable_diffusion, guided_plans, {"guidance_scale": 3.0}),
    "flux": (tiny.flux, plans_of, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_steps_chooses_the_plan(kind: str) -> None:
    """Whatever was played before; the pipeline's own scheduler is back afterwards."""
    make, plans, more = KINDS[kind]
    case = make()
    own, front = case.pipe.scheduler, plans(case)
    alone = {}
    for plan in front:
        fewer.apply(plan, case.pipe)
        alone[len(plan.rows)] = case.run(len(plan.rows), **more)
    fewer.apply(front, case.pipe)
    for n in [*alone, *reversed(alone)]:
        assert torch.equal(case.run(n, **more), alone[n])
    rows = ", ".join(map(str, sorted(alone)))
    with pytest.raises(InputError, match=f"is 7; the plans of the front have {rows} rows"):
        case.run(7, **more)
    fewer.unapply(case.pipe)
    assert case.pipe.scheduler is own
    assert type(case.pipe).__call__ is getattr(diffusers, type(case.pipe).__name__).__call__


@pytest.mark.parametrize("given", [[], [3, 3], [2, 3, 2]])
def test_a_front_has_a_plan_for_each_number_of_rows(given: list[int]) -> None:
    case = ddpm()
    own = case.pipe.scheduler
    with pytest.raises(InputError, match=r"the front is empty|both have . rows") as told:
        fewer.apply([fewer.standard("ddim", case.model, nfe=n) for n in given], case.pipe)
    assert "\n" not in str(told.value)
    assert case.pipe.scheduler is own


@pytest.mark.parametrize("front", ["plan", [1], [{}], [{"plan": 3, "tensors": None}], {"plan": {}}])
def test_damaged_configurations_are_refused(front: Any) -> None:
    case = ddpm()
    config = FewerScheduler.from_plan(plans_of(case), case.pipe.scheduler).config
    with pytest.raises(InputError, match=r"^(front|plan) is "):
        FewerScheduler.from_config({**config, "front": front})


def test_entries_of_a_front_may_be_results_and_files(tmp_path: Path) -> None:
    class Outcome:
        def __init__(self, plan: fewer.Plan) -> None:
            self.plan = plan

    case = ddpm()
    first, second, third = plans_of(case)
    second.save(tmp_path / "plan.json")
    fewer.apply([Outcome(first), tmp_path / "plan.json", third], case.pipe)
    assert [len(plan.rows) for plan in case.pipe.scheduler.plans] == [4, 2, 3]


@pytest.mark.parametrize("how", ["saved and loaded", "copied", "applied again"])
def test_a_pipeline_keeps_its_front(how: str, tmp_path: Path) -> None:
    case = ddpm()
    ddim = diffusers.DDIMScheduler(
        **tiny.plain.LINEAR, clip_sample=False
    )  # starts from the noise as it is: without a hook
    fewer.apply([fewer.from_diffusers(ddim, n) for n in (4, 2, 3)], case.pipe)
    expected = {n: images(case.pipe, n) for n in (2, 3, 4)}
    if how == "saved and loaded":
        case.pipe.save_pretrained(tmp_path)
        other = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
        for weights in (
            other.unet.parameters()
        ):  # which lie in the file, at any address, and some processors round otherwise there
            weights.data = weights.data.clone()
    elif how == "copied":
        other = copy.deepcopy(case.pipe)
    else:
        other = diffusers.DDPMPipeline(case.pipe.unet, diffusers.DDPMScheduler(**tiny.plain.LINEAR, clip_sample=False))
        fewer.apply(FewerScheduler.from_config(case.pipe.scheduler.config).plans, other)
    assert all(torch.equal(images(other, n), expected[n]) for n in (2, 3, 4))
    fewer.unapply(other)
    assert type(other.scheduler) is diffusers.DDPMScheduler
    assert "front" not in other.scheduler.config


def test_copies_in_threads_play_plans_of_their_own_numbers() -> None:
    case = ddpm()
    fewer.apply(plans_of(case), case.pipe)
    expected = {n: images(case.pipe, n) for n in (2, 3, 4)}
    copies = [copy.deepcopy(case.pipe) for _ in range(4)]

    def serve(pipe: Any) -> list[bool]:
        return [torch.equal(images(pipe, n), expected[n]) for n in (3, 2, 4, 3)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(found) for found in pool.map(serve, copies))


def test_a_run_of_another_plan_breaks_off_one_that_is_under_way() -> None:
    """Two threads that share a scheduler: the first is refused, and never goes on under the second's plan."""
    case = ddpm()
    scheduler = FewerScheduler.from_plan(plans_of(case), case.pipe.scheduler)
    scheduler.set_timesteps(4)
    noise = tiny.drawn(1, 1, 8, 8)
    scheduler.step(noise, scheduler.timesteps[0], noise)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(scheduler.set_timesteps, 2).result()
    with pytest.raises(InputError, match="in use in another thread"):
        scheduler.step(noise, scheduler.timesteps[1], noise)


def images(pipe: Any, n: int) -> Tensor:
    given = {"num_inference_steps": n, "output_type": "np", "generator": torch.Generator().manual_seed(1)}
    return torch.from_numpy(tiny.silent(pipe)(1, **given).images)


def test_a_word_chooses_a_plan() -> None:
    case = ddpm()
    plans = [fewer.standard("ddim", case.model, nfe=nfe) for nfe in (5, 2, 8, 3)]
    for quality, rows in (("draft", 2), ("standard", 5), ("high", 8)):
        fewer.apply(plans, case.pipe, quality=quality)
        assert [len(plan.rows) for plan in case.pipe.scheduler.plans] == [rows]
        fewer.unapply(case.pipe)
    fewer.apply(plans[0], case.pipe, quality="draft")
    assert len(case.pipe.scheduler.plan.rows) == 5
    fewer.unapply(case.pipe)
    with pytest.raises(InputError, match="quality is 'best'; expected one of draft, standard, high"):
        fewer.apply(plans, case.pipe, quality="best")
