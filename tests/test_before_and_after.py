"""What commands say before they begin, while they work, when they are interrupted, and in one sentence at the end."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import contents, interval

import fewer
from fewer.cli import progress
from fewer.cli.main import run
from fewer.cli.progress import Report
from fewer.errors import InputError
from fewer.evaluate.cost.pace import in_words
from fewer.files import read_bytes
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.plan import Plan
from fewer.report.summary import summary
from fewer.results import Results

MODELS = """
import fewer
from fewer.models.schedules import Flow

def good():
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), name="good", hash="good")

def stopped():
    def network(x, t, labels):
        if len(x) > 1:
            raise KeyboardInterrupt
        return x
    return fewer.Model.from_denoiser(network, Flow(), (1, 4, 4), name="stopped")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "forecast_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    logger = logging.getLogger("fewer")
    logger.handlers.clear()
    logger.propagate = True


def written(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in str(path)}


@pytest.mark.parametrize(
    "line",
    [
        "tune forecast_models:good --nfe 5",
        "tune forecast_models:good --nfe 2-4 --time 30 --out made",
        "sample forecast_models:good -n 8 --out images",
        "compare forecast_models:good --nfe 2 --json board.json",
        "inspect forecast_models:good --cost --json facts.json",
        "claims ddim --json claims.json",
    ],
)
def test_a_dry_run_says_what_it_would_take_and_write_and_writes_nothing(
    here: Path, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    before = written(here)
    assert run([*line.split(), "--dry-run"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert written(here) == before
    assert out.splitlines()[-1].startswith("would write ")
    target = line.split()[-1] if ".json" in line or "--out" in line else "fewer-good"
    assert target in out.splitlines()[-1]
    if not line.startswith("claims"):
        assert "network evaluations" in out
        assert "of memory" in out


def test_sampling_takes_as_many_evaluations_as_its_dry_run_says(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "forecast_models:good", "-n", "8", "--nfe", "6", "--dry-run"]) == 0
    assert "about 48 network evaluations" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sample forecast_models:stopped -n 4 --out images", "no sample was written"),
        ("compare forecast_models:stopped --nfe 2", "nothing is kept"),
        ("inspect forecast_models:stopped", "nothing is kept"),
        ("tune forecast_models:stopped --nfe 2 --out made", "nothing is kept"),
    ],
)
def test_an_interrupt_says_what_is_true_of_the_command(
    here: Path, capfd: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert run(line.split()) == 130
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith("fewer: interrupted; ")
    assert says in said[-1]
    assert ("--resume" in said[-1]) == (here / "made" / "study.db").exists()


@pytest.mark.parametrize("times", [0, 2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("few_standards")
@pytest.mark.slow
def test_verbose_commands_log_by_the_loggers_of_fewer(
    here: Path, capfd: pytest.CaptureFixture[str], times: int
) -> None:
    line = "tune forecast_models:good --nfe 1 --trials 1 --out made" + (f" -{'v' * times}" if times else "")
    assert run(line.split()) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].startswith("1 call ")
    assert ("fewer.search.stages.run INFO: reference solution" in err) == (times >= 1)
    assert ("DEBUG: standard: candidate" in err) == (times == 2)
    assert json.loads((here / "made" / "results.json").read_text())["summary"] == out.splitlines()[0]


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(InputError, match="no regular file"):
            Plan.load(path)
        with pytest.raises(InputError, match="no regular file"):
            read_bytes(path, "it", 10)


def test_a_plan_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewer.plan.file.LARGEST_JSON", 2**20)
    model = Model.from_denoiser(lambda x, t, y: x, Flow(), (2,))
    plan = fewer.standard("euler", model, 2, "uniform").named("x" * 2 * 2**20)
    with pytest.raises(InputError, match="takes 2 MiB as a file, of which at most 1 are read"):
        plan.save(tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())


def test_the_time_left_is_that_of_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    report = Report()
    report.overall(0, 1000)
    assert report.left() is None
    for now in (10.0, 20.0, 50.0):
        report("search", round(now), 300)  # whatever the stage makes of it
        report.overall(round(10 * now), 1000)
        assert report.left() == pytest.approx(100.0 - now)
    report.overall(500, 750)  # the stages to come take less than was thought
    assert report.left() == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0.27, "0.27 seconds"), (40, "40 seconds"), (180, "3 minutes"), (9000, "2.5 hours"), (4e5, "4.6 days")],
)
def test_times_are_said_as_people_do(seconds: float, says: str) -> None:
    assert in_words(seconds) == says


def results(refused: bool = False, **changes: Any) -> Results:
    return Results.model_validate(contents(refused=refused) | changes)


def test_the_first_sentence_compares_the_plan_with_the_pipeline() -> None:
    content = contents()
    content["baselines"][-1]["quality"] = {"paired_rmse": interval(0.0192)}
    content["quality"] = {"paired_rmse": interval(0.0193)}
    said = summary(Results.model_validate(content))
    assert said.startswith("5 calls in place of 50, at about the same error: 0.0193 against 0.0192; ")
    assert said.endswith(" times as fast.")
    content["quality"] = {"paired_rmse": interval(0.1)}
    assert "at a larger error: 0.100 against 0.0192" in summary(Results.model_validate(content))
    content["quality"] = {"paired_rmse": interval(0.001)}
    assert "at a smaller error: 0.00100 against 0.0192" in summary(Results.model_validate(content))


def test_the_first_sentence_without_a_pipeline_names_the_best_standard_sampler() -> None:
    content = contents()
    content["baselines"] = content["baselines"][:-1]
    said = summary(Results.model_validate(content))
    assert said == "5 calls at an error of 0.192, against 0.620 of the best standard sampler, ddim uniform, 69 % less."


@pytest.mark.parametrize(
    ("decision", "says"), [("cannot tell", "cannot be told"), ("worse", "no tuned plan is as good")]
)
def test_the_first_sentence_says_where_a_standard_plan_was_kept(decision: str, says: str) -> None:
    content = contents(refused=True)
    content["verdict"] = content["verdict"] | {"decision": decision}
    said = summary(Results.model_validate(content))
    assert says in said
    assert "the standard sampler ddim uniform, which is kept" in said


def test_the_first_sentence_says_where_the_milliseconds_are_exceeded() -> None:
    content = contents()
    content["front"][0] = content["front"][0] | {"within": "no"}
    assert "longer than the budget in milliseconds" in summary(Results.model_validate(content))
