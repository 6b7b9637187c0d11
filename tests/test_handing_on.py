"""A base that leaves its samples above the data (`denoising_end`), and a refiner that goes on with them: they meet at one level."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import tuned_pipelines as made
from torch import Tensor

import fewer
from fewer.engine import History, begun, bind, play
from fewer.errors import InputError
from fewer.models.ending import Ended, counted, named
from fewer.models.model import Model
from fewer.models.pipelines.cut.beginnings import first_below

LABELS = list(range(made.SAMPLES))


def refined(pipe: Any, call: dict[str, Any], image: Tensor, **changes: Any) -> Tensor:
    return pipe(**call | {"image": image} | changes).images


@pytest.fixture
def pair() -> Any:
    """A base and a refiner, each with its call, that meet at 60 % of 20 steps."""
    (base, call), (refiner, rest) = made.base(), made.refiner()
    return base, call, refiner, rest


def test_a_model_ends_where_the_pipelines_own_scheduler_leaves_off(pair: Any) -> None:
    base, call, *_ = pair
    model = Model.from_pipeline(base, call)
    base.scheduler.set_timesteps(made.STEPS)
    below = next(t for t in base.scheduler.timesteps.tolist() if t < 1000 * (1 - call["denoising_end"]))
    plan = fewer.standard("ddim", model, nfe=3)
    assert isinstance(model.schedule, Ended)
    assert float(model.schedule.own.time(float(plan.end))) == pytest.approx(below, rel=1e-6)
    assert all(float(row.tau) > float(plan.end) for row in plan.rows)


def test_it_ends_in_the_states_of_the_whole_model(pair: Any) -> None:
    """A plan of the whole model passes through the end; its rows down to there are a plan that ends there."""
    base, call, *_ = pair
    model, whole = (Model.from_pipeline(base, call | {"denoising_end": share}) for share in (0.6, None))
    end = model.schedule.end
    plan = fewer.standard("dpmpp-2m", whole, nfe=4, steps=[whole.start, 0.8, 0.6, end])
    noise, labels, kept = call["latents"], torch.tensor(LABELS), History()
    with torch.inference_mode():
        play(whole, bind(whole, plan), begun(whole, plan, noise, labels, noise.clone), labels, history=kept)
    part = fewer.standard("dpmpp-2m", model, nfe=3, steps=[whole.start, 0.8, 0.6])
    found = fewer.sample(model, part, noise=noise, labels=LABELS)
    torch.testing.assert_close(found, kept.states[3], rtol=1e-5, atol=1e-5)


def test_plans_go_to_the_frame_of_an_end_and_back(pair: Any) -> None:
    base, call, *_ = pair
    model = Model.from_pipeline(base, call)
    plan = fewer.standard("unipc", model, nfe=4)
    inner = counted(model.schedule, plan)
    assert float(inner.end) == 0
    back = named(model.schedule, inner)
    for one, other in zip(plan.rows, back.rows, strict=True):
        assert float(one.tau) == pytest.approx(float(other.tau), abs=1e-12)
        assert one.b == pytest.approx(other.b, abs=1e-12)
    steps = [b - a for a, b in zip(inner.levels, inner.levels[1:], strict=False)]
    assert [sum(row.b.values()) for row in inner.rows] == pytest.approx(steps)  # exact on straight lines there, too


def test_tuned_parts_meet(pair: Any) -> None:
    """Plans for one share of one number of steps: no word, and the samples of both are those of both models."""
    base, call, refiner, rest = pair
    fewer.apply(fewer.standard("dpmpp-2m", Model.from_pipeline(base, call), nfe=3), base)
    fewer.apply(fewer.standard("dpmpp-2m", Model.from_pipeline(refiner, rest), nfe=2), refiner)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        left = base(**call | {"num_inference_steps": 3}).images
        found = refined(refiner, rest, left)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("changed", [{"denoising_end": 0.4}, {"denoising_end": None}, {"denoising_end": 0.9}])
def test_a_plan_that_ends_elsewhere_than_the_call_is_refused(pair: Any, changed: dict[str, Any]) -> None:
    base, call, *_ = pair
    fewer.apply(fewer.standard("ddim", Model.from_pipeline(base, call), nfe=4), base)
    with pytest.raises(InputError, match=r"ends at time 351.*denoising_end"):
        base(**call | {"num_inference_steps": 4} | changed)


def test_plans_that_do_not_meet_are_refused(pair: Any) -> None:
    base, call, refiner, rest = pair
    whole = Model.from_pipeline(base, call | {"denoising_end": None})
    fewer.apply(fewer.standard("ddim", whole, nfe=5, steps="karras"), base)
    fewer.apply(fewer.standard("ddim", whole, nfe=5, steps="uniform"), refiner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left = base(**call | {"num_inference_steps": 5}).images
    with pytest.raises(InputError, match=r"has left these samples at time .* goes on at time"):
        refined(refiner, rest, left.clone(), num_inference_steps=5)
    with pytest.raises(InputError, match="goes on at time"):  # the data, where no denoising_end was given
        refined(
            refiner,
            rest,
            base(**call | {"num_inference_steps": 5, "denoising_end": None}).images,
            num_inference_steps=5,
        )
    fewer.apply(base.scheduler.plan, refiner)
    assert bool(refined(refiner, rest, left, num_inference_steps=5).isfinite().all())


def test_a_base_alone_under_a_plan_says_where_it_leaves_off(pair: Any) -> None:
    base, call, refiner, _ = pair
    whole = Model.from_pipeline(base, call | {"denoising_end": None})
    plan = fewer.standard("ddim", whole, nfe=5, steps="karras")
    fewer.apply(plan, base)
    with pytest.warns(UserWarning, match=r"leaves its samples at time .* own scheduler would at"):
        base(**call | {"num_inference_steps": 5})
    fewer.apply(plan, refiner)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        base(**call | {"num_inference_steps": 5})
        fewer.unapply(refiner)
        fewer.apply(fewer.from_diffusers(base.scheduler.own(), 5), base)
        base(**call | {"num_inference_steps": 5})


def test_a_plan_for_all_levels_is_no_plan_of_a_base(pair: Any) -> None:
    base, call, *_ = pair
    model, whole = (Model.from_pipeline(base, call | {"denoising_end": share}) for share in (0.6, None))
    for plan in (fewer.standard("ddim", whole, nfe=2), fewer.from_diffusers(base.scheduler, 2)):
        with pytest.raises(InputError, match="ends at level 0, and samples of the model are at level"):
            fewer.sample(model, plan, n=2)


@pytest.mark.parametrize("share", [None, 0.0, 1.0, 2])
def test_times_that_fall_below_zero_hand_nothing_on(share) -> None:
    """Those of EDM's schedulers are log(sigma) / 4."""
    from diffusers import EDMDPMSolverMultistepScheduler

    theirs = EDMDPMSolverMultistepScheduler()
    theirs.set_timesteps(4)
    times = theirs.timesteps.tolist()
    assert min(times) < 0
    assert first_below(share, times, theirs) is None
