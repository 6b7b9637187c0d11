"""`time` bounds the whole of a search, by a clock that runs with the network's work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

import fewer
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Pixels
from fewer.evaluate.own_pipeline import play_pipeline
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.scoring import Scoring
from fewer.integrations.as_it_is import own_evaluations
from fewer.models.model import Model
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.schedules import Flow, betas, discrete
from fewer.plan import Plan
from fewer.search.arguments import Arguments
from fewer.search.deadline import Deadline
from fewer.search.forecast import LEAST_TIME, foreseen, least, least_held_out, probes, within
from fewer.search.objective import Objective
from fewer.search.request import Request, notes_for_large
from fewer.search.space import Space
from fewer.search.stages.references import affordable, references
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.regression import Regression
from fewer.search.strategies.standards import likely_standards
from fewer.search.strategy import NUMBERS, Candidate, Strategy
from fewer.search.study import Study
from fewer.search.trajectory import reference_trajectories
from fewer.search.tune import searched, timed
from fewer.testing.models import mixture
from fewer.testing.strategies import task

COST = 1e-3  # seconds of an evaluation


class Slow:
    """A model whose network takes a thousandth of a second a sample, by a clock of its own."""

    def __init__(self, seed: int = 0) -> None:
        self.now, self.evaluations = 0.0, 0
        exact = Model.from_mixture(fewer.GaussianMixture.random((2,), components=3, seed=seed), Flow(), hash="slow")
        network = exact.network

        def slow(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
            self.now += COST * len(x)
            self.evaluations += len(x)
            return network(x, t, labels)

        self.model = replace(exact, network=slow)

    def run(self, nfe: int | list[int], seconds: float | None, **options: object) -> tuple[Run, fewer.Result]:
        request = Arguments(nfe, time=seconds, **options).request(self.model)  # type: ignore[arg-type]
        run = Run(deadline=Deadline(seconds, lambda: self.now, request.evaluations))
        task = timed(Task(self.model, request, Scoring(), MICRO_BATCH), run)
        return run, searched(task, run)


@pytest.mark.parametrize(
    ("nfe", "seconds"),
    [
        (3, 4.0),
        pytest.param(5, 10.0, marks=pytest.mark.slow),
        pytest.param([2, 4, 6], 20.0, marks=pytest.mark.slow),
        (20, 10.0),
        pytest.param(2, 40.0, marks=pytest.mark.slow),
    ],
)
def test_a_search_ends_in_its_time_and_has_a_plan(nfe: int | list[int], seconds: float) -> None:
    slow = Slow()
    _, result = slow.run(nfe, seconds)
    assert slow.now <= 1.25 * seconds + COST * least(Arguments(nfe, time=seconds).request(slow.model), slow.model)
    assert result.plan.nfe <= max([nfe] if isinstance(nfe, int) else nfe)
    assert len(result.front) == (1 if isinstance(nfe, int) else len(nfe))
    assert result.results["quality"]["paired_rmse"]["value"] > 0
    if result.results["budget"]["time"] < 20:
        assert any("in place of" in note for note in result.results["notes"])


@pytest.mark.parametrize(("nfe", "seconds"), [(list(range(1, 10_001)), 1.0), (5, 0.1), (10_000, 5.0)])
def test_a_time_in_which_nothing_can_be_done_is_refused_at_once(nfe: int | list[int], seconds: float) -> None:
    slow = Slow()
    with pytest.raises(InputError, match=r"time is .* at least [\d,]+ evaluations, about"):
        slow.run(nfe, seconds)
    request = Arguments(nfe, time=seconds).request(slow.model)
    assert COST * least(request, slow.model) > LEAST_TIME * seconds
    assert slow.now < 1.0


@pytest.mark.parametrize(
    ("nfe", "evaluations"),
    [
        (3, 4_000),
        *(pytest.param(*large, marks=pytest.mark.slow) for large in ((5, 8_000), ([2, 4, 6], 20_000))),
        (20, 12_000),
        (2, 3_500),
    ],
)
def test_a_search_ends_in_its_evaluations_and_has_a_plan(nfe: int | list[int], evaluations: int) -> None:
    """All of them are counted: the reference solution, the ranking, the search and the comparison."""
    slow = Slow()
    run, result = slow.run(nfe, None, evaluations=evaluations)
    made = result.results["evaluations"]
    assert made == run.evaluations <= slow.evaluations <= evaluations
    assert made > 0.5 * evaluations
    assert len(result.front) == (1 if isinstance(nfe, int) else len(nfe))
    assert result.results["quality"]["typical_error"]["value"] > 0
    assert any(f"in {evaluations:,} evaluations: " in note for note in result.results["notes"])
    foretold = foreseen(run_request(slow.model, nfe, evaluations), slow.model)
    assert sum(foretold.values()) <= evaluations


@pytest.mark.usefixtures("few_standards")
def test_the_pipeline_as_it_is_takes_nothing_from_the_search_and_the_comparison() -> None:
    """It decides nothing, so that it is played last, on what is left, and left out where that is too little."""
    results = []
    for steps, played in ((20, True), (500, False)):
        slow = Slow()
        slow.model = replace(slow.model, pipeline=PipelineDefaults("FlowMatchEulerDiscreteScheduler", {}, steps))
        _, result = slow.run(4, None, evaluations=4_000)
        assert result.results["evaluations"] <= 4_000
        rows = [row for row in result.results["baselines"] if row["kind"] == "pipeline" and row["nfe"] == steps]
        assert len(rows) == played
        assert any("the pipeline as it is is left out" in note for note in result.results["notes"]) != played
        results.append(result)
    short, long = results
    assert short.plan.rows == long.plan.rows
    assert len(short.front[0].chosen.samples) == len(long.front[0].chosen.samples)


@pytest.mark.parametrize(("seed", "evaluations"), [(2, 8_000), (0, 8_000), (0, 18_000)])
def test_held_out_noises_are_as_many_as_their_share_allows(seed: int, evaluations: int) -> None:
    """Of 40 % of the evaluations, what the search's own reference solution leaves; as many as were planned, and at least 16."""
    slow = Slow(seed)
    run = Run(deadline=Deadline(None, lambda: slow.now, evaluations))
    request = Arguments(5, evaluations=evaluations).request(slow.model)
    task = timed(Task(slow.model, request, Scoring(), MICRO_BATCH), run)
    refs = references(task, run, likely_standards(slow.model, request, 5))
    n, each = len(refs.judge), refs.judge.source.plan.nfe  # type: ignore[union-attr]
    left = 0.4 * evaluations - run.counter.evaluations
    assert n == task.request.held_out or n == 16 or n * each <= left < (n + 1) * each


@pytest.mark.parametrize(("seed", "evaluations"), [(0, 8_000), (2, 18_000)])
def test_the_reference_solution_that_is_enough_is_played_once(seed: int, evaluations: int) -> None:
    """Also from the noises on which it was found to be enough; and its way is that of all of the search's noises."""
    slow = Slow(seed)
    run = Run(deadline=Deadline(None, lambda: slow.now, evaluations))
    request = Arguments(5, evaluations=evaluations).request(slow.model)
    task = timed(Task(slow.model, request, Scoring(), MICRO_BATCH), run)
    calls: list[int] = []
    plain = reference_plan

    def planned(model: Model, n: int, guidance: float | None = None) -> Plan:
        calls.append(n)
        return plain(model, n, guidance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewer.evaluate.reference.reference_plan", planned)
        objective = references(task, run, likely := likely_standards(slow.model, request, 5)).objective
    assert objective.reference is not None
    assert objective.trajectory is not None
    n, few, enough = len(objective), probes(slow.model, task.request), objective.reference.enough
    assert run.counter.evaluations == few * (sum(plan.nfe for plan in likely) + sum(calls)) + (n - few) * enough
    whole = reference_trajectories(objective, None, enough, n)
    torch.testing.assert_close(objective.trajectory.states, whole.states)
    torch.testing.assert_close(objective.target, objective.samples(plain(slow.model, enough)))


@pytest.mark.parametrize("made", [0, 99, 100])
def test_a_call_is_left_for_the_multiply_adds_that_the_results_tell(made: int) -> None:
    """It is made after all that may use up the evaluations, whatever they are used up by."""
    run = Run(deadline=Deadline(evaluations=100))
    run.counter.add(made)
    assert [more for more in (1, 50, 99, 100) if run.has_room(more)] == [
        more for more in (1, 50, 99) if made + more < 100
    ]


def run_request(model: Model, nfe: int | list[int], evaluations: int) -> Request:
    """The request of so many evaluations, with the noises that they allow."""
    return within(Arguments(nfe, evaluations=evaluations).request(model), model, math.inf)


@pytest.mark.slow
@dataclass(frozen=True)
class Numbered(Strategy):
    """Plays the space's plan, as often as it has candidates."""

    name: str = "numbered"
    candidates: int = 3
    columns = NUMBERS
    by_objective = True

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        for _ in range(self.candidates - len(done)):
            yield Candidate(space.base, objective.score(space.base), self.name)


def test_what_strategies_took_is_counted_once_though_they_share_a_name_and_a_share() -> None:
    """In the sitting that makes their candidates, and in one that finds all of them in the study."""
    make, study = task(mixture()), Study("nfe-3")
    of = Task(mixture(), Arguments(3, evaluations=10**6).request(mixture()), Scoring(), MICRO_BATCH)
    counts = []
    for _ in range(3):
        objective, space = make()
        run = Run(deadline=Deadline(evaluations=10**6))
        objective.counter = run.counter
        for candidates in (2, 3):
            run.follow(of, study, objective, Numbered(candidates=candidates), space)
        counts.append(run.evaluations)
    assert counts == [3 * space.base.nfe * len(objective)] * 3


def test_strategies_of_one_name_and_other_settings_are_refused() -> None:
    """Their candidates could not be told apart in the study."""
    Arguments(3, strategy="fitted-noise", objective="energy", start_from=[Regression()]).request(mixture())
    with pytest.raises(InputError, match="start_from has 'regression' with settings of its own"):
        Arguments(3, strategy="fitted-noise", objective="energy", start_from=[Regression(enough=0.2)]).request(
            mixture()
        )


def test_more_evaluations_leave_a_smaller_error() -> None:
    """On one model, between 4,000 and 20,000."""
    errors = [
        Slow(2).run(5, None, evaluations=n)[1].results["quality"]["typical_error"]["value"] for n in (4_000, 20_000)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("nfe", "cut"), [(6, True), (2, False)])
def test_standard_plans_that_were_not_ranked_are_told_of(nfe: int, cut: bool) -> None:
    """And only those: a ranking of all of them is nothing to note, whatever it took."""
    _, result = Slow().run(nfe, None, evaluations=8_000)
    assert any("standard plans only" in note for note in result.results["notes"]) == cut


@pytest.mark.parametrize(("nfe", "evaluations"), [(5, 1_000), ([5, 10], 1_800), (10_000, 100_000)])
def test_evaluations_in_which_nothing_can_be_done_are_refused(nfe: int | list[int], evaluations: int) -> None:
    slow = Slow()
    with pytest.raises(InputError, match=r"evaluations is [\d,]+; .* takes? at least [\d,]+ evaluations in all"):
        slow.run(nfe, None, evaluations=evaluations)
    assert slow.evaluations == 0


PIPELINES = {  # the latter makes two calls a step
    "no pipeline": None, "euler": PipelineDefaults("FlowMatchEulerDiscreteScheduler", {}, 20),
    "heun": PipelineDefaults("FlowMatchHeunDiscreteScheduler", {}, 20),
}  # fmt: skip


@pytest.mark.parametrize(
    ("nfe", "pipeline", "options"),
    [
        *((nfe, pipeline, {}) for pipeline in PIPELINES for nfe in (2, [2, 3], [5, 10], [2, 4, 6])),
        *((nfe, pipeline, {"match": True}) for pipeline in ("euler", "heun") for nfe in (4, [2, 3], [5, 10])),
        ([2, 3], "euler", {"objective": "energy"}),
    ],
)
def test_the_least_that_is_not_refused_is_enough(nfe: int | list[int], pipeline: str, options: dict[str, Any]) -> None:
    """A search in as many evaluations ends within them, with a plan; in one less it is not begun.

    Among the plans that it compares is the pipeline as it is within each budget, and a match plays it at its own steps.
    """
    slow = Slow()
    slow.model = replace(slow.model, pipeline=PIPELINES[pipeline])
    most = least(Arguments(nfe, evaluations=5_000, **options).request(slow.model), slow.model)
    with pytest.raises(InputError, match=f"at least {most:,} evaluations in all"):
        slow.run(nfe, None, evaluations=most - 1, **options)
    run, result = slow.run(nfe, None, evaluations=most, **options)
    assert run.evaluations <= slow.evaluations <= most  # that of the network's multiply-adds is made beside
    assert result.results["quality"]["typical_error"]["value"] > 0


@pytest.mark.parametrize("guidance", [None, 2.0])
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize(
    "scheduler",
    ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "DDIMScheduler", "HeunDiscreteScheduler"],
)
def test_the_pipeline_takes_as_many_evaluations_as_are_foreseen(
    scheduler: str, steps: int, guidance: float | None
) -> None:
    """Of each step as many calls as its scheduler makes."""
    made = [0]
    exact = fewer.GaussianMixture.random((2,), components=3, seed=0, classes=2)
    process = Flow() if "Flow" in scheduler else discrete(betas("linear"))
    model = Model.from_mixture(exact, process, conditional=True)
    network = model.network

    def counted(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        made[0] += len(x)
        return network(x, t, labels)

    model = replace(model, network=counted, pipeline=PipelineDefaults(scheduler, {}, steps))
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    play_pipeline(Evaluator(model, noise, model.labels(16)), guidance, 0)
    assert made[0] == 16 * own_evaluations(model, guidance)


@pytest.mark.parametrize("evaluations", [8_000, 40_000])
def test_a_reference_solution_that_is_never_fine_enough_keeps_to_its_share(
    evaluations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls are doubled as far as all noises of the search allow it, not the few that calls are found on."""
    monkeypatch.setattr("fewer.search.stages.references.REFERENCE_SHARE", 1e-12)
    slow = Slow(2)
    run = Run(deadline=Deadline(None, lambda: slow.now, evaluations))
    task = timed(
        Task(slow.model, Arguments(5, evaluations=evaluations).request(slow.model), Scoring(), MICRO_BATCH), run
    )
    refs = references(task, run, likely_standards(slow.model, task.request, 5))
    assert run.evaluations <= 0.4 * evaluations
    assert len(refs.judge) >= 16


class Huge(nn.Module):
    """A network of two hundred million weights that take no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(1).expand(200_000_000), requires_grad=False)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def huge() -> Model:
    return Model.from_denoiser(Huge(), Flow(), (2,), "flow", hash="huge")


@pytest.mark.parametrize(("options", "most"), [
    ({}, 8_000), ({"nfe": [4, 6]}, 16_000), ({"nfe": 20}, 16_000),
    ({"trials": 3}, None), ({"time": 60.0}, None), ({"noises": 64}, None),
    ({"evaluations": 50_000}, 50_000),
])  # fmt: skip
def test_a_search_of_a_large_network_is_bounded_unless_its_cost_is_given(
    huge: Model, options: dict[str, Any], most: int | None
) -> None:
    assert huge.parameters == 200_000_000
    request = Arguments(**{"nfe": 5, **options}).request(huge)
    assert request.evaluations == most
    noted = notes_for_large(request, huge)
    assert bool(noted) == (most in (8_000, 16_000))
    assert Arguments(5).request(Slow().model).evaluations is None


@pytest.mark.parametrize(
    ("nfe", "options"),
    [
        (2, {"noises": 32, "fresh": 16}),
        (4, {"noises": 16, "fresh": 32}),
        (5, {"noises": 32, "fresh": 32, "trials": 3}),
    ],
)
@pytest.mark.slow
def test_evaluations_are_foreseen_within_a_factor_of_two(nfe: int | list[int], options: dict[str, int]) -> None:
    slow = Slow(seed=1)
    foretold = sum(foreseen(Arguments(nfe, **options).request(slow.model), slow.model).values())  # type: ignore[arg-type]
    _, result = slow.run(nfe, None, **options)
    assert result.results["evaluations"] / 2 <= foretold <= 2 * result.results["evaluations"]


@pytest.mark.usefixtures("few_standards")
def test_what_is_told_of_the_whole_run_rises_to_its_end() -> None:
    slow, told = Slow(), []
    request = Arguments(3, noises=16, fresh=16, trials=2).request(slow.model)
    run = Run(deadline=Deadline(None, lambda: slow.now), overall=lambda made, whole: told.append((made, whole)))
    searched(timed(Task(slow.model, request, Scoring(), MICRO_BATCH), run), run)
    assert [made for made, _ in told] == sorted(made for made, _ in told)
    assert all(made <= whole for made, whole in told)
    made, whole = told[-1]
    assert made == whole


@pytest.mark.parametrize(
    ("left", "n"), [(math.inf, 256), (256 * 64, 256), (255 * 64 + 63, 255), (64 * 64, 64), (100, 16)]
)
def test_held_out_noises_are_all_that_there_is_room_for(left: float, n: int) -> None:
    """All of them where nothing is bounded."""
    assert affordable(256, 64, left) == n


@pytest.mark.parametrize("objective", ["paired", "energy", "fd"])
def test_held_out_noises_are_enough_for_the_figures_on_named_features(objective: str) -> None:
    """Four for each of 24 dimensions and 8, also where little time leaves few; a run for which that is too little is refused."""
    mixture = fewer.GaussianMixture.random((24,), components=3, seed=0)
    model, data = Model.from_mixture(mixture, Flow(), hash="wide"), mixture.sample(200)[0]
    given = {"objective": objective, "data": data, "features": Pixels()}
    assert Arguments(3, fresh=200, **given).request(model).held_out == 200  # type: ignore[arg-type]
    request = Arguments(3, evaluations=8_000, **given).request(model)  # type: ignore[arg-type]
    assert request.shown_on == 104 <= request.held_out
    fitting = within(request, model, math.inf)
    assert fitting.held_out >= 104
    assert affordable(fitting.held_out, 64, 100, least_held_out(fitting)) == 104
    assert least(request, model) > least(replace(request, shown_on=0), model)
