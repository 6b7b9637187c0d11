"""What the report says and draws: ranking, sentences, numbers, the chart."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer.evaluate.statistics.interval import Interval
from fewer.report.axis import log_ticks
from fewer.report.chart import ORDER, Point, draw
from fewer.report.html import ranking
from fewer.report.words import evaluations, figure, span, verdict_sentence
from fewer.results import Baseline, Objective, Verdict


def test_the_best_standard_sampler_is_the_best_for_its_cost() -> None:
    def baseline(name: str, nfe: int, value: float | None) -> Baseline:
        quality = {"paired_rmse": {"value": value, "low": None, "high": None}}
        return Baseline.model_validate({"name": name, "nfe": nfe, "cost": {"nfe": nfe}, "quality": quality})

    given = [baseline("a", 4, 0.9), baseline("b", 5, 0.5), baseline("c", 5, 0.7), baseline("d", 6, 0.6),
             baseline("e", 8, 0.2), baseline("f", 3, None)]  # fmt: skip
    lines = ranking(given, [], Objective())
    assert [line.name for line in lines] == ["e", "b", "d", "c", "a", "f"]
    assert [line.name for line in lines if line.kind == "best"] == ["e", "b", "a"]


def test_samplers_ranked_on_the_search_s_noises_do_not_pass_for_measured_ones() -> None:
    def baseline(name: str, value: float, measured: bool) -> Baseline:
        ends = {"low": 0.9 * value, "high": 1.1 * value} if measured else {"low": None, "high": None}
        quality = {"paired_rmse": {"value": value, **ends}}
        return Baseline.model_validate({"name": name, "nfe": 5, "cost": {"nfe": 5}, "quality": quality})

    lines = ranking([baseline("ranked", 0.50, False), baseline("measured", 0.52, True)], [], Objective())
    assert [line.name for line in lines if line.kind == "best"] == ["measured"]


def test_a_pipeline_that_is_not_matched_is_said_and_distances_are_named() -> None:
    pipeline = Baseline.model_validate({"name": "DDPMScheduler", "kind": "pipeline", "nfe": 1000,
                                        "cost": {"nfe": 1000}, "quality": {"fd": {"value": 0.1}}})  # fmt: skip
    verdict = Verdict(against="DDPMScheduler", margin=0.05, decision="worse", recommended="standard",
                      ratio=Interval(1.5, 1.4, 1.6, 64))  # fmt: skip
    sentence = verdict_sentence(verdict, 40, "tuned 40", [pipeline])
    assert sentence.startswith("No plan tried is shown to match the pipeline as it is")
    assert "its Frechet distance is 1.50 times as large" in sentence


def test_the_chart_leaves_out_only_what_blows_up_and_counts_it() -> None:
    def point(name: str, kind: Any, nfe: int, value: float) -> Point:
        return Point(name, kind, nfe, Interval(value, 0.9 * value, 1.1 * value, 64))

    chart = draw([point("tuned", "tuned", 5, 0.1), point("best", "best", 5, 0.3), point("near", "standard", 5, 0.8),
                  point("far", "standard", 5, 174.0)])  # fmt: skip
    assert chart is not None
    assert chart.beyond == 1
    for svg in (chart.wide, chart.narrow):
        marks = {name: float(y) for name, y in re.findall(r"<title>(\w+)\n.*?cy=\"([\d.]+)\"", svg, re.S)}
        assert marks["tuned"] > marks["best"] > marks["near"]
    assert draw([]) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(ORDER), st.integers(1, 10**9), st.floats(1e-29, 1e29), st.floats(0, 2)), min_size=1
    )
)
@settings(max_examples=60, deadline=None)
def test_any_chart_stays_in_its_frame(drawn: list[tuple[Any, int, float, float]]) -> None:
    points = [Point("p", kind, nfe, Interval(value, value * (1 - part), value * (1 + part), 64))
              for kind, nfe, value, part in drawn]  # fmt: skip
    chart = draw(points)
    assert chart is not None
    shown = re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', str(chart.wide))
    diamonds = str(chart.wide).count("<polygon")
    assert len(shown) + diamonds + chart.beyond == len(points)
    assert all(0 <= float(x) <= 940 and 0 <= float(y) <= 440 for x, y in shown)


@given(
    st.lists(
        st.tuples(st.sampled_from(ORDER), st.integers(1, 10**6), st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_figure_of_any_sign_is_drawn_whole_and_the_right_way_up(
    drawn: list[tuple[Any, int, float, float]], higher: bool
) -> None:
    points = [Point(f"p{i}", kind, nfe, Interval(value, value - reach, value + reach, 64))
              for i, (kind, nfe, value, reach) in enumerate(drawn)]  # fmt: skip
    chart = draw(points, Objective(figure="metric", title="sharpness", higher=higher))
    assert chart is not None
    svg = str(chart.wide)
    assert "sharpness" in svg
    assert "typical error" not in svg
    heights = {
        int(i): float(y)
        for i, y in re.findall(r'<title>p(\d+)\n[^<]*</title><circle cx="[-\d.]+" cy="([-\d.]+)"', svg, re.S)
    }
    assert len(heights) + svg.count("<polygon") + chart.beyond == len(points)
    assert all(0 <= y <= 440 for y in heights.values())
    for (i, a), (j, b) in pairwise(sorted(heights.items(), key=lambda pair: drawn[pair[0]][2])):
        assert a >= b, (drawn[i], drawn[j])
    kept = [drawn[i][2] for i, (kind, *_) in enumerate(drawn) if kind in ("tuned", "best")]
    assert sum(drawn[i][0] in ("tuned", "best") for i in heights) == len(kept)


@pytest.mark.parametrize("budgets", [(5,), (4, 5, 6), range(4, 13), (5, 50), (1, 2, 50), (4, 5, 6, 1000)])
def test_whiskers_stand_apart_and_no_gap_between_costs_is_empty(budgets: Sequence[int]) -> None:
    """Intervals at one cost are 2 pixels apart at least, and no gap between costs is over twice the least."""
    points = [Point(kind, kind, nfe, Interval(value, 0.5 * value, 2 * value, 64))
              for nfe in budgets for kind, value in zip(ORDER, (0.4, 0.1, 0.1, 0.1), strict=True)]  # fmt: skip
    chart = draw(points)
    assert chart is not None
    for svg, labels in ((str(chart.wide), 3), (str(chart.narrow), 0)):
        whiskers = sorted(float(x) for x in re.findall(r'class="whisker" x1="([\d.]+)"', svg))
        assert len(whiskers) == 3 * len(budgets)
        assert all(b - a >= 2 for a, b in pairwise(whiskers))
        places = sorted(float(x) for x in re.findall(r'<polygon points="([\d.]+),', svg))
        gaps = [b - a for a, b in pairwise(places)]
        assert max(gaps, default=1) <= 2.1 * min(gaps, default=1)
        boxes = re.findall(r'class="label \w+" x="([-\d.]+)" y="([-\d.]+)"', svg)
        assert len(set(boxes)) == labels


@pytest.mark.parametrize(
    ("low", "high"), [(0.02, 0.06), (1e-4, 3.0), (1.0, 1.1), (3.0, 40.0), (1.21, 1.34), (1e-9, 1e9)]
)
def test_ticks_lie_inside_and_are_few(low: float, high: float) -> None:
    ticks = log_ticks(low, high, 7)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)


def test_numbers_keep_three_significant_digits() -> None:
    assert [figure(x) for x in (0.02134, 1.5, 1234.5, 0, None)] == ["0.0213", "1.50", "1,234", "0", "–"]
    assert figure(-0.45) == "−0.450"
    assert figure(float("inf")) == "∞"
    assert span(Interval(0.31, 0.29, math.inf, 64)) == "–"
    assert span(Interval(0.31, 0.29, 0.333, 64)) == "0.290 to 0.333"
    assert evaluations(1) == "1 network evaluation"


@pytest.mark.parametrize("decision", ["better", "not worse", "worse", "cannot tell"])
@pytest.mark.parametrize("recommended", ["tuned", "standard", None])
def test_every_verdict_is_one_sentence(decision: Any, recommended: Any) -> None:
    verdict = Verdict(against="ddim", margin=0.05, decision=decision, recommended=recommended,
                      ratio=Interval(0.5, 0.4, 0.6, 64))  # fmt: skip
    sentence = verdict_sentence(verdict, 5, "the plan", [])
    assert sentence.endswith(".")
    assert ". " not in sentence
    kept = recommended == "standard" or (recommended is None and decision in ("worse", "cannot tell"))
    assert sentence.startswith("Kept the best standard plan" if kept else "At 5 network evaluations")
