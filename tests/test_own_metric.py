"""Metrics of the user's own, of samples and of pairs: functions, and LPIPS from a file."""

import hashlib
import sys

import pytest
import torch
from scipy.stats import binom
from torch_files import Bomb, Perceptual, save_script

import fewer
from fewer.errors import ForeignError, InputError
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.features import random_convolutions
from fewer.evaluate.statistics.interval import Interval
from fewer.models.schedules import Flow

METRICS = """
import torch

def mean_gap(x, y): return float(x.mean() - y.mean())
def three(x, y): return 0.5, 0.4, torch.tensor(0.75)
def disorder(x, y): return 0.5, 0.6, 0.7
def words(x, y): return "good"
def vector(x, y): return x.mean(0)
def infinite(x, y): return float("inf")
def fails(x, y): raise RuntimeError("first line\\nsecond line")
def spoils(x, y):
    x.zero_()
    return 0.0
"""


@pytest.fixture
def images():
    return torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(METRICS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_metrics", raising=False)
    return tmp_path


def test_lpips_is_the_mean_squared_distance_of_pairs(here):
    save_script(Perceptual(), "vgg.pt")
    x, y = torch.rand(2, 40, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    metric = OwnMetric.load("lpips@vgg.pt", (-1.0, 1.0))
    found, own = metric(x, y), 3 * ((x - y) / 2).square().flatten(1).sum(1).double()
    assert found.value == pytest.approx(float(own.mean()))
    assert found.low < found.value < found.high
    assert metric(x, x) == Interval(0.0, 0.0, 0.0, 40)
    assert metric.describe()["hash"] == hashlib.sha256((here / "vgg.pt").read_bytes()).hexdigest()[:16]
    with pytest.raises(InputError, match="pairs"):
        metric(x, y[:8])


def test_lpips_averages_large_images_down(here):
    save_script(Perceptual(), "vgg.pt")
    x, y = (torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    metric = OwnMetric.load("lpips@vgg.pt", (0.0, 1.0))
    large = metric(x.expand(-1, -1, 512, 300), y.expand(-1, -1, 512, 300))
    assert large.value == pytest.approx(metric(x, y).value * 256 * 256, rel=1e-4)


def test_a_metric_of_pairs_is_held_against_the_reference_solution_whatever_data_there_is(here):
    model = fewer.Model.from_mixture(fewer.GaussianMixture.random((1, 4, 4), 2, seed=0), Flow())
    plan = fewer.standard("dpmpp-2m", model, 4)

    def gap(x, y):
        return (x - y).square().mean()

    gap.paired = True
    metric, data = OwnMetric("gap", gap), torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = fewer.measure(model, plan, n=64, data=data, features=random_convolutions((1, 4, 4), 4), metric=metric)
    assert found["gap"].value == pytest.approx(found["paired_rmse"].value ** 2, rel=1e-5)
    noisy = fewer.standard("ancestral", model, 4)
    assert "gap" not in fewer.measure(model, noisy, n=64, metric=metric)


def test_a_plain_number_of_the_user_s_gets_an_interval_that_covers(here):
    metric = OwnMetric.load("own_metrics:mean_gap")
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        x, y = torch.randn(64, 1, 2, 2, generator=generator) + 1, torch.randn(40, 1, 2, 2, generator=generator)
        interval = metric(x, y)
        assert interval.value == pytest.approx(float(x.mean() - y.mean()))
        covered += interval.low <= 1 <= interval.high
    assert covered >= binom.ppf(0.002, 100, 0.95)


def test_pairs_stay_pairs_in_the_subsets(here):
    metric = OwnMetric("pairs", lambda x, y: (x - y).abs().max())
    x = torch.randn(64, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert metric(x, x) == Interval(0.0, 0.0, 0.0, 64)


def test_an_own_interval_is_kept_and_nothing_of_the_samples_changed(here, images):
    assert OwnMetric.load("own_metrics:three")(images, images) == Interval(0.5, 0.4, 0.75, 40)
    before = images.clone()
    OwnMetric.load("own_metrics:spoils")(images, images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", ["disorder", "words", "vector", "infinite", "missing", "fails"])
def test_what_a_metric_does_wrong_is_said_in_one_line(here, images, name):
    kind = ForeignError if name == "fails" else InputError
    with pytest.raises(kind, match=f"own_metrics:{name}") as told:
        OwnMetric.load(f"own_metrics:{name}")(images, images)
    assert "\n" not in str(told.value)


def test_a_plain_number_needs_samples_for_its_interval(here, images):
    with pytest.raises(InputError, match="16 samples"):
        OwnMetric.load("own_metrics:mean_gap")(images[:15], images)
    with pytest.raises(InputError, match="module:function"):
        OwnMetric.load("own_metrics")
    torch.save({"weights": Bomb()}, "zip.pt")
    for file in ("zip.pt", "none.pt", "."):
        with pytest.raises(InputError, match="metric file"):
            OwnMetric.load(f"lpips@{file}")


def test_measure_takes_features_and_a_metric(here):
    mixture = fewer.GaussianMixture.random((3, 4, 4), 2, seed=0)
    model = fewer.Model.from_mixture(mixture, Flow())
    plan, data = fewer.standard("dpmpp-2m", model, 4), mixture.sample(64, seed=1)[0].float()
    features, metric = random_convolutions((3, 4, 4), 4), OwnMetric.load("own_metrics:mean_gap")
    found = fewer.measure(model, plan, n=64, data=data, features=features, metric=metric)
    assert {"fd", "own_metrics:mean_gap"} <= found.keys()
    assert found["fd"] != fewer.measure(model, plan, n=64, data=data)["fd"]
    assert metric.name in fewer.measure(model, plan, n=64, metric=metric)  # against the reference solution
