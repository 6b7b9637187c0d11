"""Inversion finds the noise that makes an image; both kinds are plans that rise throughout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.engine import History, play, times
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.tasks.inversion import explicit_inversion, fixed_point_inversion, invert

SCHEDULES = [Flow(), VarianceExploding(0.01, 50.0), discrete(betas("scaled_linear"))]
MIXTURE = GaussianMixture.random((1, 2, 2), components=4, seed=3, classes=2)


def exact(schedule: Any, mixture: GaussianMixture = MIXTURE) -> Model:
    return Model.from_mixture(mixture, schedule, conditional=mixture.classes is not None, dtype=torch.float64)


def relative(x: Tensor, y: Tensor) -> float:
    return float(((x - y).square().mean() / y.square().mean()).sqrt())


def round_trip(model: Model, plan: Plan, iterations: int, n: int = 16) -> float:
    images = fewer.sample(model, plan, n=n)
    return relative(fewer.sample(model, plan, noise=invert(model, plan, images, iterations=iterations)), images)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_image_comes_back(schedule: Any) -> None:
    """To 1e-3 at 50 calls, and closer than by explicit inversion already at its cost."""
    model = exact(schedule)
    plan = fewer.standard("ddim", model, 50, "logsnr")
    explicit, one, five = (round_trip(model, plan, k) for k in (0, 1, 5))
    assert five < 1e-3
    assert five < one < explicit


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_noise_comes_back(schedule: Any) -> None:
    model = exact(schedule)
    plan = fewer.standard("euler", model, 20, "logsnr")
    noise = unit_noise(5, range(8), model.shape)
    images = fewer.sample(model, plan, noise=noise, labels=1)
    assert relative(fewer.invert(model, plan, images, 1, iterations=12), noise) < 1e-3
    assert relative(fewer.invert(model, plan, images, 1, iterations=12, batch=3), noise) < 1e-3


@given(seed=st.integers(0, 1000), iterations=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_every_iteration_is_the_papers(seed: int, iterations: int) -> None:
    """The table plays x^(k+1) = x_{n+1} + step u(x^(k)) with the guess that it is said to begin with."""
    model = exact(Flow())
    plan = fewer.standard("ddim", model, 4, "logsnr")
    up = fixed_point_inversion(plan, iterations).check()
    image = unit_noise(seed, range(4), model.shape)
    labels = model.labels(4)
    history = History()
    end = play(model, up, image, labels, history=history)
    x, n, tau_before, last = image, 0, 0.0, None
    for row in reversed(plan.rows):
        step = float(row.tau) - tau_before
        guess = x if last is None else x + step * last
        for _ in range(iterations):
            assert torch.allclose(history.states[n], guess, atol=1e-5)
            last = history.outputs[n]
            guess = x + step * last
            n += 1
        x, tau_before = guess, float(row.tau)
    assert torch.allclose(end, x, atol=1e-5)
    assert n == len(up.rows)


def test_explicit_inversion_is_ddim_with_its_levels_turned_round() -> None:
    model = exact(discrete(betas("linear")))
    plan = fewer.standard("ddim", model, 5, "uniform")
    up = explicit_inversion(plan).check()
    assert [row.tau for row in up.rows] == [plan.rows[-1].tau, *(row.tau for row in reversed(plan.rows[1:]))]
    assert times(model, up)[1:] == times(model, plan)[:0:-1]
    assert sum(float(row.b[n]) for n, row in enumerate(up.rows)) == pytest.approx(float(plan.start.tau))
    assert up.end == plan.start.tau
    assert up.nfe == plan.nfe


def test_the_error_of_explicit_inversion_falls_with_the_steps() -> None:
    model = exact(Flow())
    errors = [round_trip(model, fewer.standard("ddim", model, n, "logsnr"), 0) for n in (25, 50, 100)]
    assert errors[0] > 1.4 * errors[1] > 1.4**2 * errors[2]


def test_a_straight_line_is_exact_at_once() -> None:
    """One point mass: u is the same all along, so that a single iteration finds the noise."""
    point = torch.tensor([0.3, -0.2])
    model = Model.from_denoiser(lambda x, t, y: point.expand_as(x), Flow(), (2,), "data")
    model = replace(model, schedule=discrete(betas("linear")))
    plan = fewer.standard("ddim", model, 3, "logsnr")
    up = fixed_point_inversion(plan, 1)
    assert up.nfe == 3
    # of a point mass no noise can be found, since every one ends there: the image must come back all the same
    images = fewer.sample(model, plan, n=4)
    assert torch.allclose(fewer.sample(model, plan, noise=invert(model, plan, images, iterations=1)), images, atol=1e-5)


def test_guidance_and_offsets_are_kept() -> None:
    model = exact(Flow())
    plan = fewer.standard("ddim", model, 40, "logsnr", guidance=1.5)
    assert all(row.guidance == ClassifierFree(1.5) for row in fixed_point_inversion(plan, 2).rows)
    moved = replace(plan, start=replace(plan.start, scale=0.9, offset=torch.full(model.shape, 0.1)))
    noise = unit_noise(1, range(8), model.shape)
    images = fewer.sample(model, moved, noise=noise)
    again = fewer.sample(model, moved, noise=invert(model, moved, images, iterations=20))
    assert relative(again, images) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"images": torch.zeros(2, 1, 3, 3)}, "images have shape"),
        ({"iterations": -1}, "iterations is -1"),
        ({"iterations": 1.5}, "iterations is 1.5"),
        ({"batch": 0}, "batch is 0"),
        ({"labels": 7}, "label 7"),
        ({"plan": "heun"}, r"row \d is not a step of first order"),
        ({"plan": "dpmpp-2m"}, r"row \d is not a step of first order"),
        ({"plan": "ancestral"}, "row 0 is not a step of first order"),
    ],
)
def test_what_cannot_be_inverted(arguments: dict[str, Any], says: str) -> None:
    model = exact(Flow())
    plan = fewer.standard(arguments.pop("plan", "ddim"), model, 4, "logsnr")
    with pytest.raises(InputError, match=says) as caught:
        invert(model, plan, **{"images": torch.zeros(2, 1, 2, 2), **arguments})
    assert "\n" not in str(caught.value)


def test_a_plan_that_does_not_end_at_an_image_cannot_be_inverted() -> None:
    plan = fewer.standard("ddim", exact(Flow()), 4, "logsnr")
    with pytest.raises(InputError, match=r"ends at level 0\.0001"):
        explicit_inversion(replace(plan, end=1e-4))
