"""Where plans are from: a recipe goes through its file, searches read it and no name, and strategies of one's own are played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from test_joint import stack

import fewer
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.models.schedules import betas, discrete
from fewer.plan import Plan
from fewer.plan.file import digest
from fewer.plan.recipe import UNKNOWN, Recipe
from fewer.search.ledger import Ledger
from fewer.search.objective import Objective
from fewer.search.passes import passing, scaled
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.joint import with_rows
from fewer.search.strategies.standards import by_grid
from fewer.search.strategy import Candidate, Strategy
from fewer.search.study import STUDY, Study

MIXTURE = fewer.GaussianMixture.random((3,), components=4, seed=1, classes=2)
BRIEF = {"noises": 16, "fresh": 16, "seed": 2, "margin": 9.0}


def model(conditional: bool = False) -> fewer.Model:
    return fewer.Model.from_mixture(MIXTURE, discrete(betas("linear")), conditional=conditional, hash="recipe")


def test_a_recipe_goes_through_its_file(tmp_path: Path) -> None:
    plan = fewer.standard("unipc", model(), 4, "karras")
    assert plan.recipe == Recipe("unipc", "karras")
    made = replace(plan, recipe=Recipe("unipc", anchor="v3-2", strategy="x", passes="12h", parents=("a", "b")))
    assert Plan.load(made.save(tmp_path / "plan.json")).recipe == made.recipe
    assert digest(made) == digest(plan) == digest(plan.named(""))


def test_older_files_and_damaged_recipes(tmp_path: Path) -> None:
    path = fewer.standard("ddim", model(), 2).save(tmp_path / "plan.json")
    content = json.loads(path.read_text())
    older = {key: value for key, value in content.items() if key != "recipe"} | {"schema": 3}
    path.write_text(json.dumps(older))
    assert Plan.load(path).recipe == UNKNOWN
    for wrong in ({"solver": 3}, {"parents": "a b"}, {"made by": "me"}, []):
        path.write_text(json.dumps(content | {"recipe": wrong}))
        with pytest.raises(InputError, match=r"recipe") as told:
            Plan.load(path)
        assert "\n" not in str(told.value)


def test_plans_of_unknown_origin_stand_for_themselves() -> None:
    plan = fewer.standard("dpmpp-2m", model(), 4, "logsnr")
    unknown = replace(plan, recipe=UNKNOWN)
    assert by_grid([unknown, plan, unknown, fewer.standard("ddim", model(), 4, "logsnr")]) == (unknown, plan, unknown)
    assert with_rows(model(), unknown, 6) is None
    assert with_rows(model(), plan.named(""), 6) == fewer.standard("dpmpp-2m", model(), 6, "logsnr")
    assert Space(model(), (unknown,), anchors={"": lambda spots, calls: plan}).around(unknown).anchor is None
    with pytest.raises(InputError, match="does not say which solver"):
        scaled(problem(model(True)), passing(replace(unknown, recipe=UNKNOWN), "2h11", 2.0))


def test_grids_that_place_levels_alike_are_one() -> None:
    """Uniform and trailing differ by less than a hundredth of a step, and with them the ends of a descent; logsnr does not."""
    uniform, trailing, logsnr = (fewer.standard("ddim", model(), 4, grid) for grid in ("uniform", "trailing", "logsnr"))
    assert by_grid([trailing, logsnr, uniform]) == (trailing, logsnr)
    assert by_grid([uniform, trailing, logsnr]) == (uniform, logsnr)
    unknown = replace(trailing, recipe=Recipe())
    assert by_grid([uniform, unknown]) == (uniform, unknown)


def problem(of: fewer.Model) -> Objective:
    noise = fewer.sample(of, fewer.standard("ddim", of, 1), n=8)
    return Objective(of, noise, of.labels(8), noise)


def test_a_tuned_plan_names_its_parent_and_its_strategy() -> None:
    base = fewer.standard("dpmpp-2m", model(), 3, "logsnr")
    found = next(GaussNewton(starts=1).search(problem(model()), Space(model(), (base,)), [], 0))
    assert found.plan.recipe == Recipe(strategy="gauss-newton", parents=(digest(base),))


SEARCHES: dict[str, tuple[Any, dict[str, Any]]] = {
    "fitted": (model(), {"nfe": 3, "trials": 2, "start_from": ["dpm-v3", "ays", "truncated"]}),
    "guided": (model(True), {"nfe": 4, "trials": 12, "guidance": 2.0}),
    "blocks": (stack(), {"macs": 2.5 * call_macs(stack()), "trials": 3}),
}


@pytest.mark.parametrize(
    "kind", ["fitted", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("guided", "blocks"))]
)
@pytest.mark.usefixtures("few_standards")
@pytest.mark.slow
def test_names_say_nothing_to_a_search(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan is called the same wherever it is made; the search is interrupted and goes on."""
    of, options = SEARCHES[kind]
    as_it_is = Plan.__init__

    def searched(name: str | None, out: Path) -> list[tuple[str, str, float]]:
        def renamed(self: Plan, *args: Any, **kwargs: Any) -> None:
            as_it_is(self, *args, **kwargs)
            object.__setattr__(self, "name", self.name if name is None else name)

        def stopped(stage: str, done: int, total: int | None) -> None:
            if stage.endswith("evaluations: standard") and done == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(Plan, "__init__", renamed)
        with pytest.raises(KeyboardInterrupt):
            fewer.tune(of, **options, **BRIEF, out=out, progress=stopped)
        result = fewer.tune(of, **options, **BRIEF, out=out, resume=True)
        study = Study(f"nfe-{result.front[0].nfe}", out / STUDY, resume=True, definition=asked(out))
        names = ["standard", "dpm-v3", "ays", "truncated", "gauss-newton", "guided-rows", "joint"]
        return [(each, digest(c.plan), c.error) for each in names for c in study.candidates(each)]

    first = searched(None, tmp_path / "first")
    assert first == searched("", tmp_path / "empty") == searched("ddim karras", tmp_path / "another")


def asked(out: Path) -> Any:
    """What the one study of a folder was asked for."""
    (definition,) = Ledger.in_file(out / STUDY).definitions().values()
    return json.loads(definition)


@pytest.mark.usefixtures("few_standards")
def test_a_start_from_a_plan_without_a_name(tmp_path: Path) -> None:
    path = replace(fewer.standard("unipc", model(), 3, "karras"), name="", recipe=UNKNOWN).save(tmp_path / "start.json")
    assert fewer.tune(model(), 3, start_from=[path], trials=2, **BRIEF).plan.nfe == 3  # type: ignore[arg-type]


@pytest.mark.usefixtures("few_standards")
def test_a_study_from_before_recipes_is_refused_in_one_line(tmp_path: Path) -> None:
    fewer.tune(model(), 2, trials=1, out=tmp_path, **BRIEF)  # type: ignore[arg-type]
    old = {key: value for key, value in asked(tmp_path).items() if key != "plan schema"}
    with pytest.raises(InputError, match="searched with another plan schema"):
        Study("nfe-2", tmp_path / STUDY, old, resume=True)


@dataclass(frozen=True)
class Shuffled(Strategy):
    """A strategy of a user's own: the bases one after another, with their first weight scaled."""

    factor: float = 0.9
    candidates: int = 2
    name = "shuffled"
    columns = frozenset({"solver"})

    def search(self, problem: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        for base in space.bases[len(done) : self.candidates]:
            row = replace(base.rows[0], b={0: self.factor * float(base.rows[0].b[0])})
            plan = replace(base, rows=(row, *base.rows[1:]))
            yield Candidate(plan, problem.rmse(plan), self.name)


@pytest.mark.usefixtures("few_standards")
def test_a_strategy_of_ones_own_is_an_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = fewer.tune(model(), 3, strategy=Shuffled(), start_from=[GaussNewton(candidates=2)], out=tmp_path, **BRIEF)  # type: ignore[arg-type]
    assert result.front[0].nfe == 3
    again = fewer.tune(
        model(), 3, strategy=Shuffled(), start_from=[GaussNewton(candidates=2)], out=tmp_path, resume=True, **BRIEF
    )  # type: ignore[arg-type]
    assert again.plan.rows == result.plan.rows
    for other in (Shuffled(0.8), "evolution"):
        with pytest.raises(InputError, match="searched with another strategy"):
            fewer.tune(
                model(), 3, strategy=other, start_from=[GaussNewton(candidates=2)], out=tmp_path, resume=True, **BRIEF
            )  # type: ignore[arg-type]
    with pytest.raises(InputError, match="strategy has 3; expected the name of a strategy"):
        fewer.tune(model(), 3, strategy=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"start_from is Shuffled.*expected a list"):
        fewer.tune(model(), 3, start_from=Shuffled())  # type: ignore[arg-type]
    assert run(["tune", "mixture16", "--nfe", "3", "--strategy", "shuffled", "--out", str(tmp_path / "none")]) == 2
    assert capfd.readouterr().err.count("\n") == 1
