"""Weights of any plan fitted to the reference solution's way, whatever its rows call."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_joint import problem, stack

import fewer
from fewer.engine import MICRO_BATCH
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut
from fewer.samplers import standard
from fewer.search.objective import Objective
from fewer.search.passes import passing
from fewer.search.refit import Refit, refitted
from fewer.search.row_fit import RowFit
from fewer.search.space import Space
from fewer.search.strategies.joint import names_of
from fewer.search.strategies.regression import levels_of
from fewer.search.trajectory import reference_trajectories

CALLS = 4


@pytest.fixture(scope="module")
def model() -> Model:
    return stack()


def cheaper(model: Model, plan: Plan) -> Plan:
    """The plan with the first block left out of its second and last rows."""
    blocks = {names_of(model)[0]: Shortcut({0: 1.0})}
    rows = [replace(row, blocks=blocks) if n in (1, CALLS - 1) else row for n, row in enumerate(plan.rows)]
    return replace(plan, rows=tuple(rows))


def test_rows_of_whole_calls_are_fitted_as_rows_by_regression(model: Model) -> None:
    objective = problem(model, 16)
    way = reference_trajectories(objective, None, 16, 16)
    plan = standard("dpmpp-2m", model, CALLS, "logsnr")
    usual = standard("ddim", model, CALLS, "logsnr")  # whose weights the other fit is drawn to
    fit = RowFit(objective, way)
    expected = fit.plan(fit(levels_of(usual)))
    found = refitted(fit, usual)
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert [float(row.b[j]) for j in row.b] == pytest.approx(
            [float(other.b[j]) for j in other.b], rel=1e-3, abs=1e-4
        )
    assert objective.rmse(refitted(fit, plan)) == pytest.approx(objective.rmse(found), rel=1e-2)


@pytest.mark.parametrize("batch", [MICRO_BATCH, 5])
def test_what_rows_leave_out_is_weighed(model: Model, batch: int) -> None:
    objective = replace(problem(model, 16), batch=batch)
    way = reference_trajectories(objective, None, 16, 16)
    plan = cheaper(model, standard("dpmpp-2m", model, CALLS, "logsnr"))
    before = objective.counter.evaluations
    found = refitted(RowFit(objective, way), plan)
    assert objective.counter.evaluations - before == CALLS * 16
    assert [row.blocks for row in found.rows] == [row.blocks for row in plan.rows]
    assert found.levels == plan.levels
    last = replace(found, rows=(*found.rows[:-1], replace(found.rows[-1], a=plan.rows[-1].a, b=plan.rows[-1].b)))
    assert objective.rmse(found) <= objective.rmse(last) * (1 + 1e-6)  # no other last row ends nearer
    assert torch.allclose(objective.samples(found), replace(objective, batch=MICRO_BATCH).samples(found), atol=1e-5)


@pytest.mark.parametrize("pattern", ["2222", "1222", "12h2", "22hh"])  # h rows look back at passes of the row before
def test_guided_rows_are_fitted_by_their_rules_outputs(pattern: str) -> None:
    mixture = fewer.GaussianMixture.random((3,), components=4, classes=2, seed=1)
    model = Model.from_mixture(mixture, Flow(), conditional=True, hash="exact")
    plan = passing(standard("dpmpp-2m", model, 2 * CALLS, "logsnr", guidance=2.0), pattern, 2.0)
    objective = Objective(model, unit_noise(0, range(16), model.shape), model.labels(16)).with_reference(
        [], guidance=2.0
    )
    before = objective.rmse(plan)
    way = reference_trajectories(objective, 2.0, 32, 16)
    found = refitted(RowFit(objective, way), plan)
    assert [row.guidance for row in found.rows] == [row.guidance for row in plan.rows]
    assert objective.rmse(found) < before


def test_kept_weights_are_not_fitted_and_a_fit_is_made_once(model: Model) -> None:
    objective, plan = problem(model, 8), standard("ddim", model, CALLS, "logsnr")
    assert list(Refit().search(objective, Space(model, (plan,), frozenset({"solver"})), [], 0)) == []
    (found,) = Refit().search(objective, Space(model, (plan,)), [], 0)
    assert found.error < objective.rmse(plan)
    assert list(Refit().search(objective, Space(model, (plan,)), [found], 0)) == []
