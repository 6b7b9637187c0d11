"""Distilled models: searched and compared by the distance of their samples to many-step ones; may one of four calls go?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_video
import torch

import fewer
from fewer.errors import InputError
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.many_steps import ToManySteps, customary_plan, many_step_samples
from fewer.evaluate.verdict import Side
from fewer.models.distilled import Distilled
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.samplers import renoising_plans
from fewer.search.space import Space
from fewer.search.strategies.renoising import Renoising, numbers_of, plan_of

MIXTURE = fewer.GaussianMixture.random((2,), components=1, seed=1)
SCHEDULE = discrete(betas("scaled_linear"))
TEACHER = Model.from_mixture(MIXTURE, SCHEDULE, name="teacher")
OTHER = Model.from_mixture(fewer.GaussianMixture.random((3,), components=1), SCHEDULE)
FEW: dict[str, Any] = {"trials": 4, "noises": 32, "fresh": 128, "batch": 4096}


def student(shift: float = 0.0, teacher: Model | None = None) -> Model:
    """The flow map of a Gaussian, exact but for a shift at the noisiest levels."""

    def network(x: torch.Tensor, t: torch.Tensor, labels: Any) -> torch.Tensor:
        tau = float(SCHEDULE.tau(t.flatten()[0].double()))
        state = x / float(SCHEDULE.scale(tau))
        return MIXTURE.flow(state, tau, 0.0) + (shift if tau > 0.9 else 0.0)

    made = Model.from_denoiser(network, SCHEDULE, (2,), "data", name="student", hash=f"student {shift}")
    return replace(made, distilled=Distilled(4, teacher))


@pytest.mark.parametrize("teacher", [pytest.param(None, marks=pytest.mark.slow), TEACHER], ids=["own", "teacher"])
def test_one_of_four_calls_may_go_where_the_others_suffice(teacher: Model | None, tmp_path: Path) -> None:
    result = fewer.tune(student(), nfe=3, teacher=teacher, margin=0.3, out=tmp_path, **FEW)
    match = result.front[0].match
    assert match is not None
    assert match.non_inferior is True
    assert match.difference is not None
    assert match.difference.high < 0.05
    assert any("1 of its 4 evaluations may go" in note for note in result.record.notes)
    assert result.record.objective.figure == "energy"
    plan = fewer.Plan.load(tmp_path / "plan.json")
    assert fewer.sample(student(), plan, n=4).shape == (4, 2)


def test_and_not_where_they_do_not() -> None:
    """The first call errs, and those after it mend that."""
    result = fewer.tune(student(1.0), nfe=1, teacher=TEACHER, **FEW)
    match = result.front[0].match
    assert match is not None
    assert match.non_inferior is False
    assert match.difference is not None
    assert match.difference.low > 0
    assert any("3 of its 4 evaluations may not go" in note for note in result.record.notes)


LEFT = (4.0, 0.0, -4.0, 0.0)  # by how much the data predictions of the four calls of `at_its_own_levels` err


def at_its_own_levels() -> Model:
    """The flow map of a Gaussian, which errs but for the whole of its own four calls: each mends what the one before it has left.

    What errs by b before a level errs by M b after it, M the (linear) flow map's: so each call adds what its own error, the next
    of `LEFT`, lacks of that. At other levels the first error is added.
    """
    taus = [float(row.tau) for row in customary_plan(student()).rows]
    errors = [torch.full((1, 2), each) for each in LEFT]

    def moved(tau: float, by: torch.Tensor) -> torch.Tensor:
        return MIXTURE.flow((1 - tau) * by, tau, 0.0) - MIXTURE.flow(torch.zeros(1, 2), tau, 0.0)

    added = [
        errors[0],
        *(after - moved(tau, before) for tau, before, after in zip(taus[1:], errors[:-1], errors[1:], strict=True)),
    ]

    def network(x: torch.Tensor, t: torch.Tensor, labels: Any) -> torch.Tensor:
        tau = float(SCHEDULE.tau(t.flatten()[0].double()))
        k = next((k for k, own in enumerate(taus) if abs(tau - own) < 1e-4), 0)
        return MIXTURE.flow(x / float(SCHEDULE.scale(tau)), tau, 0.0) + added[k].to(x)

    made = Model.from_denoiser(network, SCHEDULE, (2,), "data", name="student", hash="at its own levels")
    return replace(made, distilled=Distilled(4))


def test_none_of_four_calls_may_go_where_each_mends_the_one_before() -> None:
    result = fewer.tune(at_its_own_levels(), nfe=3, teacher=TEACHER, margin=0.3, **FEW)
    match = result.front[0].match
    assert match is not None
    assert match.non_inferior is False
    assert match.difference is not None
    assert match.difference.low > 0
    assert any("1 of its 4 evaluations may not go" in note for note in result.record.notes)


@pytest.mark.slow
def test_match_finds_the_fewest_calls() -> None:
    result = fewer.tune(student(), nfe=[1, 2, 3], match=True, teacher=TEACHER, margin=0.3, **FEW | {"trials": 2})
    assert result.plan.nfe == 1
    assert result.verdict["decision"] in ("better", "not worse")


@pytest.mark.slow
def test_a_search_goes_on_from_its_study(tmp_path: Path) -> None:
    once = fewer.tune(student(), nfe=3, out=tmp_path, **FEW | {"trials": 3})
    again = fewer.tune(student(), nfe=3, out=tmp_path, resume=True, **FEW | {"trials": 3})
    assert [row.tau for row in once.plan.rows] == [row.tau for row in again.plan.rows]
    with pytest.raises(InputError, match="resume"):
        fewer.tune(student(teacher=TEACHER), nfe=3, out=tmp_path, resume=True, **FEW | {"trials": 3})


def test_numbers_of_a_plan_are_its_levels_and_the_noise_that_it_keeps() -> None:
    model = student()
    for solver, kept in (("lcm", 0.0), ("ddim", 1.0)):
        plan = fewer.standard(solver, model, 4, "lcm")
        numbers = numbers_of(plan)
        assert numbers[3:].tolist() == pytest.approx([kept] * 3)
        back = plan_of(numbers, Space(model, (plan,)))
        for row, other in zip(plan.rows, back.rows, strict=True):
            assert float(row.tau) == pytest.approx(float(other.tau))
            assert float(row.noise) == pytest.approx(float(other.noise))
            assert sum(map(float, row.b.values())) == pytest.approx(sum(map(float, other.b.values())))


def test_the_margin_is_that_of_data_that_are_moved() -> None:
    y = MIXTURE.sample(1500, seed=1)[0].float()
    by = ToManySteps().with_samples(y)
    few, many = by.tolerated(0.5), by.tolerated(1.0)
    features = by.scoring.features_of(len(y))(y.reshape(len(y), 2, 1, 1)).double()
    moved = features.clone()
    moved[:, 0] += features[:, 0].std()
    other = by.scoring.features_of(len(y))(MIXTURE.sample(1500, seed=2)[0].reshape(-1, 2, 1, 1).float()).double()
    assert energy_distance(moved, other).low < many < energy_distance(moved, other).high
    assert 3 < many / few < 4.5  # the square of the shift, at first


def test_samples_of_one_law_are_not_worse_and_moved_ones_are() -> None:
    draws = [MIXTURE.sample(1024, seed=seed)[0].float() for seed in (1, 2, 3)]
    model = student()
    judge, by = (
        Evaluator(model, torch.zeros(1024, 2)),
        ToManySteps().with_samples(MIXTURE.sample(2048, seed=9)[0].float()),
    )
    same = by.decide(judge, Side("a", draws[0], True), Side("b", draws[1], True), 0.2)
    moved = by.decide(judge, Side("a", draws[2] + draws[2].std(0), True), Side("b", draws[1], True), 0.2)
    assert same.non_inferior
    assert moved.decision == "worse"


def test_many_step_samples_are_of_noises_that_no_plan_starts_from() -> None:
    many = many_step_samples(student(teacher=TEACHER), 16, seed=0)
    ours = fewer.sample(student(), customary_plan(student()), n=16)
    assert many.calls >= 32
    assert not torch.isclose(many.samples, ours, atol=1e-2).all(1).any()


def test_pipelines_of_distilled_models_are_known() -> None:
    pipe, call = tiny_video.latent_consistency()
    model = Model.from_pipeline(pipe, call | {"num_inference_steps": 3})
    assert model.distilled == Distilled(3)
    own = customary_plan(model)
    assert len(own.rows) == 3
    assert own.stochastic
    names = {plan.name.split()[0] for plan in renoising_plans(model, 3)}
    assert names == {"lcm", "tcd", "ddim"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "gauss-newton"}, "goes by the flow of a denoiser"),
        ({"macs": 1e6}, "give the budget as nfe or match"),
        ({"nfe": 3, "objective": "fd"}, "distilled to 4 calls"),
        ({"nfe": 3, "playable_by": "euler"}, "playable_by is for denoisers"),
        ({"nfe": 3, "teacher": OTHER}, "shape of the teacher"),
        ({"nfe": 3, "teacher": "teacher"}, "expected a fewer.Model"),
    ],
)  # fmt: skip
def test_what_is_for_denoisers_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fewer.tune(student(), **{"nfe": None if "macs" in given else 3} | given)


def test_a_leaderboard_goes_by_the_distance() -> None:
    plan = fewer.standard("lcm", student(), 3, "logsnr").named("mine")
    board = fewer.compare(student(), [3], [plan], n=32, margin=0.5)
    assert board.sort == "energy"
    assert {"lcm lcm", "tcd lcm", "ddim lcm", "mine", "its own 4 calls"} <= {row.name for row in board.rows}
    assert all("energy" in row.quality.figures for row in board.rows)
    assert board.plans[0].verdict.difference is not None
    assert any("4 calls of its own" in note for note in board.notes)


def test_renoising_moves_what_is_free() -> None:
    model = student()
    rng = np.random.default_rng(0)
    numbers = numbers_of(fewer.standard("tcd", model, 4, "lcm"))
    for free, same in ((["steps"], slice(3, None)), (["solver"], slice(0, 3))):
        moved = Renoising().moved(numbers, 0.5, free, rng)
        assert (moved[same] == numbers[same]).all()
        assert not (moved == numbers).all()
