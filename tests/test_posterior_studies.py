"""A study of a search of posteriors is gone on with only where its candidates are played as they were."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, InputError, Model, Plan
from fewer.models.schedules import betas, discrete
from fewer.registry import parts
from fewer.search.blackbox.optimizer import Vector
from fewer.search.posterior_arguments import Asked, arguments, cases
from fewer.search.posterior_pairs import Case
from fewer.search.posterior_space import PosteriorSpace
from fewer.search.posteriors import search
from fewer.search.study import Study
from fewer.tasks.inverse import PosteriorSampler

SAMPLERS = {each.name: each.make() for each in parts("tasks") if each.role == "posterior sampler"}
WORDS = {"weighting": "formula", "guidance": "square"}
MODEL = Model.from_mixture(GaussianMixture.random((2, 1), 2, seed=1), discrete(betas("linear")))


def asked_for(method: PosteriorSampler) -> Asked:
    return arguments(
        MODEL, torch.eye(2), nfe=3, method=method, noise=0.3, data=None, pairs=8, each=2, trials=2, baseline_calls=4,
        baselines={"own": method}, exact=True, margin=0.02, time=None, evaluations=None, seed=0, batch=64,
    )  # fmt: skip


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, PosteriorSampler]]:
    """What was scored, one after another: scores that fall, and no samples but those of the comparison."""
    played: list[tuple[Plan, PosteriorSampler]] = []

    def falling(case: Case, plan: Plan, method: PosteriorSampler) -> Tensor:
        played.append((plan, method))
        return torch.full((8,), 1 / len(played), dtype=torch.float64)

    monkeypatch.setattr(Case, "scores", falling)
    return played


def others(method: PosteriorSampler) -> list[PosteriorSampler]:
    """The method with one of its settings that no search moves changed, each of them."""
    values = {each.name: getattr(method, each.name) for each in fields(method) if each.name not in method.ranges}  # type: ignore[arg-type]
    changed = {name: WORDS[name] if isinstance(value, str) else value + 1 for name, value in values.items()}
    return [replace(method, **{name: value}) for name, value in changed.items()]  # type: ignore[type-var]


CHANGED = [(name, other) for name, method in SAMPLERS.items() for other in others(method)]


@pytest.mark.parametrize(("name", "before"), CHANGED, ids=str)
def test_scores_of_other_settings_are_not_taken(
    name: str, before: PosteriorSampler, scores: list[tuple[Plan, PosteriorSampler]]
) -> None:
    study = Study("mine")
    search(asked_for(before), *cases(asked_for(before)), study)
    with pytest.raises(InputError, match="cannot resume mine: it keeps scores of"):
        search(asked_for(SAMPLERS[name]), *cases(asked_for(SAMPLERS[name])), study)


@pytest.mark.parametrize("method", SAMPLERS.values(), ids=SAMPLERS)
def test_nothing_is_played_again_where_all_is_the_same(
    method: PosteriorSampler, scores: list[tuple[Plan, PosteriorSampler]], tmp_path: Path
) -> None:
    asked = asked_for(method)
    first = search(asked, *cases(asked), Study("mine", tmp_path / "study.db"))
    played = len(scores)
    again = search(asked, *cases(asked), Study("mine", tmp_path / "study.db", resume=True))
    assert len(scores) == played
    assert (again.plan.rows, again.method, again.searched) == (first.plan.rows, first.method, first.searched)


def test_scores_of_another_usual_plan_are_not_taken(
    scores: list[tuple[Plan, PosteriorSampler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, study = SAMPLERS["mmps"], Study("mine")
    asked = asked_for(method)
    search(asked, *cases(asked), study)
    monkeypatch.setattr(type(method), "usual", lambda _, model, nfe: SAMPLERS["pigdm"].usual(model, nfe))
    with pytest.raises(InputError, match="it keeps scores of mmps at 3 as another version"):
        search(asked, *cases(asked), study)


def test_a_score_is_that_of_the_point_that_was_played_wherever_the_optimizer_would_be_now(
    scores: list[tuple[Plan, PosteriorSampler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine rounding may lead it elsewhere."""
    asked, study = asked_for(SAMPLERS["mmps"]), Study("mine")
    first = search(asked, *cases(asked), study)

    def elsewhere(space: PosteriorSpace, x: Vector) -> tuple[Plan, PosteriorSampler]:
        return point(space, 1 - x)

    point = PosteriorSpace.at
    monkeypatch.setattr(PosteriorSpace, "at", elsewhere)
    again = search(asked, *cases(asked), study)
    assert again.searched == first.searched
    assert (again.plan.rows, again.method) == (first.plan.rows, first.method)
    assert (first.plan.rows, first.method) in [(plan.rows, method) for plan, method in scores]


def test_a_study_from_before_pigdm_had_a_weighting_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its candidates were those of the formula, and so was its definition, which did not say so."""
    from fewer.cli.main import run

    (tmp_path / "before.py").write_text(
        "import fewer\nfrom fewer.models.schedules import Flow\n"
        "def small(): return fewer.Model.from_mixture(fewer.GaussianMixture.random((1, 4, 4), 2, seed=0), Flow(), hash='small')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = "tune before:small --task denoise --nfe 3 --method pigdm --against dps:4 --trials 2 --evaluations 800 --out made"
    played = [0]

    def stopped(case: Case, *given: Any) -> Tensor:
        played[0] += 1
        if played[0] == 4:
            raise KeyboardInterrupt
        return torch.ones(8, dtype=torch.float64)

    monkeypatch.setattr(Case, "scores", stopped)
    assert run(line.split()) == 130
    connection = sqlite3.connect(tmp_path / "made" / "study.db")
    for number, key, text in connection.execute("select number, strategy, plan from fewer_candidates").fetchall():
        plan = json.loads(text)
        plan["method"]["settings"].pop("weighting", None)
        where = "update fewer_candidates set plan = ? where number = ? and strategy = ?"
        connection.execute(where, (json.dumps(plan), number, key))
    connection.commit()
    capfd.readouterr()
    assert run([*line.split(), "--resume"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "keeps scores of pigdm at 3 as another version of fewer played it" in said
    weighted = "update fewer_searches set definition = replace(definition, ', weighting=''algorithm''', '')"
    connection.execute(weighted)
    connection.commit()
    connection.close()
    assert run([*line.split(), "--resume"]) == 2
    assert "it was searched with another methods" in capfd.readouterr().err
