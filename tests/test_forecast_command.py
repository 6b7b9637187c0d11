"""`fewer forecast`: the draws of `fewer.forecast` in a file, what it would take, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fewer
from fewer.cli.main import run
from fewer.plan.method import Method

MODELS = """
import fewer
from fewer.models.schedules import betas, discrete
from fewer.tasks.series.state_space import autoregression, window_law

def series():
    law = window_law([autoregression([0.8], 0.5), autoregression([-0.5], 0.3)], 6)
    return fewer.Model.from_mixture(law, discrete(betas("linear")), name="series", hash="series")
"""
FORECAST = "forecast fm:series --past one.npy --members 6 --nfe 3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("forecasts")
    (made / "fm.py").write_text(MODELS)
    past = np.random.default_rng(0).normal(size=(3, 4, 1))
    np.save(made / "one.npy", past[0])
    np.save(made / "many.npy", past.astype(np.float32))
    np.save(made / "whole.npy", np.zeros((6, 1)))
    np.save(made / "channels.npy", np.zeros((4, 2)))
    np.save(made / "gap.npy", np.full((4, 1), np.nan))
    np.save(made / "huge.npy", np.full((4, 1), 1e300))
    np.save(made / "counts.npy", np.arange(4)[:, None])
    np.save(made / "words.npy", np.array([["a"]]))
    return made


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    ("past", "options", "steps"),
    [("one.npy", "", None), ("many.npy", "--steps 5 --noise 0.2 --batch 7 --seed 3", 5), ("counts.npy", "", None)],
)
def test_the_file_has_what_forecast_draws(
    past: str, options: str, steps: int | None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"forecast fm:series --past {past} --members 6 --nfe 3 {options} --out {tmp_path / 'out'} --json -"
    assert run(line.split()) == 0
    record = json.loads(capsys.readouterr().out)
    later = {"noise": 0.2, "batch": 7, "seed": 3} if options else {}
    y = np.load(past).astype(np.float32)
    found = fewer.forecast(fewer.load("fm:series"), y, horizon=steps, n=6, plan=3, **later)  # type: ignore[arg-type]
    with np.load(record["files"][0]) as file:
        assert torch.equal(torch.from_numpy(file["samples"]), found.samples)
        assert torch.equal(torch.from_numpy(file["mean"]), found.mean)
        assert torch.equal(torch.from_numpy(file["spread"]), found.spread)
        assert file["quantiles"].shape == (len(file["levels"]), *found.mean.shape)
        assert np.all(np.diff(file["quantiles"], axis=0) >= 0)
        assert file["levels"][2] == 0.5
    assert (record["members"], record["pasts"], record["nfe"]) == (6, 3 if found.axis else 1, found.nfe)
    assert record["steps"] == (steps or 2)


def test_a_plan_is_played_by_its_own_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    model = fewer.load("fm:series")
    plan = replace(fewer.standard("ddim", model, 3), method=Method("tsdiff", {"strength": 2.0}))
    plan.save(tmp_path / "plan.json")
    line = f"forecast fm:series --past one.npy --members 2 --plan {tmp_path / 'plan.json'} --json - --out"
    made = []
    for more in ([], ["--method", "mmps"]):
        assert run([*line.split(), str(tmp_path / f"out{len(more)}"), *more]) == 0
        made.append(json.loads(capsys.readouterr().out))
    assert [each["method"] for each in made] == ["tsdiff", "mmps"]
    by_plan = fewer.forecast(model, np.load("one.npy").astype(np.float32), plan=plan, n=2)
    assert by_plan.method == "tsdiff"
    with np.load(made[0]["files"][0]) as file:
        assert torch.equal(torch.from_numpy(file["samples"]), by_plan.samples)


def test_a_dry_run_says_what_it_takes_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in folder.rglob("*") if "__pycache__" not in str(path)}
    line = "forecast fm:series --past many.npy --members 6 --nfe 3 --steps 5 --out out --dry-run"
    assert run(line.split()) == 0
    assert str(6 * 3 * 3 * 3) in capsys.readouterr().out  # members, pasts, calls, blocks of 2 times
    assert before == {path for path in folder.rglob("*") if "__pycache__" not in str(path)}


REFUSED = {
    "forecast fm:series --past absent.npy": "absent.npy",
    "forecast fm:series --past words.npy": "no array of numbers",
    "forecast fm:series --past fm.py": "no .npy file",
    "forecast fm:series --past whole.npy": "some must be left",
    "forecast fm:series --past channels.npy": "windows of series are (6, 1)",
    "forecast fm:series --past gap.npy": "4 values that are not finite",
    "forecast fm:series --past huge.npy": "4 values that are not finite",
    f"{FORECAST} --steps 0": "steps",
    f"{FORECAST} --time 2": "time is 2",
    f"{FORECAST} --noise -1": "at least 0",
    f"{FORECAST} --noise nan": "at least 0",
    f"{FORECAST} --noise 1e-300": "from 1e-18",
    f"{FORECAST} --method tsdif": "did you mean tsdiff",
    f"{FORECAST} --plan absent.json": "has its own",
    "forecast fm:series --past one.npy --plan absent.json": "absent.json",
    f"{FORECAST} --label 3": "label",
    f"{FORECAST} --negative-prompt bad": "No such option: --negative-prompt",
    f"{FORECAST} --out .": "did not write",
    f"{FORECAST} --json one.npy": "something else",
}


@pytest.mark.parametrize("command", REFUSED)
def test_bad_input_is_one_line_and_nothing_is_written(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path for path in folder.rglob("*") if "__pycache__" not in str(path)}
    assert run(command.split()) == 2
    said = capsys.readouterr().err
    assert REFUSED[command] in said
    assert said.count("\n") == 1
    assert before == {path for path in folder.rglob("*") if "__pycache__" not in str(path)}
