"""The search: its space, its Jacobian, its strategies, its study and its verdict, on exact models."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.schedules import Flow, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.registry import find, parts
from fewer.samplers import standard_plans
from fewer.search.objective import Objective, first_change
from fewer.search.space import Space, check_keep, fits
from fewer.search.strategies.evolution import Evolution
from fewer.search.strategies.gauss_newton import GaussNewton, jacobian_of
from fewer.search.strategy import Candidate
from fewer.search.study import Study
from fewer.solvers import compile_plan
from fewer.solvers.trace import Level

VP = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")


@pytest.fixture(scope="module")
def mixture() -> fewer.GaussianMixture:
    return fewer.GaussianMixture.random((3,), components=4, seed=1, classes=2)


@pytest.fixture(scope="module")
def model(mixture: fewer.GaussianMixture) -> fewer.Model:
    return fewer.Model.from_mixture(mixture, VP, hash="exact")


@pytest.fixture(scope="module")
def guided(mixture: fewer.GaussianMixture) -> fewer.Model:
    return fewer.Model.from_mixture(mixture, VP, conditional=True, hash="exact-guided")


def problem(model: fewer.Model, n: int = 64, guidance: float | None = None, seed: int = 0) -> Objective:
    noise = unit_noise(seed, range(n), model.shape)
    labels = model.labels(n)
    fine = fewer.standard("dpmpp-3m", model, 256 if guidance else 128, "exponential", guidance=guidance)
    return Objective(model, noise, labels, fewer.sample(model, fine, noise=noise, labels=labels))


def same(a: Plan, b: Plan) -> None:
    for row, other in zip(a.rows, b.rows, strict=True):
        assert row.t is other.t is None
        assert row.tau == pytest.approx(other.tau, rel=1e-12)
        for j in {*row.b, *other.b}:
            assert row.b.get(j, 0.0) == pytest.approx(other.b.get(j, 0.0), abs=1e-10)


@pytest.mark.parametrize("solver", [p.name for p in parts("solvers")])
def test_a_fitting_plan_is_the_origin_of_its_space(model: fewer.Model, solver: str) -> None:
    """But for the start, which must lie below the model's by a little to be free."""
    lower = model.start / (1 - model.start) * 0.9
    plan = fewer.standard(solver, model, 5, "logsnr", start=lower / (1 + lower))
    if fits(plan):
        space = Space(model, (plan,))
        same(space.plan(space.vector(space.base)), plan)
    else:
        levels = [float(level) for level in plan.levels]
        assert plan.stochastic or not all(a > b for a, b in pairwise(levels))  # several calls at one level


@given(st.integers(2, 7), st.lists(st.floats(-20, 20), min_size=40, max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_vector_is_a_plan_that_is_exact_on_straight_lines(calls: int, numbers: list[float]) -> None:
    model = fewer.Model.from_denoiser(lambda x, t, y: x, VP, (2,))
    space = Space(model, (fewer.standard("ddim", model, calls, "logsnr"),))
    theta = np.array(numbers[: len(space.names)])
    plan = space.plan(theta).check()
    levels = [*plan.levels]
    assert all(a > b for a, b in itertools.pairwise(levels))
    assert plan.start.tau <= model.start
    for n, row in enumerate(plan.rows):
        assert math.fsum(row.b.values()) == pytest.approx(levels[n + 1] - levels[n], abs=1e-9)


def test_a_free_space_holds_the_consistent_one(model: fewer.Model) -> None:
    space = Space(model, (fewer.standard("unipc", model, 4, "logsnr"),))
    free = replace(space, free=True)
    theta = space.vector(space.base)
    same(free.plan(np.append(theta, np.zeros(8))), space.plan(theta))
    assert free.names == [*space.names, *(f"{what} {n}" for what in ("state", "sum") for n in range(4))]
    moved = free.plan(np.append(theta, [0.0, 0.5, 0, 0, 0, 0, -0.25, 0]))
    plan = space.plan(theta)
    assert moved.rows[1].a == {1: 1.5}
    step = float(plan.rows[3].tau) - float(plan.rows[2].tau)
    assert moved.rows[2].b[2] == pytest.approx(plan.rows[2].b[2] - 0.25 * step, rel=1e-12)


def test_a_consistent_search_never_leaves_the_consistent_plans(model: fewer.Model) -> None:
    task = problem(model, 32)
    base = fewer.standard("unipc", model, 4, "logsnr")
    strategy = GaussNewton(starts=1, trial=2, consistent=True)
    found = list(strategy.search(task, Space(model, (base,)), [], 0))
    assert all(row.a is None for candidate in found for row in candidate.plan.rows)
    free = list(GaussNewton(starts=1, trial=2).search(task, Space(model, (base,)), found, 0))
    assert free[-1].error < found[-1].error
    assert all(row.a is not None for row in free[-1].plan.rows)


def test_a_flow_that_starts_from_pure_noise_has_a_space() -> None:
    model = fewer.Model.from_denoiser(lambda x, t, y: x, Flow(), (2,), predicts="flow")
    space = Space(model, (fewer.standard("euler", model, 4, "uniform"),))
    plan = space.plan(space.vector(space.base))
    for row, before in zip(plan.rows[1:], space.base.rows[1:], strict=True):
        assert row.tau == pytest.approx(before.tau, rel=0.06)


def test_what_is_kept_does_not_move(model: fewer.Model) -> None:
    base = fewer.standard("dpmpp-2m", model, 5, "logsnr")
    held = Space(model, (base,), frozenset({"steps"}))
    moved = held.plan(held.vector(held.base) + 0.3)
    assert [row.tau for row in moved.rows] == [row.tau for row in base.rows]
    assert moved.rows[2].b != base.rows[2].b
    held = Space(model, (base,), frozenset({"solver"}), "dpmpp-2m")
    moved = held.plan(held.vector(held.base) + 0.3)
    assert [row.tau for row in moved.rows] != [row.tau for row in base.rows]
    again = compile_plan(find("solvers", "dpmpp-2m").make(), [Level(float(r.tau)) for r in moved.rows])
    same(moved, again)
    assert Space(model, (base,), frozenset({"solver", "steps"})).names == []
    with pytest.raises(InputError, match="keep has 'colour'"):
        check_keep(["colour"])


def test_the_jacobian_with_kept_rows_is_the_jacobian(guided: fewer.Model) -> None:
    """Reusing states and outputs changes the count of evaluations and nothing else."""
    task = problem(guided, 16, guidance=2.0)
    space = Space(guided, (fewer.standard("dpmpp-2m", guided, 8, "logsnr", guidance=2.0),))
    theta = space.vector(space.base)
    neighbours = []
    for i in range(len(theta)):
        moved = theta.copy()
        moved[i] += 1e-2
        neighbours.append((space.plan(moved), 1e-2))
    base = space.plan(theta)
    task.counter.reset()
    here = task.rollout(base)
    gram, slope = task.jacobian(here, neighbours).equations(here.samples - task.target)
    spent = task.evaluations
    scale = task.target.numel() ** -0.5
    r = (task.run(base, slice(0, 16)) - task.target).flatten().double() * scale
    columns = []
    for plan, h in neighbours:
        columns.append((task.run(plan, slice(0, 16)) - task.run(base, slice(0, 16))).flatten().double() * scale / h)
    whole = torch.stack(columns)
    torch.testing.assert_close(gram, whole @ whole.T, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(slope, whole @ r, rtol=1e-4, atol=1e-9)
    assert spent < 8 * 16 * (1 + 0.75 * len(neighbours))
    assert any(name.startswith("scale") for name in space.names)


def test_along_levels_the_jacobian_has_an_error_of_second_order(guided: fewer.Model) -> None:
    """Half the width leaves a quarter of it; along weights and scales the width is none of theirs."""
    task = problem(guided, 16, guidance=2.0)
    space = Space(guided, (fewer.standard("dpmpp-2m", guided, 5, "logsnr", guidance=2.0),))
    theta, here = space.vector(space.base), task.rollout(space.base)

    def slopes(width: float) -> torch.Tensor:
        jacobian = jacobian_of(task, space, theta, here, width)
        return jacobian.changes.flatten(1).double() / jacobian.widths[:, None]

    levels = torch.tensor([name.startswith(("start", "level")) for name in space.names])
    wide, half, near = map(slopes, (0.2, 0.1, 0.02))
    errors = [float((each - near)[levels].norm()) for each in (wide, half)]
    assert 3 < errors[0] / errors[1] < 5
    assert torch.equal(wide[~levels], half[~levels])
    assert len(wide) == len(theta)


def test_first_change_tells_a_call_from_the_step_after_it(model: fewer.Model) -> None:
    plan = fewer.standard("dpmpp-2m", model, 5, "logsnr")

    def at(n: int, **changes: object) -> Plan:
        rows = list(plan.rows)
        rows[n] = replace(rows[n], **changes)  # type: ignore[arg-type]
        return replace(plan, rows=tuple(rows))

    assert first_change(plan, at(3, b={3: -0.1})) == (3, False)
    assert first_change(plan, at(3, t=500.0)) == (3, True)
    assert first_change(plan, at(2, guidance=ClassifierFree(2.0))) == (2, True)


@pytest.mark.usefixtures("few_standards")
def test_gauss_newton_beats_every_standard_plan_on_its_noises(model: fewer.Model) -> None:
    task = problem(model)
    ranked = sorted(standard_plans(model, 4), key=task.rmse)
    base = next(plan for plan in ranked if fits(plan))
    space = Space(model, (base,))
    strategy = GaussNewton(starts=1, trial=5, candidates=30)
    found = list(strategy.search(task, space, [], 0))
    errors = [candidate.error for candidate in found[5:]]
    assert errors[-1] < 0.6 * task.rmse(ranked[0])
    assert task.rmse(strategy.choose(found).plan) == pytest.approx(errors[-1], rel=1e-6)


def test_evolution_depends_on_nothing_but_its_seed_and_gets_fitter(model: fewer.Model) -> None:
    task = problem(model, 32)
    space = Space(model, (fewer.standard("dpmpp-2m", model, 4, "logsnr"),), solver="dpmpp-2m")
    strategy = Evolution(population=10, keep=4, candidates=40)
    whole = list(strategy.search(task, space, [], 3))
    resumed = whole[:17] + list(strategy.search(task, space, whole[:17], 3))
    assert [c.state["times"] for c in resumed] == [c.state["times"] for c in whole]
    assert strategy.choose(whole).error < min(c.error for c in whole[:10])
    for candidate in whole:
        assert candidate.state["times"] == sorted(candidate.state["times"], reverse=True)


@pytest.mark.usefixtures("few_standards")
def test_a_search_that_is_resumed_ends_like_one_that_was_not_disturbed(model: fewer.Model, tmp_path: Path) -> None:
    options = {"nfe": 3, "noises": 16, "fresh": 16, "seed": 5, "trials": 6}
    whole = fewer.tune(model, out=tmp_path / "whole", **options)  # type: ignore[arg-type]
    fewer.tune(model, out=tmp_path / "parts", **{**options, "trials": 3})  # type: ignore[arg-type]
    resumed = fewer.tune(model, out=tmp_path / "parts", resume=True, **options)  # type: ignore[arg-type]
    assert resumed.plan.rows == whole.plan.rows
    with pytest.raises(InputError, match="already holds a search"):
        fewer.tune(model, out=tmp_path / "parts", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="another seed"):
        fewer.tune(model, out=tmp_path / "parts", resume=True, **{**options, "seed": 6})  # type: ignore[arg-type]


@pytest.mark.usefixtures("few_standards")
def test_a_bounded_search_that_has_ended_gives_the_same_result_again_and_goes_on_with_more(
    model: fewer.Model, tmp_path: Path
) -> None:
    options = {"nfe": [2, 3], "seed": 5, "out": tmp_path}
    first = fewer.tune(model, evaluations=4000, **options)  # type: ignore[arg-type]
    again = fewer.tune(model, evaluations=4000, resume=True, **options)  # type: ignore[arg-type]
    for one, other in zip(first.front, again.front, strict=True):
        assert other.plan.rows == one.plan.rows
        assert other.verdict.to_dict() == one.verdict.to_dict()
    assert again.record.evaluations == first.record.evaluations <= 4000
    assert any("nothing was added" in note for note in again.record.notes)
    assert not any("nothing was added" in note for note in first.record.notes)
    more = fewer.tune(model, evaluations=8000, resume=True, **options)  # type: ignore[arg-type]
    assert 4000 < more.record.evaluations <= 8000
    assert not any("nothing was added" in note for note in more.record.notes)


def test_a_study_gives_back_what_it_got(model: fewer.Model, tmp_path: Path) -> None:
    plan = fewer.standard("unipc", model, 5, "karras")
    study = Study("nfe-5", tmp_path / "study.db", {"seed": 0})
    study.add(Candidate(plan, 0.25, "standard", {"round": 3}))
    study.add(Candidate(plan, math.inf, "other"))
    again = Study("nfe-5", tmp_path / "study.db", {"seed": 0}, resume=True)
    (back,) = again.candidates("standard")
    assert (back.plan.rows, back.error, back.state) == (plan.rows, 0.25, {"round": 3})
    (tmp_path / "no.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(InputError, match="not a study"):
        Study("nfe-5", tmp_path / "no.db")


@pytest.mark.usefixtures("few_standards")
@pytest.mark.slow
def test_tuning_is_better_on_noises_that_it_never_saw(model: fewer.Model, tmp_path: Path) -> None:
    result = fewer.tune(model, nfe=[2, 3], noises=32, fresh=32, trials=8, out=tmp_path)
    assert [outcome.nfe for outcome in result.front] == [2, 3]
    assert all(outcome.plan.nfe == outcome.nfe for outcome in result.front)
    assert all(outcome.verdict.decision == "better" for outcome in result.front)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"plan.json", "results.json", "report.html", "study.db", "front"} <= written
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.rows == result.plan.rows
    score = fewer.measure(model, plan, n=256, seed=77)["paired_rmse"]
    claimed = result.front[-1].chosen.quality.figures["paired_rmse"]
    assert score.low <= claimed.high
    assert claimed.low <= score.high


@pytest.mark.slow
def test_a_guided_search_counts_passes_and_aims_at_the_guided_solution(guided: fewer.Model) -> None:
    result = fewer.tune(guided, nfe=7, guidance=2.0, noises=32, fresh=64, trials=60)
    assert result.plan.nfe == sum(row.passes for row in result.plan.rows) == 7
    assert result.verdict["decision"] in ("better", "not worse")
    assert fewer.measure(guided, result.plan, n=64)["paired_rmse"].value < 2 * result.front[0].searched


@pytest.mark.usefixtures("few_standards")
def test_a_plan_that_was_not_shown_to_be_good_is_not_recommended(model: fewer.Model) -> None:
    """Searched on eight noises and one iteration, judged with a margin that nothing meets."""
    result = fewer.tune(model, nfe=2, noises=8, fresh=8, trials=1, keep=())
    verdict = result.front[0].verdict
    assert (verdict.recommended == "tuned") == (verdict.decision in ("better", "not worse"))
    if verdict.recommended == "standard":
        assert result.plan.rows == result.front[0].standards[0].plan.rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nfe": 0}, "nfe"),
        ({"nfe": 2.5}, "nfe|expected"),
        ({}, "nfe is missing"),
        ({"nfe": 5, "margin": -1.0}, "margin"),
        ({"nfe": 5, "trials": 0}, "trials"),
        ({"nfe": 5, "guidance": 3.0}, "guidance"),
        ({"nfe": 5, "keep": ["nothing"]}, "keep"),
        ({"nfe": 5, "keep": ["steps"]}, "keep of steps"),
        ({"match": True}, "match needs a pipeline"),
        ({"nfe": 5, "strategy": "luck"}, "luck"),
    ],
)
def test_what_makes_no_sense_is_refused(model: fewer.Model, options: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, TypeError), match=message):
        fewer.tune(model, **options)  # type: ignore[arg-type]
