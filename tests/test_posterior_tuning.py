"""Tuned samplers of posteriors: what the search moves, that its verdict is on pairs it did not see, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer import GaussianMixture, InputError, Model, solve, standard, with_noise
from fewer.claims.tasks.posterior_beds import SETTINGS
from fewer.evaluate.posteriors import energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.registry import parts
from fewer.search.deadline import Deadline
from fewer.search.posterior_arguments import arguments as arguments_of
from fewer.search.posterior_arguments import cases
from fewer.search.posterior_pairs import Case, made_pairs
from fewer.search.posterior_space import PosteriorSpace, levels_alone
from fewer.search.posteriors import SPENT, decided, search, tune_posterior
from fewer.search.study import Study
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.given_operators import as_operator
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.named import names
from fewer.testing.models import counted, transformer

SCHEDULES = (discrete(betas("linear")), Flow(), VarianceExploding(0.01, 50.0))
SAMPLERS = {part.name: part.make() for part in parts("tasks") if part.role == "posterior sampler"}


def model(schedule: object = SCHEDULES[0]) -> Model:
    return Model.from_mixture(GaussianMixture.random(2, 2, seed=1), schedule)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", SAMPLERS.values(), ids=SAMPLERS)
@given(seed=st.integers(0, 2**20), which=st.sampled_from(SCHEDULES), solver=st.sampled_from(("ddim", "dpmpp-2m")))
@settings(max_examples=5, deadline=None)
def test_every_point_is_a_plan_that_can_be_played(
    method: PosteriorSampler, seed: int, which: object, solver: str
) -> None:
    space = PosteriorSpace(model(which), method, 7, solver)
    for x in (
        np.random.default_rng(seed).random(len(space.start)),
        np.zeros(len(space.start)),
        np.ones(len(space.start)),
    ):
        plan, settled = space.at(x)
        assert plan.check((2,)).nfe == 7
        for name, (low, high) in method.ranges.items():
            assert low <= getattr(settled, name) <= high


def test_the_best_of_all_methods_is_of_all_that_are_registered() -> None:
    """The claims' baselines leave no method out that users have."""
    assert sorted(SETTINGS) == sorted(names())
    for name, tried in SETTINGS.items():
        ranges = SAMPLERS[name].ranges
        for each in tried:
            for key, value in each.items():
                low, high = ranges.get(key, (0, math.inf))
                assert isinstance(value, str) or low <= value <= high


def test_the_start_is_the_solver_on_all_levels_with_half_of_the_noise_and_the_method_as_it_is() -> None:
    space = PosteriorSpace(model(), MMPS(), 6)
    plan, method = space.at(space.start)
    usual = standard("ddim", model(), 6, [float(row.tau) for row in plan.rows])
    half = with_noise(usual, 0.5)
    assert [row.noise for row in plan.rows] == pytest.approx([row.noise for row in half.rows])
    assert [row.b[n] for n, row in enumerate(plan.rows)] == pytest.approx([row.b[n] for n, row in enumerate(half.rows)])
    assert plan.rows[0].tau == pytest.approx(model().start)
    assert method == MMPS()


@pytest.mark.parametrize("method", SAMPLERS.values(), ids=SAMPLERS)
def test_a_method_of_levels_alone_says_so(method: PosteriorSampler) -> None:
    """Its samples are the same by any weights and noise of the same levels, and it is searched without them."""
    small, y = model(), torch.tensor([[0.4]])
    space = PosteriorSpace(small, method, 5)
    taus = [float(row.tau) for row in space.at(space.start)[0].rows]
    plain, other = standard("ddim", small, 5, taus), with_noise(standard("dpmpp-2m", small, 5, taus), 0.5)
    one, two = (
        solve(small, torch.tensor([[1.0, 0.5]]), y, plan=plan, method=method, noise=0.3, n=4).samples
        for plan in (plain, other)
    )
    assert torch.equal(one, two) == levels_alone(method)
    assert len(space.start) == 3 + 2 * (not levels_alone(method)) + len(method.ranges)


def test_a_search_is_found_again_and_its_verdict_is_of_other_pairs() -> None:
    told: list[tuple[int, int]] = []

    def tuned() -> object:
        return tune_posterior(
            model(), torch.tensor([[1.0, 0.5]]), nfe=4, method=DiffPIR(), noise=0.3, pairs=16, each=4, trials=3, baseline_calls=6,
            baselines={"mmps": MMPS(), "weak": DiffPIR(50.0)}, seed=2, progress=lambda done, of: told.append((done, of)),
        )  # fmt: skip

    one, other = tuned(), tuned()
    assert one.plan.rows == other.plan.rows  # type: ignore[attr-defined]
    assert one.method == other.method  # type: ignore[attr-defined]
    assert told[:13] == [
        (k + 1, 13) for k in range(13)
    ]  # diffpir as it is, two baselines, three of each solver, four again
    assert one.against == "mmps"  # type: ignore[attr-defined]
    assert one.plan.nfe == 4  # type: ignore[attr-defined]
    assert len(one.searched) == 6  # type: ignore[attr-defined]
    held_out = one.score.value  # type: ignore[attr-defined]
    assert held_out != min(one.searched)  # type: ignore[attr-defined]
    assert one.difference.value == pytest.approx(held_out - one.baseline.value)  # type: ignore[attr-defined]


def test_a_bad_sampler_is_not_recommended() -> None:
    """Red-diff in two calls, against the exact posterior's own data prediction in twenty."""
    found = tune_posterior(
        model(), torch.tensor([[1.0, 0.5]]), nfe=2, method="red-diff", noise=0.3, pairs=64, each=4, trials=2, baseline_calls=20,
        baselines={"exact": SAMPLERS["exact-guidance"]},
    )  # fmt: skip
    assert found.decision == "worse"
    assert not found.recommended


@given(st.floats(-2, 2), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_decisions(value: float, below: float, above: float, margin: float) -> None:
    said = decided(Interval(value, value - below, value + above, 9), margin)
    assert (said == "better") == (value + above < 0)
    assert (said in ("better", "not worse")) == (value + above < 0 or value + above <= margin)
    assert said != "worse" or value - below > 0


@pytest.mark.parametrize(
    "which",
    [{}, {"method": "mmps"}, {"method": "mmps", "baselines": {"mmps": MMPS(2), "diffpir": DiffPIR()}}],
    ids=["all methods", "one method", "one method and baselines"],
)
def test_what_is_counted_is_what_is_said(which: dict[str, object]) -> None:
    network = transformer()
    data = torch.randn(16, *network.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    with counted(network) as calls:
        found = tune_posterior(
            network, "super-resolution", nfe=2, data=data, pairs=8, each=2, trials=2, baseline_calls=2, **which
        )  # type: ignore[call-overload]
    assert sum(calls) == found.evaluations == found.effort.total


def test_samples_that_are_not_finite_lose() -> None:
    """A strength that makes samples overflow is one of the candidates; the search goes on with the others."""

    class Wild(MMPS):
        ranges = {"strength": (1.0, 1e38)}  # noqa: RUF012

    found = tune_posterior(
        model(), torch.tensor([[1.0, 0.5]]), nfe=6, method=Wild(), noise=0.3, pairs=8, each=2, trials=4, baseline_calls=4,
        baselines={"mmps": MMPS()},
    )  # fmt: skip
    assert math.isinf(max(found.searched))
    assert math.isfinite(found.score.value)


@pytest.mark.parametrize("stopped", [0, 1, 2, 4, 9], ids="candidate {} is stopped".format)
def test_the_time_is_that_of_all_sittings_whatever_stage_they_were_stopped_in(
    stopped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which every score of a candidate or a baseline takes a second; two methods and a baseline come first."""
    now, made = [0.0], [0]
    methods = {"mmps": MMPS(), "diffpir": DiffPIR()}
    asked = arguments_of(
        model(), torch.tensor([[1.0, 0.5]]), nfe=3, method="mmps", noise=0.3, data=None, pairs=8, each=2, trials=30,
        baseline_calls=4, baselines=methods, exact=True, margin=0.02, time=1e9, evaluations=None, seed=0, batch=64,
    )  # fmt: skip
    asked = replace(asked, methods=methods, time=15.0)

    def second(case: Case, *given: object) -> torch.Tensor:
        now[0] += 1
        made[0] += 1
        if made[0] == stopped + 1:
            raise KeyboardInterrupt
        return torch.ones(8, dtype=torch.float64)

    def sitting(study: Study) -> None:
        search(asked, *cases(asked), study, deadline=Deadline(asked.time, lambda: now[0]))

    monkeypatch.setattr(Case, "scores", second)
    study = Study("interrupted")
    with pytest.raises(KeyboardInterrupt):
        sitting(study)
    sitting(study)
    interrupted, now[0], made[0] = now[0], 0.0, 1000
    sitting(Study("undisturbed"))
    assert now[0] < 25  # the time, the least of candidates, and what comes after them
    assert interrupted <= now[0] + 1  # the one that was lost


@pytest.mark.parametrize("whose", [0, 1], ids=["its own samples", "the baseline's samples"])
def test_a_sitting_that_is_stopped_in_its_comparison_is_counted(whose: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which samples of the comparison take a second."""
    now, asked = [0.0], arguments_of(
        model(), torch.tensor([[1.0, 0.5]]), nfe=3, method="mmps", noise=0.3, data=None, pairs=8, each=2, trials=2,
        baseline_calls=4, baselines={"mmps": MMPS()}, exact=True, margin=0.02, time=1e9, evaluations=None, seed=0, batch=64,
    )  # fmt: skip
    study, plain = Study("stopped"), Case.samples

    def second(case: Case, *given: Any) -> torch.Tensor:
        now[0] += 1
        if now[0] == whose + 1:
            raise KeyboardInterrupt
        return plain(case, *given)

    monkeypatch.setattr(Case, "scores", lambda *given: torch.ones(8, dtype=torch.float64))
    monkeypatch.setattr(Case, "samples", second)
    with pytest.raises(KeyboardInterrupt):
        search(asked, *cases(asked), study, deadline=Deadline(asked.time, lambda: now[0]))
    assert study.noted(SPENT) == now[0] == whose + 1
    began = now[0]
    search(asked, *cases(asked), study, deadline=Deadline(asked.time, lambda: now[0] - began))
    assert study.noted(SPENT) == now[0]


def test_what_is_refused() -> None:
    for arguments, word in (
        ({"nfe": 1}, "nfe is 1"),
        ({"pairs": 3}, "pairs is 3"),
        ({"each": 1}, "each is 1"),
        ({"trials": 1}, "trials is 1"),
        ({"time": 1e-9}, "too little"),
        ({"evaluations": 100}, "too little"),
        ({"data": torch.zeros(4, 2)}, "data holds 4 samples; 96 are needed"),
        ({"method": "nothing"}, "methods for measurements are"),
        ({"operator": torch.ones(1, 3)}, "expected \\(m, 2\\)"),
        ({"noise": -1.0}, "at least 0"),
        ({"noise": 1e-200}, "from 1e-18"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": -0.1}, "margin is -0.1"),
    ):
        operator = arguments.pop("operator", torch.ones(1, 2))  # type: ignore[attr-defined]
        with pytest.raises(InputError, match=word):
            tune_posterior(model(), operator, **{"nfe": 4, **arguments})  # type: ignore[arg-type]


def test_scores_by_the_models_own_samples_order_samplers_as_distances_to_the_exact_posterior_do() -> None:
    """Differences of energy scores are half those of energy distances, on average over pairs, which need no posterior."""
    small, operator = model(), as_operator(torch.tensor([[1.0, 0.5]]), (2,))
    pairs = made_pairs(small, operator, 0.3, 100, 1)
    case = Case(small, operator, 0.3, pairs, 8, 1)
    mine, its = case.samples(6, MMPS()), case.samples(6, DiffPIR(50.0))
    exact = case.of_samples(mine) - case.of_samples(its)
    scores = energy_scores(mine, pairs.x) - energy_scores(its, pairs.x)
    assert exact.mean() < 0
    assert abs(float((scores - exact / 2).mean())) < 4 * float((scores - exact / 2).std()) / 10


def test_all_methods_that_can_are_tried_and_a_bound_on_evaluations_is_kept() -> None:
    """Of a function without a derivative none of the methods for functions can."""
    found = tune_posterior(
        model(), torch.tensor([[1.0, 0.5]]), nfe=3, noise=0.3, trials=2, baseline_calls=4, evaluations=9000
    )
    assert found.effort.total <= 9000
    assert found.effort.methods >= 7
    assert found.plan.method is not None
    assert len(found.searched) == 8  # two methods, two solvers, two candidates
    with pytest.raises(InputError, match="no derivative"):
        tune_posterior(model(), lambda x: x[:, :1].detach(), nfe=3, noise=0.3)
