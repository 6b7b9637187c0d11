"""Statistics that DPM-Solver-v3 was given for another model, and files that hold none: one line, and status 2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import fewer
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.models.model import Model
from fewer.solvers import compile_plan, places
from fewer.solvers.ode.dpm_v3 import DPMSolverV3, Statistics

LAM = torch.linspace(-4, 4, 10, dtype=torch.float64)


def tables(model: Model) -> Statistics:
    """Those of a model whose f is constant, but for a drift that differs between pixels."""
    none = torch.zeros(10, *model.shape, dtype=torch.float64)
    drift = torch.linspace(0, 1, none[0].numel(), dtype=torch.float64).view(model.shape).expand_as(none)
    return Statistics(model.hash, LAM, none, none, drift)


def plan_of(model: Model) -> fewer.Plan:
    spots = places(model, levels("logsnr", Range(model.schedule, model.start), 4))
    plan = compile_plan(DPMSolverV3(tables(model), 2, corrector=False), spots, 4, "v3")
    return replace(plan, model={"name": model.name, "hash": model.hash})


@pytest.fixture(scope="module")
def digits() -> Model:
    return fewer.load("digits")


def test_statistics_fit_their_own_model_alone(digits: Model) -> None:
    found = tables(digits)
    assert found.check(digits) is found
    for other in (replace(digits, hash="another"), replace(digits, shape=(3, 8, 8))):
        with pytest.raises(InputError, match="made on another model than digits: make them on this one") as error:
            found.check(other)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l": None}, "holds no model statistics"),
        ({"lam": LAM.flip(0)}, "need rising lam"),
        ({"lam": LAM[:1], "l": torch.zeros(1, 2), "s": torch.zeros(1, 2), "b": torch.zeros(1, 2)}, "need rising lam"),
        ({"s": torch.zeros(10, 3)}, "of one shape"),
        ({"b": torch.full((10, 2), torch.nan)}, "are not finite"),
    ],
)
def test_files_that_hold_no_statistics(changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path) -> None:
    given = {"lam": LAM, "l": torch.zeros(10, 2), "s": torch.zeros(10, 2), "b": torch.zeros(10, 2)} | changes
    save_file({name: value.contiguous() for name, value in given.items() if value is not None}, tmp_path / "x")
    with pytest.raises(InputError, match=message) as error:
        Statistics.load(tmp_path / "x")
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_pickles(tmp_path: Path) -> None:
    torch.save({"lam": LAM}, tmp_path / "pickle")
    for name, message in (("pickle", "not a safetensors file"), ("nowhere", "cannot read")):
        with pytest.raises(InputError, match=message):
            Statistics.load(tmp_path / name)


def test_a_plan_from_another_models_statistics(
    digits: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of another shape it is refused; of the same it is played, and said to be another's once."""
    mine = plan_of(digits).save(tmp_path / "mine.json")
    other = replace(plan_of(digits), model={"name": "another", "hash": "0"}).save(tmp_path / "other.json")
    assert run(["sample", "mixture16", "--plan", str(mine), "-n", "2", "--out", str(tmp_path / "a")]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "has shape (1, 8, 8); samples are (3, 16, 16)" in said
    assert run(["sample", "digits", "--plan", str(other), "-n", "2", "--out", str(tmp_path / "b")]) == 0
    assert capfd.readouterr().err.count("was made for another, not for") == 1
    assert run(["sample", "digits", "--plan", str(mine), "-n", "2", "--out", str(tmp_path / "c")]) == 0
    assert "was made for" not in capfd.readouterr().err
