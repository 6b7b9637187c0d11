"""The coordinates of noise levels: inverses of each other, monotone, exact at both ends, and equal for all types."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer.levels import half_log_snr, log_s, s_of_tau, tau_of_log_s, tau_of_s

TAUS = st.floats(1e-12, 1 - 1e-12)
LOGS = st.floats(-30, 20)  # 1 - tau keeps 7 digits at s = e^20


@given(TAUS)
@settings(deadline=None)
def test_s_and_tau_are_inverse(tau: float) -> None:
    assert tau_of_s(s_of_tau(tau)) == pytest.approx(tau, rel=1e-14)


@given(LOGS)
@settings(deadline=None)
def test_log_s_and_tau_are_inverse(value: float) -> None:
    assert float(log_s(tau_of_log_s(value))) == pytest.approx(value, rel=1e-6, abs=1e-9)


@given(TAUS)
@settings(deadline=None)
def test_half_log_snr_is_minus_log_s(tau: float) -> None:
    assert half_log_snr(tau) == pytest.approx(-float(log_s(tau)), rel=1e-14, abs=1e-15)
    assert half_log_snr(tau) == pytest.approx(-math.log(s_of_tau(tau)), rel=1e-12, abs=1e-15)


@given(st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_coordinates_rise_with_tau(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert s_of_tau(low) <= s_of_tau(high)
    assert half_log_snr(low) >= half_log_snr(high)


@pytest.mark.parametrize("kind", [float, np.array, lambda v: torch.tensor(v, dtype=torch.float64)])
def test_ends(kind) -> None:  # type: ignore[no-untyped-def]
    """Clean data and pure noise, without a warning."""
    for tau, s, log in ((0.0, 0.0, -math.inf), (1.0, math.inf, math.inf)):
        assert float(s_of_tau(kind(tau))) == s
        assert float(tau_of_s(kind(s))) == tau
        assert float(tau_of_log_s(kind(log))) == tau
        assert float(log_s(tau)) == log
        assert half_log_snr(tau) == -log


@given(LOGS)
@settings(deadline=None)
def test_types_agree(value: float) -> None:
    s = math.exp(value)
    for convert, at in ((tau_of_log_s, value), (tau_of_s, s), (s_of_tau, tau_of_s(s))):
        array, tensor = convert(np.array([at])), convert(torch.tensor([at], dtype=torch.float64))
        assert array[0] == pytest.approx(convert(at), rel=1e-14)
        assert tensor.item() == pytest.approx(convert(at), rel=1e-14)


def test_log_s_is_differentiable() -> None:
    """d log s / dtau = 1 / (tau (1 - tau))."""
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_s(tau), tau)
    assert float(slope) == pytest.approx(1 / (0.3 * 0.7))
