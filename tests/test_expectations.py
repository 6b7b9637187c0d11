"""Several expectations from one adaptive sample: unbiased, and nearer than plain Monte Carlo where something is rare."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fewer import InputError
from fewer.evaluate.statistics.expectations import Law, expectations


def tails(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, 0] > 2.5, x[:, 1] < -2.5, x[:, 0] > 0], 1).double()


CHANCES = np.array([norm.sf(2.5), norm.sf(2.5), 0.5])


@pytest.mark.slow
def test_no_bias_less_error_and_intervals_that_cover() -> None:
    runs = [expectations(tails, Law.standard(2), 1000, seed).values for seed in range(200)]
    errors = np.array([[each.value for each in values] for values in runs]) - CHANCES
    assert (abs(errors.mean(0)) < 4 * errors.std(0) / math.sqrt(len(runs))).all()
    separate = np.sqrt(CHANCES * (1 - CHANCES) / (1000 / 3))
    assert (np.sqrt((errors**2).mean(0)) < separate).all()
    covered = np.mean([[v.low <= p <= v.high for v, p in zip(run, CHANCES, strict=True)] for run in runs])
    assert covered > 0.88


@given(st.integers(0, 2**32 - 1), st.floats(-5, 5))
@settings(max_examples=10, deadline=None)
def test_a_constant_is_found_and_an_intercept_only_shifts(seed: int, shift: float) -> None:
    law = Law.normal(torch.tensor([1.0, -2.0]), torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    found = expectations(lambda x: torch.stack([torch.full_like(x[:, 0], 3.0), x[:, 0] + shift], 1), law, 1000, seed)
    assert found.values[0].value == pytest.approx(3, abs=0.3)
    assert abs(found.values[1].value - 1 - shift) < 6 * (found.values[1].high - found.values[1].value) / 1.96 + 1e-9


def test_the_budget_is_what_is_evaluated() -> None:
    seen = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return tails(x)

    found = expectations(counted, Law.standard(2), 3000, 0)
    assert sum(seen) == 3000
    assert found.adaptive == sum(seen[:-1])
    assert found.adaptive <= 1500
    assert found.rounds == len(seen) - 1
    assert {each.n for each in found.values} == {seen[-1]}
    assert expectations(tails, Law.standard(2), 3000, 0) == found


def test_a_function_that_never_acts_is_zero() -> None:
    found = expectations(lambda x: torch.zeros(len(x), 2), Law.standard(3), 1000)
    assert [each.value for each in found.values] == [0, 0]


def test_the_density_of_a_normal_law() -> None:
    cov = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    law, x = Law.normal(torch.tensor([1.0, 0.0]), cov), torch.randn(5, 2, dtype=torch.float64)
    theirs = torch.distributions.MultivariateNormal(torch.tensor([1.0, 0.0], dtype=torch.float64), cov).log_prob(x)
    assert torch.allclose(law.log_density(x), theirs)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1000"):
        expectations(tails, Law.standard(2), 999)
    for broken in (lambda x: x[:, 0], lambda x: x[:5], lambda x: x / 0):
        with pytest.raises(InputError, match="finite values"):
            expectations(broken, Law.standard(2), 1000)
