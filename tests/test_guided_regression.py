"""Guided rows by regression: weights on each pass, which rows need both, and the descent on all of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.pass_weights import Conditions, PassWeights, pass_weights
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.plan.file import digest
from fewer.search.columns import strategies
from fewer.search.elimination import eliminated
from fewer.search.objective import Objective
from fewer.search.pass_space import PassSpace, passes_of
from fewer.search.passes import passing
from fewer.search.request import Budget, Request
from fewer.search.row_fit import BOTH, LABEL, Fitted, RowFit
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.guided_regression import VALUES, GuidedRegression, best_of_lengths, neighbours, patterns
from fewer.search.strategies.guided_rows import GuidedRows
from fewer.search.strategies.regression import RowsByRegression, levels_of, row_fit

VP = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
SCALE = 2.0
QUICK = GuidedRegression(
    RowsByRegression(grids=1, starts=2, noises=16),
    GaussNewton(starts=1, trial=1, candidates=3),
    lengths=2,
)


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    mixture = fewer.GaussianMixture.random((3,), components=4, classes=2, seed=1)
    return fewer.Model.from_mixture(mixture, VP, conditional=True, hash="exact")


@pytest.fixture(scope="module")
def noises(model: fewer.Model) -> Objective:
    return Objective(model, unit_noise(0, range(32), model.shape), model.labels(32)).with_reference([], guidance=SCALE)


def around(model: fewer.Model, passes: int = 6, starts: tuple[Plan, ...] = ()) -> Space:
    base = fewer.standard("dpmpp-2m", model, passes, "logsnr", guidance=SCALE)
    return Space(model, (base,), starts=starts)


def samples(model: fewer.Model, plan: Plan) -> torch.Tensor:
    return fewer.sample(model, plan, noise=unit_noise(5, range(8), model.shape))


def test_classifier_free_guidance_is_two_weights(model: fewer.Model) -> None:
    plan = fewer.standard("dpmpp-2m", model, 4, "logsnr", guidance=3.0)
    assert all(isinstance(row.guidance, ClassifierFree) for row in plan.rows)
    weighed = replace(plan, rows=tuple(replace(row, guidance=PassWeights((3.0,), (-2.0,))) for row in plan.rows))
    assert torch.allclose(samples(model, weighed), samples(model, plan), atol=1e-5)
    assert weighed.nfe == plan.nfe


def test_weights_are_read_from_the_row_back() -> None:
    rule = pass_weights([1.0, 2.0, 3.0, 4.0], [LABEL, BOTH, LABEL])
    assert rule == PassWeights((4.0, 2.0, 1.0), (0.0, 3.0, 0.0))
    assert rule.conditions == ("label",)


def test_a_pass_of_no_weight_is_made_where_the_row_makes_it() -> None:
    assert pass_weights([1.0, 0.0], [BOTH]).conditions == ("label", "empty")


def test_a_pass_that_was_not_made_is_named(model: fewer.Model) -> None:
    plan = fewer.standard("ddim", model, 2, "logsnr")
    rows = tuple(replace(row, guidance=PassWeights((1.0,), (0.0, 1.0))) for row in plan.rows)
    with pytest.raises(fewer.InputError, match="weighs the empty pass of row"):
        fewer.sample(model, replace(plan, rows=rows), 2)


@pytest.mark.parametrize("bad", ["1", (float("nan"),), (True,), None])
def test_weights_are_lists_of_numbers(bad: object) -> None:
    with pytest.raises(fewer.InputError, match="guidance label"):
        PassWeights(bad)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(
    label=st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    empty=st.lists(st.floats(-3, 3), max_size=5),
    rows=st.integers(0, 5),
)
def test_a_rule_without_its_past_keeps_the_sum_of_its_weights(
    label: list[float], empty: list[float], rows: int
) -> None:
    """So that a step stays exact where all passes agree."""
    rule = PassWeights(tuple(label), tuple(empty))
    rest = rule.reaching(rows)
    assert sum(rest.label) + sum(rest.empty) == pytest.approx(sum(label) + sum(empty), abs=1e-9)
    assert max(len(rest.label), len(rest.empty)) <= rows + 1
    assert rule.reaching(5) == rule


def test_a_plan_of_weighed_passes_starts_in_the_middle(model: fewer.Model, noises: Objective) -> None:
    fit = row_fit(noises, around(model), 32, 16)
    plan = fit.plan(fit([0.9, 0.6, 0.3, 0.1], [BOTH, LABEL, BOTH, LABEL]))
    image = fewer.sample(model, plan, 4, seed=1)
    for level in (0.7, 0.4, 0.2):
        assert fewer.sample(model, plan.from_level(level), init=image, strength=level, n=4).isfinite().all()


@pytest.mark.parametrize("pattern", ["222", "12h", "2h1", "121"])
def test_plans_under_classifier_free_guidance_lie_in_the_space(model: fewer.Model, pattern: str) -> None:
    plan = passing(fewer.standard("unipc", model, 3, "uniform"), pattern, SCALE)
    space = PassSpace(model, (plan,), frozenset({"steps"}))
    vector = space.vector(plan)
    assert len(vector) == len(space.names) == len(PassSpace(model, (plan,)).names) - 3
    again = space.plan(vector).check()
    assert passes_of(again) == passes_of(plan)
    assert torch.allclose(samples(model, again), samples(model, plan), atol=1e-5)


def test_a_plan_of_the_space_is_that_of_its_vector(model: fewer.Model, noises: Objective) -> None:
    fit = row_fit(noises, around(model), 32, 16)
    plan = fit.plan(fit([0.9, 0.6, 0.3, 0.1], [BOTH, LABEL, BOTH, LABEL]))
    space = PassSpace(model, (plan,))
    again = space.plan(space.vector(plan))
    assert torch.allclose(samples(model, again), samples(model, plan), atol=1e-5)
    assert all(name.startswith(("start", "level")) for name in space.names[:4])


@pytest.mark.parametrize("passes", [4, 5, 6, 7, 8])
def test_so_many_passes_are_left(model: fewer.Model, noises: Objective, passes: int) -> None:
    fit = row_fit(noises, around(model), 32, 16)
    taus = [0.9, 0.6, 0.3, 0.1]
    rows = eliminated(fit, fit(taus, [BOTH] * 4), passes)
    assert sum(map(len, rows)) == passes
    assert set(rows) <= {BOTH, LABEL}


def test_a_second_pass_moves_to_every_other_row() -> None:
    moved = neighbours([BOTH, LABEL, LABEL])
    assert moved == [(LABEL, BOTH, LABEL), (LABEL, LABEL, BOTH)]


def beginning(one: Sequence[Conditions], other: Sequence[Conditions]) -> list[Conditions]:
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=True))]


@given(st.integers(1, 7), st.data())
def test_every_choice_of_rows_is_made_once_the_nearest_one_before(rows: int, data: st.DataObject) -> None:
    """Else a fit would make calls anew that an earlier one has made."""
    passes = data.draw(st.integers(rows, 2 * rows))
    every = list(patterns(rows, passes))
    assert len(set(every)) == len(every) == math.comb(rows, passes - rows)
    assert all(len(each) == rows and sum(map(len, each)) == passes for each in every)
    for n, each in enumerate(every[1:], 1):
        shared = [len(beginning(each, other)) for other in every[:n]]
        assert shared[-1] == max(shared)


def test_the_best_choice_of_rows_is_taken(model: fewer.Model, noises: Objective) -> None:
    found = takewhile(lambda c: c.state["stage"] == "passes", QUICK.search(noises, around(model), [], 0))
    fit = row_fit(noises, around(model), QUICK.rows.levels, QUICK.rows.noises)
    few = fit.first(math.ceil(VALUES * 7 / 3))
    for candidate in found:
        taus, rows = levels_of(candidate.plan), passes_of(candidate.plan)
        every = {each: few(taus, each).rmse for each in patterns(len(taus), 6)}
        assert every[rows] == min(every.values())
        assert candidate.error == pytest.approx(every[rows])


def test_what_is_chosen_is_fitted_on_all_noises(model: fewer.Model, noises: Objective) -> None:
    found = list(takewhile(lambda c: c.state["stage"] != "descent", QUICK.search(noises, around(model), [], 0)))
    fit = row_fit(noises, around(model), QUICK.rows.levels, QUICK.rows.noises)
    best = best_of_lengths([c for c in found if c.state["stage"] == "passes"])
    fits = [c for c in found if c.state["stage"] == "fit"]
    assert [passes_of(c.plan) for c in fits] == [passes_of(c.plan) for c in best]
    assert all(c.error == pytest.approx(fit(levels_of(c.plan), passes_of(c.plan)).rmse) for c in fits)
    assert QUICK.choose(found) in fits


@pytest.mark.parametrize("most", [0, 40])
def test_the_search_keeps_to_the_passes_and_gets_better(model: fewer.Model, noises: Objective, most: int) -> None:
    space, strategy = around(model), replace(QUICK, most=most)
    found = list(strategy.search(noises, space, [], 0))
    assert any(c.state["stage"] == "swap" for c in found) == (most == 0)
    assert [c.state["stage"] for c in found][-1] == "descent"
    assert {c.plan.check().nfe for c in found} == {6}
    assert all(c.plan.recipe.passes == "".join(str(len(row)) for row in passes_of(c.plan)) for c in found)
    assert noises.rmse(strategy.choose(found).plan) < noises.rmse(space.base)


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 40])
def test_a_search_that_is_resumed_finds_the_same(model: fewer.Model, noises: Objective, most: int) -> None:
    strategy = replace(QUICK, most=most)
    whole = list(strategy.search(noises, around(model), [], 0))
    for n in range(1, len(whole), 3):
        rest = list(strategy.search(noises, around(model), whole[:n], 0))
        assert [c.plan.rows for c in rest] == [c.plan.rows for c in whole[n:]]


def test_plans_to_begin_with_are_descended_from(model: fewer.Model, noises: Objective) -> None:
    start = passing(fewer.standard("unipc", model, 4, "uniform"), "2h2h", SCALE)
    short = replace(QUICK, descent=replace(QUICK.descent, candidates=2))
    found = list(short.search(noises, around(model, starts=(start,)), [], 0))
    fits = best_of_lengths([c for c in found if c.state["stage"] == "fit"])
    begun = {c.state["start"]: c.state["walks"][0]["parent"] for c in found if c.state["stage"] == "descent"}
    assert list(begun.values()) == [digest(plan) for plan in (fits[0].plan, start, *(c.plan for c in fits[1:]))]
    assert short.choose(found) in found


@pytest.mark.parametrize(("dim", "passes"), [(1, 4), (1, 8), (2, 8), (3, 8)])
def test_choices_are_compared_on_more_values_than_a_row_has_weights(
    dim: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every choice would fit them without error."""
    mixture = fewer.GaussianMixture.random((dim,), components=2, classes=2, seed=1)
    small = fewer.Model.from_mixture(mixture, VP, conditional=True, hash="exact")
    noises = Objective(small, unit_noise(0, range(32), small.shape), small.labels(32)).with_reference(
        [], guidance=SCALE
    )
    took, first = [], RowFit.first

    def noted(fit: RowFit, count: int) -> RowFit:
        took.append(len(first(fit, count).objective))
        return first(fit, count)

    monkeypatch.setattr(RowFit, "first", noted)
    next(replace(QUICK, rows=replace(QUICK.rows, noises=32)).search(noises, around(small, passes), [], 0))
    assert min(took) * dim >= min(VALUES * (1 + passes), 32 * dim)


def test_a_fit_with_a_sample_that_is_not_finite_is_the_worst() -> None:
    errors = [torch.tensor(each) for each in ([0.1, math.nan], [0.2, 0.3], [math.inf, 0.1])]
    assert min((Fitted(errors=each) for each in errors), key=lambda fit: fit.rmse).errors is errors[1]


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_the_fewest_passes_are_kept_to(model: fewer.Model, noises: Objective, passes: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a row that is not guided
        space = around(model, passes)
    found = list(QUICK.search(noises, space, [], 0))
    assert {c.plan.nfe for c in found} == {passes}


@pytest.mark.parametrize("kept", ["solver", "steps,solver"])
def test_kept_weights_leave_the_search_to_another_strategy(model: fewer.Model, kept: str) -> None:
    request = Request((Budget(6),), guidance=SCALE, keep=frozenset(kept.split(",")))
    assert strategies(request, model) == (GuidedRows(), None)
    assert strategies(replace(request, keep=frozenset({"steps"})), model) == (GuidedRegression(), None)


def test_kept_weights_are_not_fitted(model: fewer.Model, noises: Objective) -> None:
    kept = replace(around(model), keep=frozenset({"solver"}))
    assert not list(QUICK.search(noises, kept, [], 0))


def test_another_rule_is_refused(model: fewer.Model, noises: Objective) -> None:
    base = fewer.standard("ddim", model, 4, "logsnr")
    with pytest.raises(fewer.InputError, match="needs classifier-free guidance"):
        next(QUICK.search(noises, Space(model, (base,)), [], 0))


def test_a_plan_of_pass_weights_is_measured_at_the_scale_that_it_was_made_for(model: fewer.Model) -> None:
    """Its rows have none: the plan's evidence has it, or the caller gives it."""
    plan = fewer.standard("ddim", model, 4, "logsnr", guidance=SCALE)
    weights = PassWeights((SCALE,), (1 - SCALE,))
    same = replace(plan, rows=tuple(replace(row, guidance=weights) for row in plan.rows), evidence={"guidance": SCALE})
    unknown = replace(same, evidence={})
    error = fewer.measure(model, plan, n=16)["typical_error"].value
    assert fewer.measure(model, same, n=16)["typical_error"].value == pytest.approx(error, rel=1e-4)
    given = fewer.measure(model, unknown, n=16, guidance=SCALE)
    assert given["typical_error"].value == pytest.approx(error, rel=1e-4)
    with pytest.raises(InputError, match="guidance is missing"):
        fewer.measure(model, unknown, n=16)
