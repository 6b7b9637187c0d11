"""The criterion that a user's word stands for."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from fewer.errors import InputError
from fewer.evaluate.by_figure import ByEnergy, ByFrechet, ByMetric
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.scoring import Scoring

OBJECTIVES = ("paired", "energy", "fd", "metric")


def check_objective(given: Any, metric: bool) -> str:
    """The word itself. Raises InputError for another, and for "metric" where there is none.

    metric  whether one is given
    """
    if given not in OBJECTIVES:
        near = get_close_matches(str(given), OBJECTIVES, n=1)
        meant = f", did you mean {near[0]}?" if near else ";"
        raise InputError(f"objective is {given!r:.80}{meant} expected one of {', '.join(OBJECTIVES)}")
    if given == "metric" and not metric:
        raise InputError(
            "objective metric judges plans by a metric of your own: give metric (--metric module:function) too"
        )
    return str(given)


def criterion_of(objective: Any, scoring: Scoring) -> Criterion:
    """By what plans are judged: by pairs, by a distance to the scoring's data or else the reference solution, or by its metric.

    Raises InputError as `check_objective`.
    """
    word, metric = check_objective(objective, scoring.metric is not None), scoring.metric
    if word == "metric" and metric is not None:
        return ByMetric(Scoring(scoring.data, metric=metric), metric=metric)
    distance = Scoring(scoring.data, scoring.features)
    return {"paired": PAIRED, "energy": ByEnergy(distance), "fd": ByFrechet(distance)}[word]
