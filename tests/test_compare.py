"""The leaderboard: it is sorted by the figure that was asked for, and says how much of it is shown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor

import fewer
from fewer.cli.main import run
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.leaderboard import TOP
from fewer.models.schedules import Flow

NFE = [2, 3]


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    mixture = fewer.GaussianMixture.random((1, 4, 4), 2, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), name="<b>good</b>", hash="good")


def away(samples: Tensor, reference: Tensor) -> tuple[float, float, float]:
    """A figure that is lowest where the paired RMSE is highest."""
    value = -float((samples - reference).square().mean())
    return value, value, value


METRICS = [None, OwnMetric("away", away)]


@pytest.fixture(scope="module", params=METRICS, ids=["paired", "own metric"])
def board(model: fewer.Model, request: pytest.FixtureRequest) -> fewer.Leaderboard:
    return fewer.compare(model, NFE, n=16, metric=request.param)


def values(rows: Sequence[Any], nfe: int, name: str) -> list[float]:
    return [row.quality.figures[name].value for row in rows if row.nfe == nfe]


@pytest.mark.parametrize("nfe", NFE)
def test_rows_of_a_budget_are_in_the_order_of_the_figure_asked_for(board: fewer.Leaderboard, nfe: int) -> None:
    found = values(board.rows, nfe, board.sort)
    assert len(found) > TOP
    assert found == sorted(found)
    assert board.figures[0] == board.sort


def test_the_metric_is_what_is_sorted_by_unless_another_figure_is_named(model: fewer.Model) -> None:
    assert fewer.compare(model, [2], n=16, metric=METRICS[1]).sort == "away"
    board = fewer.compare(model, [2], n=16, metric=METRICS[1], sort="paired_rmse")
    assert values(board.rows, 2, "paired_rmse") == sorted(values(board.rows, 2, "paired_rmse"))


@pytest.mark.parametrize("most", [1, TOP, 10_000])
def test_the_short_table_has_the_best_and_counts_the_rest(board: fewer.Leaderboard, most: int) -> None:
    shown, counts = board.top(most)
    for nfe in NFE:
        every = values(board.rows, nfe, board.sort)
        assert counts[nfe] == (min(most, len(every)), len(every))
        assert values(shown, nfe, board.sort) == every[:most]


def test_it_is_a_mapping_of_what_its_json_has(board: fewer.Leaderboard) -> None:
    assert dict(board) == board.to_dict() == json.loads(json.dumps(board.to_dict()))
    assert board["rows"][0]["quality"]["paired_rmse"]["value"] < math.inf


def test_in_a_notebook_it_is_one_line_and_a_table_without_foreign_markup(board: fewer.Leaderboard) -> None:
    assert "\n" not in repr(board)
    html = board._repr_html_()
    assert html.count("<tr>") == 1 + len(NFE) * TOP
    assert "<b>" not in html
    assert re.search(rf"{TOP} of \d+ standard plans", html)


@pytest.mark.slow
def test_the_command_says_how_many_it_shows_and_shows_all_on_request(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "mixture16", "--nfe", "2", "-n", "8"]) == 0
    short = capfd.readouterr().out
    said = re.search(r"(\d+) of (\d+) standard plans", short)
    assert said is not None
    assert "--all" in short
    rows = [line for line in short.splitlines() if re.match(r"│ +2 │", line)]
    assert len(rows) == int(said[1]) < int(said[2])
    assert run(["compare", "mixture16", "--nfe", "2", "-n", "8", "--all"]) == 0
    whole = capfd.readouterr().out
    assert len([line for line in whole.splitlines() if re.match(r"│ +2 │", line)]) == int(said[2])
    assert "--all" not in whole


@pytest.mark.parametrize("figure", ["fd", "my:metric", "", "PAIRED_RMSE"])
def test_a_figure_that_the_rows_do_not_have_is_refused_with_those_they_have(
    figure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", "mixture16", "--nfe", "2", "-n", "8", "--sort", figure]) == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert repr(figure) in err
    assert "paired_rmse" in err
