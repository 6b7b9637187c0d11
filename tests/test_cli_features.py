"""--features and --metric: what they write, and how they end on what cannot be used."""

import json
import sys

import numpy as np
import pytest
import torch

from fewer.cli.main import run
from fewer.evaluate.statistics.interval import Interval
from fewer.images import read_images

MODELS = """
import torch
import fewer
from fewer.models.schedules import Flow

def good():
    return fewer.Model.from_mixture(fewer.GaussianMixture.random((1, 4, 4), 2, seed=0), Flow(), name="good", hash="good")

def gap(x, y): return float((x.mean() - y.mean()).abs())
def fails(x, y): raise RuntimeError("no figure\\ntoday")

class Own(torch.nn.Module):
    def __init__(self, run):
        super().__init__()
        self.run = run
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.run(x.flatten(1), self.calls)

def same(): return Own(lambda x, calls: 0 * x)
def hollow(): return Own(lambda x, calls: x / 0)
def uneven(): return Own(lambda x, calls: x[:, :calls])
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "figures.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "figures", raising=False)
    np.savez("d.npz", x=np.random.default_rng(0).integers(0, 256, (96, 4, 4, 1), np.uint8))
    torch.save({"w": torch.zeros(3)}, "pickled.pt")
    return tmp_path


@pytest.mark.usefixtures("few_standards")
def test_compare_says_what_the_figures_are_on(here):
    line = "compare figures:good --nfe 3 -n 96 --data d.npz --features random-4 --metric figures:gap --json board.json"
    assert run(line.split()) == 0
    board = json.loads((here / "board.json").read_text())
    assert board["features"]["random-4"]["hash"]
    for row in board["rows"]:
        assert row["quality"]["fd"]["features"] == "random-4"
        assert row["quality"]["figures:gap"]["low"] <= row["quality"]["figures:gap"]["high"]


@pytest.mark.usefixtures("few_standards")
def test_tune_keeps_them_in_the_results(here):
    line = "tune figures:good --nfe 3 --trials 1 --data d.npz --features pixels --metric figures:gap --out made"
    assert run(line.split()) == 0
    results = json.loads((here / "made" / "results.json").read_text())
    assert results["quality"]["fd"]["features"] == "pixels"
    assert results["features"]["pixels"]["hash"]
    assert "figures:gap" in results["quality"]


@pytest.mark.usefixtures("few_standards")
def test_a_metric_needs_no_data(here):
    line = "compare figures:good --nfe 3 -n 32 --metric figures:gap --json board.json"
    assert run(line.split()) == 0
    assert all("figures:gap" in row["quality"] for row in json.loads((here / "board.json").read_text())["rows"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--features pixels", "--data"),
        ("--features pickled.pt --data d.npz", "pickled"),
        ("--features colours --data d.npz", "colours"),
        ("--features pixels --data d.npz -n 16", "x has 16 samples; this distance in 16 dimensions needs 72"),
        ("--features figures:same --data d.npz", "y must hold rows that differ"),
        ("--features figures:hollow --data d.npz", "not finite"),
        ("--features figures:uneven --data d.npz", "(96, 1) and (96, 2)"),
        ("--features inception@pickled.pt --data d.npz", "pickled"),
        ("--features inception@none.pt --data d.npz", "none.pt"),
        ("--features dino@. --data d.npz", "config.json"),
        ("--metric lpips@pickled.pt", "pickled"),
        ("--metric figures:fails --data d.npz", "no figure"),
        ("--metric figures:fails", "no figure"),
        ("--metric figures:missing", "missing"),
        ("--metric figures", "module:function"),
        ("--nll", "--data"),
        ("--nll --data wide.npz", "wide.npz"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(here, capfd, line, says):
    its_own = 3 if "figures:fails" in line else 2  # what the user's code raises is no bad input
    assert run(["compare", "figures:good", "--nfe", "3", *line.split()]) == its_own
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


@pytest.mark.slow
def test_compare_tells_the_likelihood_of_the_data_under_the_model_itself(here):
    line = "compare figures:good --nfe 3 -n 32 --data few.npz --nll --json board.json"
    np.savez("few.npz", x=np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1), np.uint8))
    assert run(line.split()) == 0
    board, model = json.loads((here / "board.json").read_text()), sys.modules["figures"].good()
    found = Interval.from_dict(board["quality"]["nll"])
    images = read_images(here / "few.npz", model).double()
    truth = -model.exact.to(dtype=torch.float64).log_prob(images) / 16
    assert found.n == 16
    assert found.value == pytest.approx(float(truth.mean()), rel=1e-3)
    assert all("nll" not in row["quality"] for row in board["rows"])  # no plan changes it


@pytest.mark.usefixtures("few_standards")
@pytest.mark.slow
def test_compare_prints_the_likelihood_with_its_unit(here, capfd):
    np.savez("few.npz", x=np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1), np.uint8))
    assert run(["compare", "figures:good", "--nfe", "3", "-n", "32", "--data", "few.npz", "--nll"]) == 0
    assert "nats per dimension" in capfd.readouterr().out
