"""The adaptive reference agrees with flows that are known in closed form, and keeps to its tolerance and its budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.claims.closed_flows import OneDimensional, product, transported
from fewer.errors import InputError
from fewer.evaluate.probability_flow.adaptive import flow_field
from fewer.evaluate.probability_flow.dormand_prince import integrate, relative
from fewer.evaluate.reference import reference_plan
from fewer.models.denoiser import Clip
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete

SCHEDULES = [Flow(), VarianceExploding(), discrete(betas("scaled_linear"))]
FLOAT64 = torch.float64

ONE = OneDimensional(np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.04, 0.2]))
OTHER = OneDimensional(np.array([0.2, 0.5, 0.3]), np.array([-2.0, 0.1, 1.5]), np.array([0.3, 0.02, 0.1]))


def exact(mixture: GaussianMixture, schedule: Any) -> Model:
    return Model.from_mixture(mixture, schedule, dtype=FLOAT64)


def noise(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=FLOAT64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@given(seed=st.integers(0, 2**20), end=st.floats(0.01, 0.9))
@settings(max_examples=5, deadline=None)
def test_the_flow_of_one_gaussian(schedule: Any, seed: int, end: float) -> None:
    mixture = GaussianMixture.random(3, seed=seed)
    model = exact(mixture, schedule)
    x = model.start * noise(8, 3, seed)
    found = fewer.adaptive(model, x, end=end, rtol=1e-8, atol=1e-8)
    assert found.x.dtype == FLOAT64
    assert float((found.x - mixture.flow(x, model.start, end)).abs().max()) < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_flow_of_a_product_of_one_dimensional_mixtures(schedule: Any) -> None:
    model = exact(product(ONE, OTHER), schedule)
    x = model.start * noise(16, 2, 1)
    found = fewer.adaptive(model, x, end=0.02, rtol=1e-9, atol=1e-9).x
    assert float((found - transported(ONE, OTHER, x, model.start, 0.02)).abs().max()) < 1e-6


@given(seed=st.integers(0, 2**20), components=st.integers(1, 3))
@settings(max_examples=5, deadline=None)
def test_up_and_down_again(seed: int, components: int) -> None:
    model = exact(GaussianMixture.random(2, components, seed=seed), Flow())
    x = noise(4, 2, seed)
    down = fewer.adaptive(model, x, start=1.0, end=0.1, rtol=1e-8, atol=1e-8)
    up = fewer.adaptive(model, down.x, start=0.1, end=1.0, rtol=1e-8, atol=1e-8)
    assert float((up.x - x).abs().max()) < 1e-4


def test_the_error_falls_with_the_tolerance_and_its_cost_is_told() -> None:
    mixture = GaussianMixture.random(4, 3, seed=3)
    model = exact(mixture, Flow())
    x = noise(8, 4, 0)
    truth = fewer.adaptive(model, x, end=0.01, rtol=1e-12, atol=1e-12).x
    errors, costs = [], []
    for tol in (1e-3, 1e-5, 1e-7, 1e-9):
        found = fewer.adaptive(model, x, end=0.01, rtol=tol, atol=tol)
        errors.append(float((found.x - truth).abs().max()))
        costs.append(found.evaluations)
        assert found.evaluations == 2 + 6 * (found.accepted + found.rejected)
        assert found.accepted == len(found.levels) - 1
        assert found.levels[0] == 1.0
        assert found.levels[-1] == 0.01
        assert all(a > b for a, b in zip(found.levels, found.levels[1:], strict=False))
    assert errors == sorted(errors, reverse=True)
    assert costs == sorted(costs)
    assert errors[-1] < 1e-6 * errors[0]


def test_to_the_data_it_is_where_the_reference_solution_goes() -> None:
    model = exact(GaussianMixture.random((1, 2, 2), 3, seed=3), discrete(betas("scaled_linear")))
    z = noise(8, 4, 0).view(8, 1, 2, 2)
    found = fewer.adaptive(model, model.start * z)
    fine = fewer.sample(model, reference_plan(model, 512), noise=z.float())
    assert found.tau == 0
    assert float((found.x - fine).abs().max()) < 1e-4


def test_guided_clipped_and_in_batches_it_is_the_same_field() -> None:
    mixture = GaussianMixture.random((1, 2, 2), 4, seed=3, classes=2)
    model = Model.from_mixture(mixture, Flow(), conditional=True, dtype=FLOAT64)
    model = Model(**{**vars(model), "clip": Clip(1.5)})
    z = noise(6, 4, 0).view(6, 1, 2, 2)
    labels = torch.tensor([0, 1, 0, 1, 1, 1])
    whole = fewer.adaptive(model, z, labels, end=0.05, guidance=2.0, rtol=1e-7, atol=1e-7)
    parts = fewer.adaptive(model, z, labels, end=0.05, guidance=2.0, rtol=1e-7, atol=1e-7, batch=4)
    plain = fewer.adaptive(model, z, labels, end=0.05)
    assert float((whole.x - parts.x).abs().max()) < 1e-4  # a clamp has kinks, where no order is defined
    assert float((whole.x - plain.x).abs().max()) > 0.1
    from fewer.engine import bind, output
    from fewer.samplers import standard

    plan = standard("ddim", model, 2, guidance=2.0)
    step = bind(model, plan)[0]
    rule = plan.rows[0].guidance
    seen = flow_field(model, labels, rule)(float(step.tau), z)
    assert torch.allclose(seen, output(step, z.float(), labels).double(), atol=1e-5)


@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(0.1, 3))
@settings(max_examples=20, deadline=None)
def test_the_pair_solves_a_linear_equation_either_way(rate: float, start: float, span: float) -> None:
    x = torch.ones(1, 1, dtype=FLOAT64)
    for end in (start + span, start - span):
        found = integrate(lambda t, x: rate * x, x, start, end, relative(1e-10, 1e-10), 10**5, "it")
        assert float(found.x) == pytest.approx(np.exp(rate * (end - start)), rel=1e-7, abs=1e-9)


def test_stiff_parts_reject_steps_and_still_end() -> None:
    found = integrate(
        lambda t, x: -500 * (x - torch.cos(torch.tensor(t))), torch.zeros(1, 1, dtype=FLOAT64), 0.0, 1.0,
        relative(1e-6, 1e-6), 10**5, "it",
    )  # fmt: skip
    assert float(found.x) == pytest.approx((500**2 * np.cos(1) + 500 * np.sin(1)) / (500**2 + 1), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x": torch.zeros(2, 3)}, "x has shape"),
        ({"start": 0.0}, "levels are start 0"),
        ({"end": 1.5}, "end 1.5"),
        ({"rtol": 0.0}, "rtol 0"),
        ({"batch": 0}, "batch 0"),
        ({"most": 20}, "too rough: 20 of at most 20 evaluations end at"),
        ({"guidance": 2.0}, "needs a model with labels"),
        ({"labels": 1}, "has no classes"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, Any], says: str) -> None:
    model = exact(GaussianMixture.random(2, 2, seed=0), Flow())
    with pytest.raises(InputError, match=says) as caught:
        fewer.adaptive(model, **{"x": torch.ones(2, 2), **arguments})
    assert "\n" not in str(caught.value)


def test_a_network_that_breaks_is_told() -> None:
    model = Model.from_denoiser(lambda x, t, y: x * float("nan"), Flow(), (2,), "flow")
    with pytest.raises(InputError, match="is not finite at 1"):
        fewer.adaptive(model, torch.ones(2, 2))
