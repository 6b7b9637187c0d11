"""The command line: what it writes, and how it ends on bad input (one line on stderr, status 2, nothing written)."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pipelines import unet
from searches import Searches

import fewer
from fewer.cli.main import run
from fewer.models.schedules import Flow

MODELS = """
import fewer, torch
from fewer.models.schedules import betas, discrete

VP = discrete(betas("scaled_linear"), name="scaled_linear")

def good():
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0)
    return fewer.Model.from_mixture(mixture, VP, name="good", hash="good")

def nan():
    return fewer.Model.from_denoiser(lambda x, t, y: x * float("nan"), VP, (1, 4, 4), name="nan")

def shape():
    return fewer.Model.from_denoiser(lambda x, t, y: x[:, :, :2], VP, (1, 4, 4), name="shape")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    return tmp_path


def plan_file(folder: Path) -> Path:
    model = fewer.Model.from_denoiser(lambda x, t, y: x, Flow(), (1, 4, 4), predicts="flow")
    return fewer.standard("euler", model, 4, "uniform").save(folder / "plan.json")


BAD = [
    ("tune no-such-model --nfe 5", "no-such-model"),
    ("tune my_models:good", "needs a budget"),
    ("tune my_models:good --nfe 0", "nfe"),
    ("tune my_models:good --nfe five", "nfe is 'five'"),
    ("tune my_models:good --nfe 5 --keep colour", "keep has 'colour'"),
    ("tune my_models:good --nfe 5 --guidance 3", "guidance"),
    ("tune my_models:good --nfe 5 --guidance strong", "guidance is 'strong'"),
    ("tune my_models:good --nfe 5 --macs 1e9", "--macs"),
    ("tune my_models:good --nfe 5 --ms 3", "--ms"),
    ("tune my_models:good --nfe 5 --prompts p.txt", "prompts p.txt cannot be read"),
    ("tune my_models:good --nfe 5 --out my_models.py/out", "cannot be written"),
    ("tune my_models:good --nfe 5 --data small.npz", "my_models|data"),
    ("tune my_models:good --match", "match"),
    ("tune my_models:nan --nfe 3", "not finite"),
    ("tune my_models:shape --nfe 3", "returned shape"),
    ("sample my_models:nan --out out", "not finite"),
    ("sample my_models:good --label 3 --out out", "no classes"),
    ("sample my_models:good --plan truncated.json --out out", "truncated.json"),
    ("sample my_models:good --plan newer.json --out out", "upgrade"),
    ("sample my_models:good --plan disordered.json --out out", "out of order"),
    ("sample my_models:good --plan infinite.json --out out", "infinite.json"),
    ("sample my_models:good --prompt cat --out out", "--prompt"),
    ("sample broken-folder --out out", "no pipeline folder"),
    ("sample pickled --out out", "safetensors"),
    ("compare my_models:good --nfe 4-2", "nfe"),
    ("inspect my_models:missing", "my_models"),
    ("report broken-folder", "results.json"),
    ("claims no-such-claim", "no claim is called"),
    ("nonsense", "nonsense"),
    ("tune", "MODEL"),
]


@pytest.mark.parametrize(("line", "says"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_ends_with_one_line_and_writes_nothing(
    here: Path, capfd: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    good = json.loads(plan_file(here).read_text())
    (here / "truncated.json").write_text(json.dumps(good)[:100])
    (here / "newer.json").write_text(json.dumps(good | {"schema": 99}))
    taus = (0.2, 0.5, 0.1)
    swapped = [good["rows"][0], *({**row, "tau": tau} for row, tau in zip(good["rows"][1:], taus, strict=True))]
    (here / "disordered.json").write_text(json.dumps(good | {"rows": swapped}))
    (here / "infinite.json").write_text(json.dumps(good | {"end": float("inf")}))
    (here / "broken-folder").mkdir()
    unet().save_pretrained(here / "pickled" / "unet", safe_serialization=False)
    (here / "pickled" / "scheduler").mkdir()
    (here / "pickled" / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    np.savez(here / "small.npz", x=np.zeros((20, 3, 3, 1), np.uint8))
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if "__pycache__" not in str(path)}
    capfd.readouterr()
    assert run(line.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("fewer: ")
    assert any(word in err for word in says.split("|")), err
    after = {path: path.stat().st_mtime_ns for path in here.rglob("*") if "__pycache__" not in str(path)}
    assert {p: t for p, t in after.items() if not p.is_dir()} == {p: t for p, t in before.items() if not p.is_dir()}
    assert set(after) == set(before)


@pytest.mark.usefixtures("few_standards")
def test_tune_sample_compare_and_report(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewer.cli.progress.SILENT", math.inf)  # on a slow machine a log says every minute where it is
    assert run(["tune", "my_models:good", "--nfe", "3-4", "--trials", "3", "--out", "made"]) == 0
    out, err = capfd.readouterr()
    assert "good: distance to the reference solution" in out
    assert err == ""
    results = json.loads((here / "made" / "results.json").read_text())
    keys = "model seed budget cost quality reference baselines verdict versions evaluations seconds"
    assert set(keys.split()) <= set(results)
    assert {"plan.json", "report.html", "study.db"} <= {path.name for path in (here / "made").iterdir()}
    (here / "made" / "report.html").unlink()
    assert run(["report", "made"]) == 0
    assert (here / "made" / "report.html").stat().st_size > 1000
    assert run(["sample", "my_models:good", "--plan", "made/plan.json", "-n", "5", "--out", "pictures"]) == 0
    assert sorted(p.name for p in (here / "pictures").glob("[!.]*")) == [
        *(f"{i:05d}.png" for i in range(5)),
        "grid.png",
    ]
    assert run(["sample", "my_models:good", "--plan", "made/plan.json", "-n", "2", "--out", "pictures"]) == 0
    assert sorted(p.name for p in (here / "pictures").glob("[!.]*")) == ["00000.png", "00001.png", "grid.png"]
    capfd.readouterr()
    assert run(["compare", "my_models:good", "--nfe", "4", "--plan", "made/plan.json", "-n", "64", "--json", "-"]) in (
        0,
        1,
    )
    board = json.loads(capfd.readouterr().out)
    assert board["plans"][0]["verdict"]["decision"] in ("better", "not worse", "worse", "cannot tell")
    assert all("paired_rmse" in row["quality"] for row in board["rows"])


@pytest.mark.parametrize(("nfe", "notes"), [(1, 1), (3, 1), (2, 0)])
def test_a_row_that_is_not_guided_is_told_of(
    here: Path, capfd: pytest.CaptureFixture[str], nfe: int, notes: int
) -> None:
    assert run(["sample", "digits", "-n", "1", "--nfe", str(nfe), "--guidance", "7.5", "--out", "out"]) == 0
    assert capfd.readouterr().err.count("without guidance") == notes


@pytest.mark.parametrize("line", ["methods --json", "methods --json -", "inspect my_models:good --json -"])
def test_json_is_alone_on_stdout(here: Path, capfd: pytest.CaptureFixture[str], line: str) -> None:
    assert run(line.split()) == 0
    out, err = capfd.readouterr()
    content = json.loads(out)
    assert err == ""
    if line.startswith("methods"):
        assert all({"name", "room", "papers", "title", "source", "claim"} <= set(entry) for entry in content)
        names = {entry["name"] for entry in content}
        assert {"ddim", "euler", "heun", "dpmpp-2m", "dpmpp-3m", "unipc", "ipndm", "deis", "ancestral"} <= names
        assert {
            "uniform",
            "quadratic",
            "logsnr",
            "karras",
            "exponential",
            "lu",
            "leading",
            "trailing",
            "linspace",
        } <= names


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert f"fewer {fewer.__version__}" in capfd.readouterr().out


def test_importing_fewer_imports_neither_torch_nor_diffusers() -> None:
    code = "import sys, fewer; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.slow
def test_interrupted_and_resumed(searches: Searches, here: Path) -> None:
    """SIGINT while the search runs: status 130, and --resume ends it."""
    line = "tune my_models:good --nfe 2-3 --out made --trials 4"
    pid = searches.start(here, line)
    limit = time.monotonic() + 120
    while not (here / "made" / "study.db").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    ended = searches.end(pid, signal.SIGINT)
    assert ended.status == 130, ended
    assert ended.said.startswith("fewer: interrupted")
    assert ended.said.count("\n") == 1
    done = searches.run(here, f"{line} --resume")
    assert done.status == 0, done
    assert (here / "made" / "plan.json").exists()


def test_a_reader_that_leaves_and_a_full_disk() -> None:
    fewer_ = [sys.executable, "-c", "from fewer.cli.main import main; main()"]
    left = subprocess.Popen([*fewer_, "methods", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert left.stdout is not None
    assert left.stderr is not None
    left.stdout.close()
    assert left.wait(60) == 0
    assert left.stderr.read() == ""
    with open("/dev/full", "w") as full:
        done = subprocess.run([*fewer_, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "fewer: output: No space left on device\n"


def test_threads_spin_less_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from fewer.cli.main import _spin_less

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    _spin_less()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    _spin_less()
    assert 0 < int(os.environ["GOMP_SPINCOUNT"]) < 300_000  # libgomp's own
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    _spin_less()
    assert "GOMP_SPINCOUNT" not in os.environ
