"""Searching which rows of a guided plan make both passes: patterns, held passes, free scales, budgets, resuming, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import small_dit
from torch import Tensor

import fewer
from fewer.cli.tables import print_tune
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.reference import reference_plan
from fewer.guidance import guide
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.linear_ag import LinearAG
from fewer.models.model import Model
from fewer.models.schedules import Flow, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.search.columns import strategies
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.passes import constant, passing, patterns
from fewer.search.request import Budget, Request
from fewer.search.space import Space
from fewer.search.strategies.autodiffusion import AutoDiffusion
from fewer.search.strategies.evolution import Evolution
from fewer.search.strategies.guided_regression import GuidedRegression
from fewer.search.strategies.guided_rows import GuidedRows
from fewer.search.strategies.joint import Joint
from fewer.search.strategies.regression import Regression

SCALE = 2.0


@pytest.fixture(scope="module")
def model() -> Model:
    mixture = fewer.GaussianMixture.random((3,), components=4, seed=1, classes=2)
    return Model.from_mixture(mixture, discrete(betas("scaled_linear")), conditional=True, hash="guided-rows")


def problem(model: Model, n: int = 16) -> Objective:
    noise, labels = unit_noise(0, range(n), model.shape), model.labels(n)
    return Objective(
        model, noise, labels, fewer.sample(model, reference_plan(model, 32, SCALE), noise=noise, labels=labels)
    )


def base(model: Model, passes: int) -> Plan:
    return fewer.standard("dpmpp-2m", model, passes, "logsnr", guidance=SCALE)


@given(st.integers(1, 40))
def test_every_pattern_makes_the_passes_of_the_budget(passes: int) -> None:
    found = patterns(passes)
    assert len(set(found)) == len(found)
    assert constant(passes) not in found
    for pattern in [constant(passes), *found]:
        assert sum(2 if letter == "2" else 1 for letter in pattern) == passes
    for pattern in found:
        assert len(pattern) >= len(constant(passes))
        assert "2" in pattern
        assert "h" not in pattern[: pattern.index("2")]  # nothing is held before it was made


def test_the_constant_pattern_is_the_standard_plan(model: Model) -> None:
    for passes in (4, 7):
        plan = base(model, passes)
        assert passing(plan, constant(passes), SCALE).rows == plan.rows


def test_a_held_difference_is_guidance_where_the_difference_stays() -> None:
    """A flow whose two passes differ by the same vector at all levels is guided alike, at any scale, by one row of two passes."""

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return 0.3 * x + torch.tensor([0.5, -1.0, 0.0])[labels][:, None]

    flow = Model(network, Flow(), "flow", (4,), classes=2, empty_label=2)
    plan = fewer.standard("dpmpp-2m", flow, 5, "logsnr")
    held, both = passing(plan, "112hh", 3.0), passing(plan, "11222", 3.0)
    noise = unit_noise(0, range(6), (4,))
    torch.testing.assert_close(fewer.sample(flow, held, noise=noise), fewer.sample(flow, both, noise=noise))
    assert (held.nfe, both.nfe) == (6, 8)


def test_a_held_row_at_scale_one_is_the_conditional_network(model: Model) -> None:
    plan = fewer.standard("unipc", model, 4, "logsnr")
    one, other = passing(plan, "2hhh", 1.5), passing(plan, "2111", 1.5)
    rows = [one.rows[0], *(replace(r, guidance=replace(r.guidance, scale=1.0)) for r in one.rows[1:])]  # type: ignore[type-var]
    noise = unit_noise(0, range(8), model.shape)
    mine, its = (fewer.sample(model, p, noise=noise) for p in (replace(one, rows=tuple(rows)), other))
    torch.testing.assert_close(mine, its)


def test_scales_are_numbers_of_the_space_like_others(model: Model) -> None:
    plan = passing(fewer.standard("dpmpp-2m", model, 5, "logsnr"), "122h1", SCALE)
    space = Space(model, (plan,))
    assert [name for name in space.names if name.startswith("scale")] == ["scale 1", "scale 2", "scale 3"]
    assert [row.guidance for row in space.plan(space.vector(space.base)).rows] == [row.guidance for row in plan.rows]
    moved = space.vector(space.base)
    moved[space.names.index("scale 3")] = 1.25
    rules = [row.guidance for row in space.plan(moved).rows]
    assert rules == [row.guidance for row in plan.rows[:3]] + [LinearAG(1.25, (1.0, -1.0), (1.0,)), ClassifierFree(1.0)]
    assert not any(name.startswith("scale") for name in Space(model, (plan,), frozenset({"guidance"})).names)


@given(st.sampled_from([0.0, 1.0]))
def test_a_scale_that_needs_one_pass_makes_both_all_the_same(scale: float) -> None:
    """A later row may hold what they differ by."""
    mixture = fewer.GaussianMixture.random((3,), components=4, seed=1, classes=2)
    model = Model.from_mixture(mixture, discrete(betas("scaled_linear")), conditional=True)
    plan = passing(fewer.standard("ddim", model, 3, "logsnr"), "2hh", SCALE)
    space = Space(model, (plan,), frozenset({"steps"}))
    theta = space.vector(space.base)
    theta[space.names.index("scale 0")] = scale
    moved = space.plan(theta)
    assert moved.nfe == plan.nfe
    assert fewer.sample(model, moved, n=2).isfinite().all()


def test_a_search_makes_plans_of_the_budget_and_the_best_is_chosen(model: Model) -> None:
    of = problem(model)
    strategy = GuidedRows(grids=1, starts=2, trial=2, candidates=30)
    done = list(strategy.search(of, Space(model, (base(model, 5),)), [], 0))
    assert len(done) == 30
    assert all(candidate.plan.nfe == 5 for candidate in done)
    assert {candidate.state["stage"] for candidate in done} == {"race", "few", "all"}
    assert sum(candidate.state["stage"] == "race" for candidate in done) == len(patterns(5))
    chosen = strategy.choose(done)
    assert chosen.error == pytest.approx(of.rmse(chosen.plan))
    assert chosen.error < of.rmse(base(model, 5))
    assert chosen.error <= min(c.error for c in done if c.state["stage"] == "all") * (1 + 1e-9)


def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(model: Model) -> None:
    space = Space(model, (base(model, 4),))
    strategy = GuidedRows(grids=1, starts=1, trial=2, candidates=14)
    whole = list(strategy.search(problem(model, 8), space, [], 0))
    for cut in (2, 6, 11):
        rest = list(strategy.search(problem(model, 8), space, whole[:cut], 0))
        assert [c.plan.rows for c in rest] == [c.plan.rows for c in whole[cut:]]


@pytest.mark.usefixtures("few_standards")
def test_tune_says_passes_and_rows(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = fewer.tune(model, nfe=4, guidance=SCALE, noises=16, fresh=16, trials=12, margin=9.0, out=tmp_path)
    assert result.plan.nfe == 4
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["cost"]["nfe"] == sum(row.passes for row in result.plan.rows) == 4
    assert found["cost"]["rows"] == found["front"][0]["cost"]["rows"] == len(result.plan.rows)
    assert Plan.load(tmp_path / "plan.json").rows == result.plan.rows
    print_tune(result, tmp_path)
    said = capsys.readouterr().out
    assert "nfe in rows" in said
    assert f"4 in {len(result.plan.rows)} " in said
    assert f"in {len(result.plan.rows)} rows" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("few_standards")
def test_passes_are_searched_in_multiply_adds_too() -> None:
    """A row of one pass has half the multiply-adds of one of two."""
    network = small_dit(2)
    most = 4.2 * call_macs(network)
    found = fewer.tune(network, macs=most, guidance=SCALE, noises=8, fresh=8, trials=3, margin=9.0)
    (outcome,) = found.front
    named = {entry.name: entry for entry in outcome.contributions}
    assert named["steps and passes"].nfe == 4
    assert all(entry.macs <= most for entry in named.values())
    assert found.results["cost"]["macs"] <= most


@pytest.mark.usefixtures("few_standards")
def test_guidance_that_is_kept_stays(model: Model) -> None:
    result = fewer.tune(model, nfe=5, guidance=SCALE, keep=["guidance"], noises=8, fresh=8, trials=3, margin=9.0)
    rules = [row.guidance for row in result.plan.rows]
    assert rules == [ClassifierFree(SCALE), ClassifierFree(SCALE), ClassifierFree(1.0)]


def test_only_guided_budgets_in_passes_or_multiply_adds_search_passes(model: Model) -> None:
    guided = Request((Budget(8),), guidance=SCALE)
    passes, steps = GuidedRegression(), Regression()
    assert strategies(guided, model) == (passes, None)
    assert strategies(Request((Budget(8),)), model) == (steps, None)
    assert strategies(replace(guided, guidance=1.0), model) == (steps, None)
    assert strategies(replace(guided, keep=frozenset({"guidance"})), model) == (steps, None)
    assert strategies(replace(guided, strategy=Evolution()), model) == (Evolution(), None)
    work, clock = (replace(guided, budgets=(Budget(8, Limit(model, unit, 9.0)),)) for unit in ("macs", "ms"))  # type: ignore[arg-type]
    assert strategies(work, model) == (GuidedRows(), Joint())
    assert strategies(replace(work, keep=frozenset({"blocks"})), model) == (passes, None)
    assert strategies(clock, model) == (steps, Joint())
    assert strategies(replace(work, strategy=AutoDiffusion()), model) == (steps, AutoDiffusion())


@pytest.mark.parametrize("options", [{}, {"guidance": 1.0}, {"guidance": SCALE, "keep": ["guidance"]}])
def test_a_search_of_passes_needs_passes_to_free(model: Model, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="strategy has 'guided-rows', which needs guidance"):
        fewer.tune(model, nfe=4, strategy="guided-rows", **options)  # type: ignore[arg-type]


def test_a_base_under_another_rule_is_refused(model: Model) -> None:
    bare = fewer.standard("ddim", model, 4, "logsnr")
    for plan in (bare, passing(guide(bare, SCALE), "2hhh", SCALE).from_row(1)):
        with pytest.raises(InputError, match="a search of passes needs classifier-free guidance"):
            next(GuidedRows().search(problem(model, 8), Space(model, (plan,)), [], 0))
