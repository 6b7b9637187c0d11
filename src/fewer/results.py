"""The types of results.json, which a search writes and the report and the tables read.

The file may come from anywhere: lengths and counts are bounded, and numbers that are not finite count as not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from fewer.evaluate.statistics.interval import LARGEST, Interval
from fewer.evaluate.statistics.seeds import SeedScan
from fewer.files import Record, checked


def _finite(number: float | None) -> float | None:
    return number if number is not None and abs(number) < LARGEST else None


def measured(entry: Interval | dict[str, Any] | None) -> Interval | None:
    """An interval, or the one of an object of JSON; None where it is not finite. Raises InputError for other objects."""
    interval = checked(Interval, entry, "figure") if isinstance(entry, dict) else entry
    return interval if interval is not None and math.isfinite(interval.value) else None


Figure = Annotated[int | float | None, AfterValidator(_finite)]
Measured = Annotated[Interval | None, AfterValidator(measured)]
Text = Annotated[str, Field(max_length=4000)]
Prompt = Annotated[str, Field(max_length=5000)]
Count = Annotated[int, Field(ge=1, le=10**9)]


@dataclass(frozen=True)
class Score(Interval):
    """One quality of a plan; a distance names the features that it is on."""

    features: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The keys of an interval, and the features where there are any."""
        return super().to_dict() | ({"features": self.features} if self.features else {})

    @classmethod
    def from_dict(cls, entry: Any) -> Self:
        """The reverse of `to_dict`; raises InputError as an interval's does."""
        return replace(super().from_dict(entry), features=str(entry.get("features") or "")[:4000])


Quality = Annotated[dict[str, Annotated[Score | None, AfterValidator(measured)]], Field(max_length=32)]


def error_of(quality: Mapping[str, Score | None]) -> Score | None:
    """The error that plans are sorted by: the typical one, or the paired RMSE in files of before there was any."""
    return quality.get("typical_error") or quality.get("paired_rmse")


class ModelFacts(Record):
    """A network of the search, as `Model.describe` gives it."""

    name: Text
    hash: Text = ""
    shape: Annotated[tuple[int, ...], Field(max_length=8)] = ()
    predicts: Text = ""
    schedule: Any = None
    parameters: int | None = None
    classes: int | None = None
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=1000)] = ()
    text_encoders: Text | None = None
    negative_prompt: Prompt | None = None
    embedded_guidance: Figure = None


class Budget(Record):
    """The request: network evaluations, multiply-adds or milliseconds per sample, and the options of the search."""

    nfe: Annotated[tuple[Count, ...], Field(max_length=1000)] = ()
    macs: Annotated[tuple[Figure, ...], Field(max_length=1000)] = ()
    ms: Annotated[tuple[Figure, ...], Field(max_length=1000)] = ()
    match: bool = False
    margin: Figure = None
    keep: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    playable_by: Text | None = None
    guidance: Figure = None
    trials: int | None = None
    time: Figure = None
    evaluations: int | None = None
    objective: Text = "paired"


class Objective(Record):
    """By what plans were judged: a figure of the qualities, its title, and whether higher is better."""

    figure: Text = "typical_error"
    title: Text = "typical error"
    higher: bool = False

    @property
    def paired(self) -> bool:
        """Whether plans were judged by errors of pairs."""
        return self.figure == "typical_error"

    def of(self, quality: Mapping[str, Score | None]) -> Score | None:
        """The figure of a quality that plans are sorted by."""
        return error_of(quality) if self.paired else quality.get(self.figure)

    def loss(self, quality: Mapping[str, Score | None]) -> float:
        """That figure's value, negated where higher is better; infinite where it is not measured."""
        found = self.of(quality)
        return math.inf if found is None else -found.value if self.higher else found.value


class Cost(Record):
    """Of one sample: network evaluations, multiply-adds, milliseconds, and the rows that make the evaluations."""

    nfe: Count
    macs: Figure = None
    ms: Measured = None
    rows: Count | None = None
    predicted_ms: Figure = None


class Reference(Record):
    """The reference solution: its network evaluations, and its own error in the units of paired_rmse."""

    nfe: int | None
    error: Figure


class Baseline(Record):
    """A standard sampler at one cost, or the pipeline as it is.

    fresh  whether its quality is on the held-out noises that plans are compared on; False: on the search's
    """

    name: Text
    kind: Literal["standard", "pipeline"] = "standard"
    nfe: Count
    scheduler: Text | None = None
    cost: Cost
    quality: Quality
    fresh: bool = True


class Verdict(Record):
    """The comparison on held-out noise: ratio = error (or `figure`) of the tuned plan / that of `against`.

    The other figures as in `fewer.evaluate.verdict.Verdict`; files of before there were any have a ratio of RMSEs alone.
    """

    against: Text
    margin: Figure
    decision: Literal["better", "not worse", "worse", "cannot tell"]
    ratio: Measured
    elsewhere: Measured = None
    shares: Annotated[tuple[Measured, ...], Field(max_length=2)] | None = None
    rmse: Measured = None
    farther: Measured = None
    difference: Measured = None
    figure: Text = "error"
    recommended: Literal["tuned", "standard"] | None = None
    reason: Text | None = None
    seeds: SeedScan | None = None

    @property
    def refused(self) -> bool:
        """Whether a standard plan was kept."""
        if self.recommended is None:
            return self.decision in ("worse", "cannot tell")
        return self.recommended == "standard"


class Contribution(Record):
    """A plan of the budget with only some columns free; `ratio` of its typical error to that of the plan with all of them."""

    name: Text
    nfe: Count
    macs: Figure = None
    ms: Figure = None
    paired_rmse: Measured
    typical_error: Measured = None
    ratio: Measured = None

    @property
    def error(self) -> Interval | None:
        """The typical error, or the paired RMSE in files of before there was any."""
        return self.typical_error or self.paired_rmse


class Share(Record):
    """What share of the change of the samples goes back to a block or a row."""

    name: Text
    value: Figure = None
    low: Figure = None
    high: Figure = None
    n: int | None = None


class Attribution(Record):
    """Which blocks and rows of a plan matter, the greatest share first."""

    blocks: Annotated[tuple[Share, ...], Field(max_length=5000)] = ()
    rows: Annotated[tuple[Share, ...], Field(max_length=5000)] = ()


class Entry(Record):
    """One budget of the front: its plan's file, cost, quality and verdict.

    within  whether the plan's milliseconds, clocked at the end, are within a budget in milliseconds
    """

    nfe: Count
    name: Text
    plan: Text
    cost: Cost
    quality: Quality
    verdict: Verdict
    searched: dict[str, Figure] = Field(default_factory=dict)
    match: Verdict | None = None
    contributions: Annotated[tuple[Contribution, ...], Field(max_length=32)] = ()
    attribution: Attribution | None = None
    within: Literal["yes", "no", "cannot tell"] | None = None


class PosteriorTask(Record):
    """Of a tuned sampler of posteriors: what measurements it is for, and what it was compared on.

    noise     standard deviation of measurements
    settings  of the method
    against   the method that it was compared with, and `baseline` its plan's file
    pairs     true samples and measurements of the comparison, with `each` samples a measurement
    truth     where the true samples are from
    """

    operator: Text
    noise: Figure
    method: Text
    settings: Annotated[dict[str, Any], Field(max_length=64)] = Field(default_factory=dict)
    against: Text
    baseline: Text
    pairs: Count
    each: Count
    truth: Text


class Results(Record):
    """results.json, with the keys of the project's contract and those that the report adds."""

    model: ModelFacts
    others: Annotated[tuple[ModelFacts, ...], Field(alias="with", max_length=100)] = ()
    seed: int
    budget: Budget
    objective: Objective = Objective()
    cost: Cost
    quality: Quality
    reference: Reference
    features: dict[str, Any] = Field(default_factory=dict, max_length=64)
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=200_000)]
    verdict: Verdict
    versions: dict[str, Any] = Field(max_length=64)
    evaluations: int
    seconds: Figure
    command: Text = ""
    created: Text = ""
    summary: Text = ""
    contributions: Annotated[tuple[Contribution, ...], Field(max_length=32)] = ()
    attribution: Attribution | None = None
    front: Annotated[tuple[Entry, ...], Field(min_length=1, max_length=1000)]
    notes: Annotated[tuple[Text, ...], Field(max_length=5000)] = ()
    task: PosteriorTask | None = None
