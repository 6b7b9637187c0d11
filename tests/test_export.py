"""Plans as stock schedulers: what is called exact gives the plan's samples, and what is not says how far it is off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from test_scheduler import model_of, noise

import fewer
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.integrations.probe import from_diffusers
from fewer.models.model import Model
from fewer.plan import Plan, Shortcut

SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
VP, FLOW = model_of("vp", "noise"), model_of("flow", "flow")


def played(scheduler: Any, given: dict[str, Any], model: Model, z: torch.Tensor) -> torch.Tensor:
    """The scheduler's own loop."""
    scheduler.set_timesteps(**given)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    x = z * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else z
    for t in scheduler.timesteps:
        told = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(model(told, t, None), t, x).prev_sample
    return x


@pytest.mark.parametrize(
    ("solver", "nfe", "model", "kind"),
    [
        ("ddim", 6, VP, "EulerDiscreteScheduler"),
        ("heun", 7, VP, "HeunDiscreteScheduler"),
        ("euler", 6, FLOW, "FlowMatchEulerDiscreteScheduler"),
    ],
)
def test_exact_exports_give_the_plans_samples(solver: str, nfe: int, model: Model, kind: str) -> None:
    plan = fewer.standard(solver, model, nfe, "uniform")
    export = fewer.to_diffusers(plan, model)
    assert (export.kind, export.exact, export.guidance) == (kind, True, None)
    found = played(export.make(), export.given, model, noise())
    assert torch.allclose(found, fewer.sample(model, plan, noise=noise()), atol=1e-4)


def test_a_multistep_scheduler_is_itself() -> None:
    """On whole times, which are all that it takes, it is the plan that was read from it."""
    for options in ({"solver_order": 3}, {"solver_type": "heun"}, {}):
        theirs = diffusers.DPMSolverMultistepScheduler(**SD, **options)
        plan = from_diffusers(theirs, 8)
        export = fewer.to_diffusers(plan, theirs)
        assert export.exact
        assert {key: export.config[key] for key in options} == options


def test_how_far_it_is_off() -> None:
    """Times between whole ones are rounded: the error is said, and is that of the tables."""
    plan = fewer.standard("dpmpp-2m", VP, 6)
    export = fewer.to_diffusers(plan, diffusers.PNDMScheduler(**SD))
    assert export.kind == "DPMSolverMultistepScheduler"
    assert not export.exact
    assert 0.01 < export.time_error <= 0.5
    assert str(export).startswith("DPMSolverMultistepScheduler, timesteps=[999.0, ")
    found = played(export.make(), export.given, VP, noise())
    expected = fewer.sample(VP, plan, noise=noise())
    assert 0 < float((found - expected).abs().max()) < 0.1


def test_flow_plans_need_no_scheduler() -> None:
    plan = fewer.standard("euler", FLOW, 5, "shift")
    assert fewer.to_diffusers(plan).exact
    assert str(fewer.to_diffusers(plan)) == str(fewer.to_diffusers(plan, FLOW))
    with pytest.raises(InputError, match="does not take 1000 tau as its time: give the model"):
        fewer.to_diffusers(fewer.standard("ddim", VP, 5))


def test_one_guidance_scale_is_the_pipelines() -> None:
    plan = fewer.standard("ddim", VP, 3)
    guided = [replace(row, guidance=ClassifierFree(4.0)) for row in plan.rows]
    assert fewer.to_diffusers(replace(plan, rows=tuple(guided)), VP).guidance == 4.0
    for rows in ((plan.rows[0], *guided[1:]), (*guided[:2], replace(guided[2], guidance=ClassifierFree(2.0)))):
        with pytest.raises(InputError, match="guides otherwise than by one scale"):
            fewer.to_diffusers(replace(plan, rows=rows), VP)


def refused() -> list[tuple[Plan, Model, str]]:
    ddim = fewer.standard("ddim", VP, 3)
    blocks = (ddim.rows[0], replace(ddim.rows[1], blocks={"mid": Shortcut({0: 1.0})}), ddim.rows[2])
    return [
        (fewer.standard("ancestral", VP, 4), VP, "adds noise"),
        (replace(ddim, rows=blocks), VP, "leaves out blocks"),
        (replace(ddim, start=replace(ddim.start, offset=0.1)), VP, "has offsets"),
        (fewer.standard("ipndm", VP, 6), VP, "no stock scheduler plays plan 'ipndm karras'"),
        (fewer.standard("ddim", model_of("ve", "data"), 3), model_of("ve", "data"), "no stock scheduler knows data"),
    ]


@pytest.mark.parametrize("case", range(5))
def test_what_no_stock_scheduler_holds(case: int) -> None:
    plan, model, message = refused()[case]
    with pytest.raises(InputError, match=message):
        fewer.to_diffusers(plan, model)
