"""`time` bounds the whole of a search, by a clock that runs with the network's work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import fewer
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.scoring import Scoring
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.search.deadline import Deadline
from fewer.search.forecast import LEAST_TIME, foreseen, least
from fewer.search.stages.run import Run, Task
from fewer.search.tune import requested, searched, timed

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
        request = requested(self.model, nfe, time=seconds, **options)(None)  # type: ignore[arg-type]
        run = Run(deadline=Deadline(seconds, lambda: self.now))
        task = timed(Task(self.model, request, Scoring(), MICRO_BATCH), run)
        return run, searched(task, run)


@pytest.mark.parametrize(
    ("nfe", "seconds"),
    [
        (3, 4.0),
        pytest.param(5, 10.0, marks=pytest.mark.slow),
        ([2, 4, 6], 20.0),
        (20, 10.0),
        pytest.param(2, 40.0, marks=pytest.mark.slow),
    ],
)
def test_a_search_ends_in_its_time_and_has_a_plan(nfe: int | list[int], seconds: float) -> None:
    slow = Slow()
    _, result = slow.run(nfe, seconds)
    assert slow.now <= 1.25 * seconds + COST * least(requested(slow.model, nfe, time=seconds)(None), slow.model)
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
    request = requested(slow.model, nfe, time=seconds)(None)
    assert COST * least(request, slow.model) > LEAST_TIME * seconds
    assert slow.now < 1.0


@pytest.mark.parametrize(
    ("nfe", "options"),
    [
        pytest.param(2, {"noises": 32, "fresh": 16}, marks=pytest.mark.slow),
        (4, {"noises": 16, "fresh": 32}),
        (5, {"noises": 32, "fresh": 32, "trials": 3}),
    ],
)
def test_evaluations_are_foreseen_within_a_factor_of_two(nfe: int | list[int], options: dict[str, int]) -> None:
    slow = Slow(seed=1)
    foretold = sum(foreseen(requested(slow.model, nfe, **options)(None), slow.model).values())  # type: ignore[arg-type]
    _, result = slow.run(nfe, None, **options)
    assert result.results["evaluations"] / 2 <= foretold <= 2 * result.results["evaluations"]


def test_what_is_told_of_the_whole_run_rises_to_its_end() -> None:
    slow, told = Slow(), []
    request = requested(slow.model, 3, noises=16, fresh=16, trials=2)(None)
    run = Run(deadline=Deadline(None, lambda: slow.now), overall=lambda made, whole: told.append((made, whole)))
    searched(timed(Task(slow.model, request, Scoring(), MICRO_BATCH), run), run)
    assert [made for made, _ in told] == sorted(made for made, _ in told)
    assert all(made <= whole for made, whole in told)
    made, whole = told[-1]
    assert made == whole
