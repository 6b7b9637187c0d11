"""A scale that is searched by a distance to data: what is found, what it costs, tune's --guidance auto, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fewer
from fewer.calibrate.nearest_scale import LADDER, Scales, nearest_scale
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.search.ledger import Ledger
from fewer.search.request import Budget, Request
from fewer.search.stages.free_scale import distance_to_data
from fewer.search.stages.kept_scale import FOUND, kept_scale, scale_identity
from fewer.search.stages.run import Run, Task
from fewer.search.study import STUDY, Study
from fewer.search.tune import searched as searched_for

SHAPE = (1, 1, 2)


@pytest.fixture(scope="module")
def model() -> Model:
    mixture = fewer.GaussianMixture.random(SHAPE, components=9, seed=0, classes=3)
    return Model.from_mixture(mixture, discrete(betas("scaled_linear")), conditional=True, hash="free-scale")


def data(model: Model, scale: float, n: int = 2048) -> Tensor:
    plan = fewer.standard("dpmpp-2m", model, 40 if scale != 1 else 20, "logsnr", guidance=scale)
    return fewer.sample(model, plan, noise=unit_noise(9, range(n), SHAPE), batch=n)


def found(model: Model, distance: Any, n: int = 256, **options: Any) -> Scales:
    return nearest_scale(model, distance, unit_noise(0, range(n), SHAPE), batch=n, **options)


def test_the_scale_that_made_the_data_is_found(model: Model) -> None:
    for scale in (1.0, 2.5):
        known = data(model, scale).flatten(1)
        took = found(model, lambda x, known=known: frechet(x.flatten(1), known), n=512)
        assert abs(took.scale / scale - 1) < 0.2
        assert took.scale in took.distances
        assert min(d.value for d in took.distances.values()) == took.distances[took.scale].value or took.scale == 1


def test_a_distance_that_scale_does_not_change_gives_scale_one(model: Model) -> None:
    """Which costs half the passes."""
    took = found(model, lambda x: Interval(1.0, 0.5, 1.5, len(x)))
    assert took.scale == 1


def test_evaluations_are_counted_and_the_ladder_is_left_where_it_only_rises(model: Model) -> None:
    calls: list[int] = []

    def counted(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        calls.append(len(x))
        return model.network(x, t, labels)

    known = data(model, 1.0).flatten(1)
    told: list[int] = []
    took = found(replace(model, network=counted), lambda x: frechet(x.flatten(1), known), rows=4, progress=told.append)
    assert took.evaluations == sum(calls) == told[-1]
    assert sorted(told) == told
    assert max(took.distances) < LADDER[-1]


def test_scales_whose_samples_are_not_finite_end_the_ladder(model: Model) -> None:
    def overflowing(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        out = model.network(x, t, labels)
        assert labels is not None
        return torch.where((labels == 3).view(-1, 1, 1, 1), torch.full_like(out, 3e38), out)

    took = found(replace(model, network=overflowing), lambda x: Interval(1.0, 1.0, 1.0, len(x)))
    assert took.scale == 1


def searched(model: Model, out: Path, **options: Any) -> tuple[Any, dict[str, Any], int]:
    """The result of a search at the scale of data of scale 2, its results.json, and how many samples its calls held."""
    calls: list[int] = []

    def counted(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        calls.append(len(x))
        return model.network(x, t, labels)

    result = fewer.tune(
        replace(model, network=counted), nfe=4, guidance="auto", data=data(model, 2.0), noises=16, fresh=72, trials=2,
        margin=9.0, out=out, **options,
    )  # fmt: skip
    return result, json.loads((out / "results.json").read_text()), sum(calls)


@pytest.mark.slow
def test_tune_takes_the_scale_that_is_found_and_a_resumed_search_does_not_look_again(
    model: Model, tmp_path: Path
) -> None:
    result, content, calls = searched(model, tmp_path / "whole")
    assert abs(content["budget"]["guidance"] - 2) < 0.5
    assert any(
        note.startswith(f"guidance {content['budget']['guidance']:g} was found by fd") for note in content["notes"]
    )
    assert result.plan.nfe == 4
    assert "fd" in content["quality"]

    def stopped(stage: str, done: int, total: int | None) -> None:
        if stage.startswith("reference solution"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(model, tmp_path / "stopped", progress=stopped)
    again, its, fewer_calls = searched(model, tmp_path / "stopped", resume=True)
    assert again.plan.rows == result.plan.rows
    assert its["notes"] == content["notes"]
    assert its["quality"] == content["quality"]
    assert fewer_calls < calls / 2
    assert its["evaluations"] < content["evaluations"] / 2


def test_a_scale_is_kept_for_the_search_that_found_it(model: Model, tmp_path: Path) -> None:
    """Other data, another metric, seed or model is another search; without resume every search looks."""
    known, looked = data(model, 1.0, 64), []
    same = Scoring(known)

    def kept(of: Model = model, scoring: Scoring = same, seed: int = 0, resume: bool = True) -> float:
        def search() -> Scales:
            looked.append(1.0 + len(looked))
            return Scales(looked[-1], {}, 5)

        return kept_scale(tmp_path, resume, scale_identity(of, scoring, seed, 512), search).scale

    assert [kept(), kept()] == [1, 1]
    metric = OwnMetric("mine", lambda x, y: 0.0)
    assert kept(scoring=Scoring(known + 1e-3)) == 2
    assert kept(scoring=Scoring(known, metric=metric)) == 3
    assert kept(seed=1) == 4
    assert kept(of=replace(model, hash="other")) == 5
    assert kept(resume=False) == 6
    assert [kept(), kept(seed=1), len(looked)] == [6, 4, 6]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"scale": 0.5}, "scale: Input should be greater than or equal to 1"),
        ({"scale": float("nan")}, "scale: Input should be"),
        ({"tried": [{"scale": 2.0, "value": 1.0, "low": 2.0, "high": 3.0, "n": 4}]}, "no interval: low 2.0"),
        ({"tried": "many"}, "tried: Input should be a valid list"),
        (None, ": Input should be a valid dictionary"),
    ],
)
def test_a_damaged_scale_is_told(changed: dict[str, Any] | None, says: str, tmp_path: Path) -> None:
    def kept() -> Scales:
        return kept_scale(tmp_path, True, {"seed": 0}, lambda: Scales(2.0, {2.0: Interval(1.0, 1.0, 1.0, 9)}, 5))

    assert kept().evaluations == 5
    assert kept() == Scales(2.0, {2.0: Interval(1.0, 1.0, 1.0, 9)}, 0)
    (name,) = Ledger.in_file(tmp_path / STUDY).definitions()
    study = Study(name, tmp_path / STUDY, {"seed": 0}, resume=True)
    study.note(FOUND, "none" if changed is None else {"scale": 2.0, "tried": [], **changed})
    with pytest.raises(InputError, match=f"damaged guidance scale: {says}") as told:
        kept()
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("few_standards")
@pytest.mark.slow
def test_a_plan_without_guidance_is_taken_where_it_is_nearer(model: Model) -> None:
    """Data of scale 1 and a run at scale 3: the plan that is kept has a row for every pass."""
    near = data(model, 1.0)

    request = Request((Budget(6),), guidance=3.0, noises=16, held_out=72, trials=1)
    run = Run(lambda stage, done, total: None)
    result = searched_for(Task(model, request, Scoring(near), 256), run, free_scale=True)
    (outcome,) = result.front
    assert [row.passes for row in outcome.plan.rows] == [1] * 6
    assert outcome.verdict.reason.startswith("without guidance its fd to the data is")
    assert outcome.verdict.recommended == "standard"
    assert result.plan.name.endswith("6")
    assert outcome.plan.evidence["guidance"] == 1


@pytest.mark.slow
def test_an_objective_of_the_scale_s_own_distance_judges_the_plans_too(model: Model, tmp_path: Path) -> None:
    _, content, _ = searched(model, tmp_path / "out", objective="fd")
    assert abs(content["budget"]["guidance"] - 2) < 0.5
    assert content["objective"]["figure"] == "fd"
    assert content["verdict"]["figure"] == content["objective"]["title"]
    assert content["verdict"]["difference"] is not None


def test_a_metric_of_the_users_is_the_distance_where_it_is_given(model: Model) -> None:
    metric = OwnMetric("mine", lambda x, y: float((x.mean() - y.mean()).abs()))
    name, distance = distance_to_data(Scoring(data(model, 1.0, 64), metric=metric))
    x = data(model, 2.0, 64)
    assert name == "mine"
    assert distance(x).value == pytest.approx(float((x.mean() - data(model, 1.0, 64).mean()).abs()), rel=1e-5)


def test_bad_input(model: Model) -> None:
    plain = Model.from_mixture(fewer.GaussianMixture.random(SHAPE, components=2, seed=0), model.schedule)
    known = data(model, 1.0, 128)
    pairs = OwnMetric("pairs", type("P", (), {"paired": True, "__call__": lambda self, x, y: 0.0})())
    for of, options, says in (
        (model, {}, "give data too"),
        (plain, {"data": known}, "guidance auto needs a model with labels"),
        (model, {"data": known, "metric": pairs}, "metric pairs is of pairs"),
        (model, {"data": known, "objective": "energy"}, "searches the scale by fd, and objective is energy"),
        (model, {"data": known, "guidance": "most"}, "guidance is 'most'; expected a finite scale"),
    ):
        with pytest.raises(InputError, match=says):
            fewer.tune(of, nfe=4, **{"guidance": "auto", **options})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a model with labels"):
        found(plain, lambda x: Interval(1, 1, 1, 9))
    with pytest.raises(InputError, match="expected at least 64"):
        found(model, lambda x: Interval(1, 1, 1, 9), n=32)


def test_the_command_line_says_what_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "x.npz"
    np.savez(images, x=np.random.default_rng(0).integers(0, 255, (64, 16, 16, 3), dtype=np.uint8))
    for arguments, says in (
        (["tune", "dit-digits", "--nfe", "8", "--guidance", "auto"], "give --data too"),
        (["tune", "mixture16", "--nfe", "8", "--guidance", "auto", "--data", str(images)], "mixture16 has none"),
        (["compare", "dit-digits", "--guidance", "auto"], "guidance is 'auto'; expected a finite scale"),
    ):
        assert run([*arguments, *(["--out", str(tmp_path / "out")] if arguments[0] == "tune" else [])]) == 2
        told = capfd.readouterr().err
        assert told.count("\n") == 1
        assert says in told
        assert not (tmp_path / "out").exists()
