"""A budget in milliseconds is checked by the clock at the end."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import fewer
from fewer.cli.main import run
from fewer.evaluate.cost.engine_overhead import NAMES
from fewer.evaluate.cost.latency import LatencyTable, machine
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.plan import Plan
from fewer.search import limit as limit_module
from fewer.search.stages import clocked
from fewer.search.stages.clocked import within

CALL, ENGINE = 1.0, 0.0  # milliseconds per sample of a call


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_mixture(fewer.GaussianMixture.random((2,), components=3, seed=0), Flow(), hash="clocked")


class Machine:
    """A machine whose calls take `now` milliseconds a sample, and took `first` when the table was measured first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: float, now: float) -> None:
        self.tables, self.now = [first, now, now, now], now
        monkeypatch.setattr(limit_module, "steady_table", lambda model, names, late: self.table(model))
        monkeypatch.setattr(clocked, "clock", self.clock)

    def table(self, model: Model) -> LatencyTable:
        engine = dict.fromkeys(NAMES, ENGINE)
        return LatencyTable(model.hash, machine(model), 2, {1: {16: 16 * self.tables.pop(0)}}, engine)

    def clock(self, model: Model, plans: Mapping[str, Plan], batch: int) -> dict[str, Interval]:
        return {name: Interval(t, 0.99 * t, 1.01 * t, 9) for name, t in self.times(plans).items()}

    def times(self, plans: Mapping[str, Plan]) -> dict[str, float]:
        return {name: self.now * plan.nfe for name, plan in plans.items()}


def tuned(model: Model, ms: float) -> fewer.Result:
    return fewer.tune(model, ms=ms, keep=["blocks"], noises=16, fresh=16, trials=1)


@pytest.mark.usefixtures("few_standards")
def test_a_plan_that_keeps_to_its_milliseconds_is_clocked_and_kept(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, first=1.0, now=1.0)
    result = tuned(model, 3.1)
    assert result.plan.nfe == 3
    assert result.results["front"][0]["within"] == "yes"
    assert result.results["cost"]["ms"]["value"] == pytest.approx(3.0)
    assert not any(" ms" in note for note in result.results["notes"])


@pytest.mark.parametrize(("first", "nfe"), [(0.4, 3), (3.0, 3)])
@pytest.mark.usefixtures("few_standards")
def test_a_clock_that_was_disturbed_at_the_start_is_read_again(
    model: Model, monkeypatch: pytest.MonkeyPatch, first: float, nfe: int
) -> None:
    """The first table pays for 7 calls, which take too long, or for one, which leaves two thirds of the budget unused."""
    Machine(monkeypatch, first, now=1.0)
    result = tuned(model, 3.1)
    assert result.plan.nfe <= nfe
    assert result.results["cost"]["ms"]["value"] <= 3.1
    assert result.results["front"][0]["within"] == "yes"
    assert any("calls were clocked again" in note for note in result.results["notes"])


@pytest.mark.usefixtures("few_standards")
def test_what_stays_above_the_budget_says_so(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Machine(monkeypatch, first=1.0, now=5.0)
    result = tuned(model, 3.1)
    assert result.results["front"][0]["within"] == "no"
    assert any("more than the 3.1 that were asked for" in note for note in result.results["notes"])
    assert "longer than the budget in milliseconds" in result.results["summary"]
    assert busy.tables == [5.0, 5.0]


@pytest.mark.usefixtures("few_standards")
def test_the_command_ends_with_status_1_where_the_budget_is_exceeded(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Machine(monkeypatch, first=1.0, now=5.0)
    (tmp_path / "clocked_models.py").write_text(
        "import fewer\nfrom fewer.models.schedules import Flow\n"
        "def exact():\n"
        "    return fewer.Model.from_mixture(fewer.GaussianMixture.random((2,), components=3, seed=0), Flow(), name='exact')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    line = "tune clocked_models:exact --ms 1.1 --keep blocks --trials 1 --time 100 --out made"
    assert run(line.split()) == 1
    assert "longer than the budget" in capfd.readouterr().out


def test_within_is_told_by_the_interval() -> None:
    assert within(Interval(2.0, 1.9, 2.1, 9), 3.0) == "yes"
    assert within(Interval(3.0, 2.9, 3.1, 9), 3.0) == "cannot tell"
    assert within(Interval(4.0, 3.9, 4.1, 9), 3.0) == "no"
