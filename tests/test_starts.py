"""Searches that begin with a plan: what such a plan must be, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.cli.main import run
from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.models.mixture import GaussianMixture
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut
from fewer.plan.file import digest
from fewer.search.objective import Objective
from fewer.search.passes import passing, pattern_of
from fewer.search.space import Space
from fewer.search.starts import lies_in
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.guided_rows import GuidedRows

CALLS = 3
BRIEF = {"nfe": CALLS, "noises": 8, "fresh": 8, "trials": 2}


def mixture(moved: float = 0.0) -> fewer.Model:
    exact = GaussianMixture.random((2,), components=3, seed=0)
    exact = replace(exact, means=exact.means + moved)
    return fewer.Model.from_mixture(exact, discrete(betas("linear")), name=f"moved {moved}", hash=f"moved {moved}")


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    return mixture()


def spaces(model: fewer.Model, free: bool) -> Space:
    return Space(model, (fewer.standard("ddim", model, CALLS, "logsnr"),), free=free)


def problem(model: fewer.Model, n: int = 32) -> Objective:
    noise = unit_noise(0, range(n), model.shape)
    return Objective(model, noise, None, sample(model, reference_plan(model, 64), noise=noise))


@pytest.fixture(scope="module")
def freed(model: fewer.Model) -> Plan:
    """A plan whose steps are not exact on straight lines."""
    space = spaces(model, free=True)
    rng = np.random.default_rng(0)
    return space.plan(space.vector(fewer.standard("ddim", model, CALLS, "karras")) + 0.1 * rng.standard_normal(12))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=12, max_size=12))
def test_every_plan_of_a_free_space_is_found_again_by_its_vector(model: fewer.Model, shift: list[float]) -> None:
    space = spaces(model, free=True)
    shift[0] = abs(shift[0])  # starts lie below the model's by a little
    plan = space.plan(space.vector(space.base) + np.array(shift))
    assert space.plan(space.vector(plan)).rows[-1].a == pytest.approx(plan.rows[-1].a)
    assert space.vector(plan) == pytest.approx(space.vector(space.base) + np.array(shift), abs=1e-6)
    assert lies_in(space, plan)
    assert not lies_in(spaces(model, free=False), plan)


def test_a_descent_from_a_plan_ends_no_higher_than_the_plan(model: fewer.Model, freed: Plan) -> None:
    task = problem(model)
    space = replace(spaces(model, free=False), starts=(freed,))
    strategy = GaussNewton(trial=2, candidates=8)
    done = list(strategy.search(task, space, [], 0))
    assert strategy.choose(done).error < task.rmse(freed)
    assert [len(c.state["walks"]) for c in done] == [
        3
    ] * 8  # the plan's, the best standard one's, and that on all noises
    assert done[0].plan.rows[0].a is not None
    assert done[2].plan.rows[0].a is None


@pytest.mark.slow
@pytest.mark.usefixtures("few_standards")
def test_a_search_from_a_plan_of_a_model_before_its_fine_tuning(model: fewer.Model, tmp_path: Path) -> None:
    before = fewer.tune(mixture(0.05), **BRIEF).plan.save(tmp_path / "before.json")
    options = {**BRIEF, "out": tmp_path / "out"}
    result = fewer.tune(model, start_from=[str(before)], **options)
    assert fewer.tune(model, start_from=[Plan.load(before)], **BRIEF).plan.rows == result.plan.rows
    again = fewer.tune(model, start_from=[before], resume=True, **options)
    assert again.plan.rows == result.plan.rows
    other = fewer.standard("ddim", model, CALLS, "karras")
    for another in ([other], []):
        with pytest.raises(InputError, match="searched with another start_from"):
            fewer.tune(model, start_from=another, resume=True, **options)


def test_a_name_does_not_change_a_digest_and_a_weight_does(model: fewer.Model, freed: Plan) -> None:
    row = replace(freed.rows[0], b={0: 0.5})
    assert digest(freed) == digest(freed.named("another"))
    assert digest(freed) != digest(replace(freed, rows=(row, *freed.rows[1:])))


@pytest.mark.usefixtures("few_standards")
def test_each_budget_begins_with_its_own_plans(model: fewer.Model) -> None:
    plans = [fewer.standard("dpmpp-2m", model, nfe, "karras") for nfe in (3, 4)]
    both = fewer.tune(model, start_from=plans, **{**BRIEF, "nfe": [3, 4]}).front
    alone = fewer.tune(model, start_from=plans[:1], **BRIEF).front
    assert both[0].plan.rows == alone[0].plan.rows
    assert [outcome.nfe for outcome in both] == [3, 4]


def test_plans_that_no_search_can_begin_with(model: fewer.Model, freed: Plan) -> None:
    def refused(message: str, plan: Plan, **more: object) -> None:
        with pytest.raises(InputError, match=message):
            fewer.tune(model, start_from=[plan], **{**BRIEF, **more})

    refused("of 4 evaluations; expected 3", fewer.standard("ddim", model, 4))
    refused("expected one of 4, 5", freed, nfe=[4, 5])
    refused("evolution begins with standard plans only", freed, strategy="evolution")
    refused("not exact on straight lines", freed, strategy="gauss-newton-consistent")
    refused("keep has steps", freed, keep=["steps"])
    refused("without noise", fewer.standard("ancestral", model, CALLS))
    refused("falling levels", fewer.standard("heun", model, CALLS, "karras"))
    short = replace(freed, rows=(*freed.rows[:2], replace(freed.rows[2], blocks={"a": Shortcut({0: 1.0})})))
    with pytest.raises(InputError):  # a mixture has no blocks
        fewer.tune(model, start_from=[short], **BRIEF)


@pytest.mark.usefixtures("few_standards")
@pytest.mark.slow
def test_a_guided_search_begins_with_a_plan_of_fewer_second_passes() -> None:
    exact = GaussianMixture.random((2,), components=4, seed=1, classes=2)
    model = fewer.Model.from_mixture(exact, discrete(betas("linear")), conditional=True, hash="guided")
    plan = passing(fewer.standard("dpmpp-2m", model, 3, "karras"), "12h", 2.0).named("of before")
    assert (plan.nfe, pattern_of(plan)) == (4, "12h")
    noise, labels = unit_noise(0, range(16), model.shape), model.labels(16)
    target = sample(model, reference_plan(model, 32, 2.0), noise=noise, labels=labels)
    task = Objective(model, noise, labels, target)
    bases = (fewer.standard("dpmpp-2m", model, 4, "logsnr", guidance=2.0),)
    space = Space(model, bases, starts=(plan,))
    done = list(GuidedRows(grids=1, few=8, starts=1, finals=2, trial=2, candidates=30).search(task, space, [], 0))
    walked = [c for c in done if c.state["pattern"] == "12h" and c.state["stage"] == "few"]
    assert len(walked) == 2
    assert walked[-1].error < task.rmse(plan)
    options = {"nfe": 4, "guidance": 2.0, "noises": 8, "fresh": 8, "trials": 1}
    assert fewer.tune(model, start_from=[plan], **options).plan.nfe == 4
    with pytest.raises(InputError, match="guidance asked for"):
        fewer.tune(model, start_from=[fewer.standard("ddim", model, 4)], **options)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1}', "[]"])
def test_a_file_that_is_no_plan_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
    path = tmp_path / "start.json"
    if content:
        path.write_text(content)
    out = tmp_path / "out"
    assert run(["tune", "mixture16", "--nfe", "4", "--start-from", f"ays,{path}", "--out", str(out)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "start.json" in line
    assert not out.exists()
