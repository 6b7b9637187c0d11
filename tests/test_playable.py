"""`fewer tune --playable-by`: plans of one solver's rows, at levels that the search has found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fewer
from fewer.integrations.engines import played_by
from fewer.levels import log_s
from fewer.models.schedules import VarianceExploding
from fewer.search.arguments import Arguments
from fewer.search.playable import space_of
from fewer.search.request import Budget, identity

SMALL: dict[str, Any] = {"trials": 2, "noises": 16, "fresh": 16}


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    """An exact model of two numbers."""
    mixture = fewer.GaussianMixture.random((1, 1, 2), components=2, seed=0, classes=2)
    return fewer.Model.from_mixture(mixture, VarianceExploding(0.02, 80.0), hash="exact", conditional=True)


@pytest.mark.usefixtures("few_standards")
@pytest.mark.parametrize(("name", "sampler", "nfe"), [("dpmpp_2m", "dpmpp_2m", 3), ("heun", "heun", 3)])
def test_every_plan_of_the_search_is_the_engines_at_its_levels(
    name: str, sampler: str, nfe: int, model: fewer.Model, tmp_path: Path
) -> None:
    result = fewer.tune(model, nfe, playable_by=name, out=tmp_path / "out", **SMALL)
    assert result.results["budget"]["playable_by"] == name.replace("_", "-")
    assert {row["name"].split()[0] for row in result.results["baselines"]} == {name.replace("_", "-")}
    nearest = played_by(result.plan, flow=False)[0]
    assert (nearest.sampler, nearest.exact) == (sampler, True)
    with pytest.raises(fewer.InputError):  # another search: the levels of another solver
        fewer.tune(model, nfe, playable_by="unipc", out=tmp_path / "out", resume=True, **SMALL)


@pytest.mark.parametrize("name", ["euler", "dpmpp-2m", "res-2m", "heun", "kdpm2", "unipc", "ipndm", "lms"])
def test_levels_are_all_that_moves(name: str, model: fewer.Model) -> None:
    base = fewer.standard(name, model, 5, "karras")
    space = space_of(model, [base], name)
    assert space is not None
    theta = space.vector(base)
    assert len(theta) == len(space.names) == (3 if name in ("heun", "kdpm2") else 5)
    again = space.plan(theta)
    logs = [log_s(torch.tensor([float(row.tau) for row in plan.rows])) for plan in (again, base)]
    assert (logs[0] - logs[1]).abs().max() < 0.051  # a free start lies that much below the model's, and all below it
    moved = space.plan(theta + 0.3)
    assert [float(tau) for tau in moved.levels] != [float(tau) for tau in base.levels]
    assert moved.recipe.solver == name
    assert len(moved.rows) == 5
    if name not in ("unipc",):
        assert played_by(moved, flow=False)[0].exact


def test_a_study_is_of_its_solver(model: fewer.Model) -> None:
    of = {
        name: identity(Arguments(4, playable_by=name).request(model), model, Budget(4))
        for name in ("euler", "dpmpp-2m")
    }
    plain = identity(Arguments(4).request(model), model, Budget(4))
    assert len({str(each) for each in (*of.values(), plain)}) == 3
    assert "playable_by" not in plain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"playable_by": "ancestral"}, "no other engine"),
        ({"playable_by": "nobody"}, "no other engine"),
        ({"playable_by": "euler", "keep": ["steps"]}, "keep holds fixed"),
        ({"playable_by": "euler", "strategy": "learned-times"}, "levels of its steps"),
        ({"playable_by": "heun", "strategy": "ays"}, "levels of its steps"),
        ({"playable_by": "euler", "nfe": 3, "guidance": 2.0}, "even one"),
    ],
)
def test_what_cannot_be_played_elsewhere_is_refused(options: dict[str, Any], words: str, model: fewer.Model) -> None:
    with pytest.raises(fewer.InputError, match=words):
        fewer.tune(model, **{"nfe": 4, **options})


def test_a_sampler_that_on_a_flow_is_another_is_refused() -> None:
    mixture = fewer.GaussianMixture.random((1, 1, 2), components=2, seed=0)
    flow = fewer.Model.from_mixture(mixture, fewer.models.schedules.Flow())
    with pytest.raises(fewer.InputError, match="takes sigma of a flow"):
        fewer.tune(flow, 4, playable_by="dpmpp_2m")
