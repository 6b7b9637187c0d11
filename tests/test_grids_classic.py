"""Known grids against diffusers and against their definitions."""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution

from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.grids.fractions import bong_tangent, linear_quadratic
from fewer.grids.in_sigma import exponential
from fewer.grids.shift import shift
from fewer.integrations.probe import from_diffusers
from fewer.models.pipelines.folder import schedule_of
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete

LINEAR = discrete(betas("linear"))
FLOW = Range(Flow(), 1.0)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_beta_in_sigma(n: int) -> None:
    for kind, options in (
        ("DPMSolverMultistepScheduler", {"beta_schedule": "scaled_linear"}),
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("EulerDiscreteScheduler", {}),
    ):
        scheduler = getattr(diffusers, kind)(use_beta_sigmas=True, **options)
        own = schedule_of(scheduler)[0]
        theirs = [float(row.tau) for row in from_diffusers(scheduler, n).rows]
        np.testing.assert_allclose(levels("beta-sigma", Range(own, own.tau_max), n), theirs, atol=1e-6)


def test_beta_in_time() -> None:
    """Equal probability between neighbouring times; denser at both ends than a regular grid."""
    found = np.array([float(LINEAR.time(tau)) for tau in levels("beta", Range(LINEAR, LINEAR.tau_max), 20)])
    probability = beta_distribution.cdf(found / 999, 0.6, 0.6)
    np.testing.assert_allclose(np.diff(probability), -1 / 20, atol=1e-9)
    gaps = -np.diff(found)
    assert gaps[0] < 999 / 20 < gaps[9]
    assert gaps[-1] < 999 / 20


@pytest.mark.parametrize("m", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("n", [1, 4, 10])
def test_shift(m: float, n: int) -> None:
    """The flow scheduler's shift of the same unshifted levels, told as `shift`, or as mu where it is dynamic."""
    v = np.linspace(1, 1 / (m * 999 + 1), n + 1)[:-1]  # down to the v of tau = 1 / 1000
    mine = shift(FLOW, n, m)
    for options, mu in (
        ({"shift": m}, None),
        ({"use_dynamic_shifting": True, "time_shift_type": "exponential"}, math.log(m)),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, m),
    ):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**options)
        scheduler.set_timesteps(sigmas=v.tolist(), mu=mu)
        np.testing.assert_allclose(mine, scheduler.sigmas[:-1].double(), atol=1e-6)


@given(m=st.floats(0.1, 20.0), n=st.integers(1, 30))
def test_shift_multiplies_s(m: float, n: int) -> None:
    """Between the same ends of s / m, s is m times that of the grid regular in tau."""
    for span in (FLOW, Range(VarianceExploding(), VarianceExploding().tau_max)):
        found = shift(span, n, m)
        assert found[0] == pytest.approx(span.start)
        assert (np.diff(found) < 0).all()
        s = found[1:] / (1 - found[1:])
        unshifted = s / m / (1 + s / m)
        start = 1.0 if span.start == 1 else 1 / (1 + m * (1 - span.start) / span.start)
        np.testing.assert_allclose(np.diff(np.array([start, *unshifted]), 2), 0, atol=1e-9)


@pytest.mark.parametrize("m", [0.0, -1.0, math.inf, math.nan])
def test_a_shift_that_makes_no_sense(m: float) -> None:
    with pytest.raises(InputError, match="m is"):
        shift(FLOW, 4, m)


def test_other_names() -> None:
    """ComfyUI's names mean known levels; a polynomial in s is regular in its root, one in log s in its own."""
    span = Range(LINEAR, LINEAR.tau_max)
    np.testing.assert_array_equal(levels("simple", span, 7), levels("trailing", span, 7))
    np.testing.assert_array_equal(levels("sgm-uniform", span, 7), levels("uniform", span, 7))
    tau = levels("polynomial", span, 9)
    np.testing.assert_allclose(np.diff((tau / (1 - tau)) ** (1 / 3), 2), 0, atol=1e-12)
    low, high = (math.log(t / (1 - t)) for t in (LINEAR.tau_min, LINEAR.tau_max))
    tau = exponential(span, 9, rho=2.0)
    part = (np.log(tau / (1 - tau)) - low) / (high - low)
    np.testing.assert_allclose(np.sqrt(np.maximum(part, 0)), np.linspace(1, 0, 9), atol=1e-6)


def test_names_of_comfyui() -> None:
    """`normal` is linspace; `ddim-uniform` leading with an offset; `beta57` equal probabilities of Beta(0.5, 0.7)."""
    span = Range(LINEAR, LINEAR.tau_max)
    np.testing.assert_array_equal(levels("normal", span, 7), levels("linspace", span, 7))
    scheduler = diffusers.DDIMScheduler(timestep_spacing="leading", steps_offset=1, clip_sample=False)
    for n in (5, 20, 50):
        theirs = [row.t for row in from_diffusers(scheduler, n).rows]
        np.testing.assert_allclose(
            [float(LINEAR.time(tau)) for tau in levels("ddim-uniform", span, n)], theirs, atol=1e-6
        )
    times = np.array([float(LINEAR.time(tau)) for tau in levels("beta57", span, 12)])
    np.testing.assert_allclose(np.diff(beta_distribution.cdf(times / 999, 0.5, 0.7)), -1 / 12, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 12, 64])
def test_linear_quadratic_is_that_of_mochi(n: int) -> None:
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    found = levels("linear-quadratic", FLOW, n)
    expected = [1.0] if n == 1 else linear_quadratic_schedule(n, 0.025)
    np.testing.assert_allclose(found, expected[:n], atol=1e-12)


def test_grids_of_arctangents() -> None:
    """`kl-optimal` is regular in the angle; `bong-tangent` begins at the start and passes half of it at about the pivot."""
    for span in (FLOW, Range(LINEAR, LINEAR.tau_max)):
        tau = levels("kl-optimal", span, 9)
        sigma = tau if span.start == 1 else tau / (1 - tau)
        np.testing.assert_allclose(np.diff(np.arctan(sigma), 2), 0, atol=1e-9)
        assert (sigma[0], sigma[-1]) == pytest.approx(span.sigmas)
    for n in (2, 3, 10, 20, 50):
        tau = levels("bong-tangent", FLOW, n)
        assert tau[0] == 1
        assert np.isclose(tau, 0.5).sum() == 1  # where both arcs meet
        assert abs((tau > 0.5).mean() - 0.6) < 1 / n + 0.1
        steps = -np.diff([*tau, 0.0])
        assert abs(int(steps.argmax()) - (tau > 0.5).sum()) <= 1  # around the middle
    # 20 levels: the arcs span 12 and 8 of 22 parts, and the upper one is left a part before its pivot, the 13th
    top, low, end = (math.atan(8 * k / 22) for k in (13, 1, 8))
    expected = [0.5 + (math.atan(8 * 12 / 22) - low) / (2 * (top - low)), 0.5 - math.atan(8 * 7 / 22) / (2 * end)]
    assert levels("bong-tangent", FLOW, 20)[[1, 19]] == pytest.approx(expected)


def test_grids_of_fractions_that_cannot_be() -> None:
    with pytest.raises(InputError, match="below the cleanest trained level"):
        levels("bong-tangent", FLOW, 3000)
    with pytest.raises(InputError, match="threshold is 2"):
        linear_quadratic(FLOW, 5, 2.0)
    with pytest.raises(InputError, match="pivot is 1"):
        bong_tangent(FLOW, 5, 1.0)
