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
