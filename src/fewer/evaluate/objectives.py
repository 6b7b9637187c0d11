"""The criteria that a user's word stands for: by what a search goes, and by what its outcome is judged.

The word may name features: `fd:digits` is the Frechet distance on the features that `--features digits` stands for. Where others
are given beside it, the search goes by the word's, and the verdict and all figures are on the others, which the search did not see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from fewer.errors import InputError, did_you_mean
from fewer.evaluate.by_figure import ByEnergy, ByFrechet, ByMetric
from fewer.evaluate.by_sliced import BySliced
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.features import read_features
from fewer.evaluate.scoring import Scoring, as_images

OBJECTIVES = ("paired", "energy", "fd", "sliced", "metric")
ON_FEATURES = ("energy", "fd", "sliced")  # those that may name features: fd:NAME


class Judging(NamedTuple):
    """What a search goes by and what its outcome is judged by, which is the same but where each has features of its own, and the
    scoring of all figures.
    """

    search: Criterion
    verdict: Criterion
    scoring: Scoring


def check_objective(given: Any, metric: bool) -> str:
    """The word itself, without features. Raises InputError for another, and for "metric" where there is none.

    metric  whether one is given
    """
    word, colon, features = str(given).partition(":")
    if not isinstance(given, str) or word not in OBJECTIVES:
        meant = did_you_mean(word, OBJECTIVES)
        raise InputError(f"objective is {given!r:.80}{meant} expected one of {', '.join(OBJECTIVES)}")
    if colon and (word not in ON_FEATURES or not features):
        raise InputError(
            f"objective is {given!r:.80}; features are named as in fd:digits or energy:pixels, of distances alone"
        )
    if word == "metric" and not metric:
        raise InputError(
            "objective metric judges plans by a metric of your own: give metric (--metric module:function) too"
        )
    return word


def judging_of(objective: Any, scoring: Scoring, values: tuple[float, float] = (-1.0, 1.0)) -> Judging:
    """What a word and a scoring stand for.

    values  of the data, where features are named

    Raises InputError as `check_objective`, and for features without data.
    """
    check_objective(objective, scoring.metric is not None)
    word, _, name = objective.partition(":")
    if not name:
        criterion = criterion_of(objective, scoring)
        return Judging(criterion, criterion, scoring)
    if scoring.data is None:
        raise InputError(f"objective {objective} is a distance to data on features, and data is missing (--data)")
    features = read_features(name, as_images(scoring.data), values)
    own = scoring if scoring.features is not None else replace(scoring, features=features)
    return Judging(criterion_of(word, replace(scoring, features=features)), criterion_of(word, own), own)


def criterion_of(objective: Any, scoring: Scoring) -> Criterion:
    """By what plans are judged: by pairs, by a distance to the scoring's data or else the reference solution, or by its metric.

    Raises InputError as `check_objective`.
    """
    word, metric = check_objective(objective, scoring.metric is not None), scoring.metric
    if word == "metric" and metric is not None:
        return ByMetric(Scoring(scoring.data, metric=metric), metric=metric)
    distance = Scoring(scoring.data, scoring.features)
    by: dict[str, Criterion] = {
        "paired": PAIRED, "energy": ByEnergy(distance), "fd": ByFrechet(distance), "sliced": BySliced(distance)
    }  # fmt: skip
    return by[word]
