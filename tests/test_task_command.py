"""`fewer tune --task` and `fewer sample --measurement`: a plan for measurements, and what is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import fewer
from fewer import InputError, Plan
from fewer.cli.main import run
from fewer.plan.method import Method
from fewer.search.posterior_pairs import Case
from fewer.tasks.inverse.named import sampler_of

MODELS = """
import fewer
from fewer.models.schedules import betas, discrete

def small():
    mixture = fewer.GaussianMixture.random((1, 4, 4), 2, seed=0)
    return fewer.Model.from_mixture(mixture, discrete(betas("linear")), name="small", hash="small")

def corner(x): return x[:, :, :2, :2]
def blind(x): return x[:, :, :2, :2].detach()
def text(x): return "nothing"
"""
NOISE = 0.2
TUNE = "tune pm:small --task super-resolution --noise 0.2 --nfe 4 --method mmps --against pigdm:6 --trials 3 --evaluations 8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tasks")
    (made / "pm.py").write_text(MODELS)
    np.save(made / "y.npy", np.zeros((1, 2, 2), np.float32))
    np.save(made / "whole.npy", np.where(np.eye(4) > 0, 0.5, np.nan)[None].astype(np.float32))
    np.save(made / "nan.npy", np.full((1, 2, 2), np.nan, np.float32))
    np.save(made / "huge.npy", np.full((1, 2, 2), 1e300))
    np.save(made / "words.npy", np.array(["a"]))
    Image.fromarray((255 * np.eye(4)).astype(np.uint8)).save(made / "mask.png")
    Image.fromarray(np.full((2, 2), 255, np.uint8)).save(made / "white.png")
    fewer.standard(
        "ddim", fewer.Model.from_denoiser(lambda x, t, y: x, fewer.load("mixture16").schedule, (1, 4, 4)), 3
    ).save(made / "plain.json")
    elsewhere = Method("mmps", task="inpaint,mask=theirs.png", noise=0.1)
    replace(Plan.load(made / "plain.json"), method=elsewhere).save(made / "masked.json")
    return made


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert run([*TUNE.split(), "--out", str(folder / "tuned")]) == 0
    return folder / "tuned"


def test_a_tuned_plan_is_played_by_solve_with_its_method(tuned: Path) -> None:
    plan = Plan.load(tuned / "plan.json")
    assert plan.method is not None
    assert (plan.nfe, plan.method.name, plan.method.task, plan.method.noise) == (4, "mmps", "super-resolution", NOISE)
    model, y = fewer.load("pm:small"), torch.zeros(1, 2, 2)
    by_plan = fewer.solve(model, "super-resolution", y, plan=tuned / "plan.json", noise=NOISE, n=4)  # type: ignore[arg-type]
    by_hand = fewer.solve(model, "super-resolution", y, plan=plan, method=sampler_of(plan.method), noise=NOISE, n=4)
    assert by_plan.method == "mmps"
    assert torch.equal(by_plan.samples, by_hand.samples)
    assert fewer.solve(model, "super-resolution", y, plan=plan, method="dps", n=2).method == "dps"
    with pytest.raises(InputError, match="play it with a measurement"):
        fewer.sample(model, plan, n=2)


def test_results_have_the_keys_of_other_searches_and_the_report_says_how_to_play(tuned: Path) -> None:
    results: dict[str, Any] = json.loads((tuned / "results.json").read_text())
    keys = "model seed budget cost quality reference baselines verdict versions evaluations seconds"
    assert set(keys.split()) <= results.keys()
    assert results["evaluations"] <= 8000
    assert results["verdict"]["against"].startswith("pigdm ")
    own, verdict = results["quality"]["energy_distance"], results["verdict"]
    against = next(each for each in results["baselines"] if each["name"] == verdict["against"])
    apart = own["value"] - against["quality"]["energy_distance"]["value"]
    assert verdict["difference"]["value"] == pytest.approx(apart)
    assert (verdict["recommended"] == "tuned") == (verdict["decision"] in ("better", "not worse"))
    assert Plan.load(tuned / "baseline.json").nfe == 6
    assert run(["report", str(tuned)]) == 0
    page = (tuned / "report.html").read_text()
    assert "fewer.solve(model" in page
    assert "--task super-resolution --noise 0.2 --measurement" in page
    assert "Typical distance" not in page


def test_an_interrupted_search_goes_on_to_the_same_plan(
    tuned: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, played = Case.scores, [0]

    def third(case: Case, *given: Any) -> Tensor:
        played[0] += 1
        if played[0] == 4:
            raise KeyboardInterrupt
        return own(case, *given)

    monkeypatch.setattr(Case, "scores", third)
    command = [*TUNE.split(), "--out", str(folder / "resumed")]
    assert run(command) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert not (folder / "resumed" / "plan.json").exists()
    assert run(command) == 2  # another search may not begin there
    assert "give resume" in capsys.readouterr().err
    assert run([*command, "--resume"]) == 0
    assert (folder / "resumed" / "plan.json").read_text() == (tuned / "plan.json").read_text()


def test_a_search_in_a_time_goes_on_as_it_was_begun_on_a_machine_that_is_faster_by_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many pairs and candidates a time allows depends on the network's pace, which is timed anew in each sitting."""
    from fewer.search import posterior_arguments

    own, pace, played = Case.scores, [150.0], [0]

    def second(case: Case, *given: Any) -> Tensor:
        played[0] += 1
        if played[0] == 2:
            raise KeyboardInterrupt
        return own(case, *given)

    monkeypatch.setattr(posterior_arguments, "timed_pace", lambda *_, **__: pace[0])
    monkeypatch.setattr(Case, "scores", second)
    command = [*TUNE.replace("--evaluations 8000", "--time 60").split(), "--out", str(folder / "faster")]
    assert run(command) == 130
    pace[0] = 1500.0
    assert run([*command, "--resume"]) == 0
    assert "as it was begun" in capsys.readouterr().out
    assert json.loads((folder / "faster" / "results.json").read_text())["evaluations"] <= 150 * 60 / 3


def test_a_measurement_is_sampled_with_its_mean_and_spread(
    tuned: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"sample pm:small --plan {tuned}/plan.json --measurement y.npy -n 5 --format npz --out found --json -"
    assert run(command.split()) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["task"], record["noise"], record["method"], record["nfe"]) == ("super-resolution", NOISE, "mmps", 4)
    x = np.load(folder / "found" / "samples.npz")["x"]
    found = np.load(folder / "found" / "posterior.npz")
    assert x.shape == (5, 1, 4, 4)
    assert np.allclose(found["mean"], x.mean(0), atol=1e-6)
    assert np.allclose(found["spread"], x.std(0, ddof=1), atol=1e-6)


def test_of_an_inpainting_the_whole_image_is_taken_and_unknown_places_play_no_part(folder: Path) -> None:
    command = "sample pm:small --task inpaint,mask=mask.png --measurement whole.npy --noise 0.01 --nfe 8 -n 4 --method diffpir"
    assert run([*command.split(), "--format", "png", "--out", "filled"]) == 0
    assert (folder / "filled" / "posterior.png").exists()
    assert run([*command.split(), "--format", "npy", "--out", "array"]) == 0
    x = np.load(folder / "array" / "samples.npy")
    assert np.abs(x[:, 0][:, np.eye(4) > 0] - 0.5).max() < 0.1
    white = "sample pm:small --task super-resolution --measurement white.png --nfe 4 -n 2 --out white"
    assert run(white.split()) == 0


def test_a_dry_run_says_what_it_takes_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    assert run(f"{TUNE} --out dry --dry-run".split()) == 0
    said = capsys.readouterr().out
    assert "search" in said
    assert "derivatives" in said
    for method, told in (("mmps", True), ("diffpir", False)):
        command = (
            f"sample pm:small --task super-resolution --measurement y.npy --method {method} --nfe 5 -n 3 --dry-run"
        )
        assert run(command.split()) == 0
        said = capsys.readouterr().out
        assert "about 15 network evaluations" in said
        assert ("derivatives" in said) == told
    assert (
        run(["sample", "pm:small", "--task", "denoise", "--measurement", "y.npy", "--dry-run"]) == 2
    )  # of another shape
    assert sorted(folder.iterdir()) == before


SAMPLE = "sample pm:small --out out --measurement"
REFUSED = {
    "tune pm:small --task inpant --nfe 4": "did you mean inpaint",
    "tune pm:small --task denoise,width=2 --nfe 4": "settings are none",
    "tune pm:small --task deblur,width=a --nfe 4": "width is 'a'",
    "tune pm:small --task inpaint,share=2 --nfe 4": "share is 2",
    "tune pm:small --task inpaint,share=0.5,mask=mask.png --nfe 4": "one of them",
    "tune pm:small --task inpaint,mask=white.png --nfe 4": "2 x 2",
    "tune pm:small --task super-resolution,factor=3 --nfe 4": "by 3 needs sizes",
    "tune pm:small --task pm:absent --nfe 4": "absent",
    "tune pm:small --task pm:text --nfe 4 --method mmps --against dps": "returned str",
    "tune pm:small --task pm:corner --nfe 4 --method pigdm": "needs a linear operator",
    "tune pm:small --task pm:blind --nfe 4 --method mmps --against dps --evaluations 9000": "no derivative",
    "tune pm:small --task denoise --nfe 4 --method mmsp": "did you mean mmps",
    "tune pm:small --task denoise --nfe 4 --method ddim": "methods for measurements are",
    "tune pm:small --task denoise --nfe 4 --against dsp": "did you mean dps",
    "tune pm:small --task denoise --nfe 4 --against dps:x": "METHOD:CALLS",
    "tune pm:small --task denoise --nfe 4 --noise 0": "above 0",
    "tune pm:small --task denoise --nfe 4 --noise nan": "above 0",
    "tune pm:small --task denoise --nfe 4 --noise 1e300": "from 1e-18 to 1e+18",
    "tune pm:small --task denoise --nfe 4 --margin nan": "margin is nan",
    "tune pm:small --task denoise --nfe 4 --margin -1": "margin is -1",
    "tune pm:small --task inpaint,seed=99999999999999999999 --nfe 4": "seed is 1e+20",
    "tune pm:small --task compressed-sensing,seed=-1 --nfe 4": "seed is -1",
    "tune pm:small --task denoise --nfe 4,5": "one number of calls",
    "tune pm:small --task denoise": "needs a budget",
    "tune pm:small --task denoise --nfe 1": "nfe is 1",
    "tune pm:small --task denoise --nfe 4 --match": "--match does not go with --task",
    "tune pm:small --task denoise --nfe 4 --strategy ays": "--strategy does not go",
    "tune pm:small --task denoise --nfe 4 --evaluations 10": "too little",
    "tune pm:small --nfe 4 --method dps": "give --task too",
    "sample pm:small --task denoise": "give --measurement",
    f"{SAMPLE} y.npy": "needs --task",
    f"{SAMPLE} y.npy --plan plain.json": "needs --task",
    f"{SAMPLE} absent.npy --task super-resolution": "absent.npy",
    f"{SAMPLE} nan.npy --task super-resolution": "4 values that are not finite",
    f"{SAMPLE} huge.npy --task super-resolution": "4 values that are not finite",
    f"{SAMPLE} y.npy --plan masked.json": "give --task too",
    f"{SAMPLE} y.npy --task super-resolution --noise 1e-300": "from 1e-18 to 1e+18",
    f"{SAMPLE} words.npy --task super-resolution": "no array of numbers",
    f"{SAMPLE} y.npy --task deblur": "the operator gives (1, 4, 4)",
    f"{SAMPLE} pm.py --task super-resolution": "not an image",
    f"{SAMPLE} y.npy --task super-resolution --noise 0": "above 0",
    f"{SAMPLE} y.npy --task super-resolution --method mmsp": "did you mean mmps",
    f"{SAMPLE} y.npy --task pm:blind --nfe 2": "no derivative",
    f"{SAMPLE} y.npy --task pm:corner --nfe 2 --method pigdm": "needs a linear operator",
    f"{SAMPLE} y.npy --task super-resolution --plan plain.json --nfe 3": "has its own",
    f"{SAMPLE} y.npy --task super-resolution --uncertainty": "does not go with --measurement",
}


@pytest.mark.parametrize("command", REFUSED)
def test_bad_input_is_one_line_and_nothing_is_written(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert run(command.split()) == 2
    said = capsys.readouterr().err
    assert REFUSED[command] in said
    assert said.count("\n") == 1
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in str(path)] == [
        path for path in before if "__pycache__" not in str(path)
    ]


def test_a_plan_for_measurements_is_not_sampled_without(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"sample pm:small --plan {tuned}/plan.json --out out".split()) == 2
    assert "--measurement" in capsys.readouterr().err
    assert run(f"export {tuned}/plan.json --to sigmas".split()) == 2
