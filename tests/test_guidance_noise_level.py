"""Noise-level guidance: its direction is a gradient, what it keeps of the noise, batches, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.dynamic.noise_level_guidance import refine_noise
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, betas, discrete
from fewer.noise import unit_noise

SHAPE = (1, 4, 4)
EXACT = GaussianMixture.random(SHAPE, components=6, seed=3, classes=3)
MODEL = Model.from_mixture(EXACT, discrete(betas("scaled_linear"), name="scaled_linear"), conditional=True)
PLAN = fewer.standard("dpmpp-2m", MODEL, 4, "logsnr")
N = 6


def noise(n: int = N) -> Tensor:
    return unit_noise(0, range(n), SHAPE)


def surety(z: Tensor) -> Tensor:
    """log p(label | x) + const at the start."""
    x, tau = float(PLAN.start.scale) * z.double(), float(PLAN.start.tau)
    return EXACT.log_prob(x, tau, MODEL.labels(len(z))) - EXACT.log_prob(x, tau)


def test_a_step_goes_up_the_likelihood_of_the_label() -> None:
    """Before the norm is restored it is size tau times the gradient of log p(label | x)."""
    z = noise().double().requires_grad_()
    (gradient,) = torch.autograd.grad(surety(z).sum(), z)  # by z, which is x / scale
    step = float(PLAN.start.tau) / float(PLAN.start.scale) * gradient
    moved = noise().double() + 2.0 * step
    expected = moved / moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * 4
    found = refine_noise(MODEL, PLAN, noise(), steps=1, size=2.0)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 4), st.floats(0.5, 4.0))
def test_the_label_gets_likelier_and_the_norm_is_kept(steps: int, size: float) -> None:
    sphere = refine_noise(MODEL, PLAN, noise(), steps=1, size=0.0)
    found = refine_noise(MODEL, PLAN, noise(), steps=steps, size=size)
    assert bool((surety(found) > surety(sphere)).all())
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((N,), 4.0))


def test_a_bound_holds_the_step() -> None:
    """On the sphere a step of length b moves by at most b to first order."""
    sphere = refine_noise(MODEL, PLAN, noise(), steps=1, size=0.0)
    found = refine_noise(MODEL, PLAN, sphere, steps=1, size=1.0, bound=1e-2)
    moved = (found - sphere).flatten(1).norm(dim=1)
    assert 0 < float(moved.min()) <= float(moved.max()) < 1.01e-2


def test_samples_do_not_depend_on_the_batch() -> None:
    one, other = (refine_noise(MODEL, PLAN, noise(), spread=0.1, seed=3, batch=size) for size in (N, 4))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (one - refine_noise(MODEL, PLAN, noise(), spread=0.1, seed=4)).abs().max() > 1e-2


def test_no_step_leaves_the_noise() -> None:
    assert torch.equal(refine_noise(MODEL, PLAN, noise(), steps=0), noise())


def test_against_itself_nothing_is_gained_and_against_a_weaker_network_something_is() -> None:
    """Of another process too: it is called at the start's level."""
    same = replace(MODEL, weaker=Model.from_mixture(EXACT, Flow(), conditional=True))
    sphere = refine_noise(MODEL, PLAN, noise(), steps=1, size=0.0)
    stays = refine_noise(same, PLAN, noise(), size=1.0, against="weaker")
    torch.testing.assert_close(stays, sphere, atol=1e-4, rtol=1e-4)
    moved = replace(EXACT, means=0.5 * EXACT.means)
    other = replace(MODEL, weaker=Model.from_mixture(moved, Flow(), conditional=True))
    assert (refine_noise(other, PLAN, noise(), size=1.0, against="weaker") - sphere).abs().max() > 1e-3


PLAIN = replace(MODEL, classes=None, empty_label=None, name="plain")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: refine_noise(PLAIN, PLAN, noise()),
            "guidance needs a model with labels and an empty label; plain has",
        ),
        (lambda: refine_noise(MODEL, PLAN, noise(), against="weaker"), "needs one: give Model.weaker"),
        (lambda: refine_noise(MODEL, PLAN, noise(), against="x"), "against is 'x'"),  # type: ignore[arg-type]
        (lambda: refine_noise(MODEL, PLAN, noise(), steps=-1), "steps is -1; expected a whole number, at least 0"),
        (lambda: refine_noise(MODEL, PLAN, noise(), batch=0), "batch is 0; expected a whole number, at least 1"),
        (lambda: refine_noise(MODEL, PLAN, noise(), size=math.inf), "size is inf; expected a number of at least 0"),
        (lambda: refine_noise(MODEL, PLAN, noise(), spread=-1.0), "spread is -1.0"),
        (
            lambda: refine_noise(MODEL, PLAN, torch.zeros(2, 3)),
            r"noise has shape \(2, 3\); mixture needs \(n, 1, 4, 4\)",
        ),
        (lambda: refine_noise(MODEL, PLAN, noise(), labels=[9] * N), "label 9 is out of range"),
    ],
)
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)
