"""What the report reads: results.json and the plans of a tune folder, checked before use.

The folder may come from anywhere. Sizes and counts are bounded, no name leaves the folder, nothing is executed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from fewer.errors import InputError, first_fault
from fewer.plan import Plan

LARGEST_JSON = 16 * 2**20
LARGEST_FIGURE = 1e30  # what is beyond has blown up and counts as not finite


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and abs(value) < LARGEST_FIGURE else None


Figure = Annotated[float | None, AfterValidator(_finite)]
Text = Annotated[str, Field(max_length=4000)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class Interval(BaseModel):
    """A measured value and its 95 % interval; None where it is not finite."""

    value: Figure = None
    low: Figure = None
    high: Figure = None
    n: int | None = None
    features: Text | None = None

    @property
    def known(self) -> bool:
        """Whether both ends are."""
        return self.low is not None and self.high is not None


Quality = Annotated[dict[str, Interval | None], Field(max_length=32)]


class Cost(BaseModel):
    """Of one sample: network evaluations, the rows that make them, multiply-adds, milliseconds."""

    nfe: Count
    rows: Count | None = None
    macs: Figure = None
    ms: Interval | None = None
    predicted_ms: Figure = None


class Verdict(BaseModel):
    """The comparison on fresh noise: ratio = error of the tuned plan / error of `against`."""

    against: Text
    margin: Figure
    decision: Literal["better", "not worse", "worse", "cannot tell"]
    ratio: Interval | None
    recommended: Literal["tuned", "standard"] | None = None
    reason: Text | None = None

    @property
    def refused(self) -> bool:
        """Whether a standard plan was kept."""
        if self.recommended is None:
            return self.decision in ("worse", "cannot tell")
        return self.recommended == "standard"


class Baseline(BaseModel):
    """A standard sampler at one cost, or the pipeline as it is."""

    name: Text
    kind: Literal["standard", "pipeline"] = "standard"
    nfe: Count
    cost: Cost
    quality: Quality


class Contribution(BaseModel):
    """A plan of the budget with only some columns free; `ratio` of its error to that of the plan with all of them."""

    name: Text
    nfe: Count
    macs: Figure = None
    ms: Figure = None
    paired_rmse: Interval
    ratio: Interval | None = None


class Share(BaseModel):
    """What share of the change of the samples goes back to a block or a row."""

    name: Text
    value: Figure = None
    low: Figure = None
    high: Figure = None


class Attribution(BaseModel):
    """Which blocks and rows of a plan matter, the greatest share first."""

    blocks: Annotated[list[Share], Field(max_length=5000)] = []
    rows: Annotated[list[Share], Field(max_length=5000)] = []


class Entry(BaseModel):
    """One budget of the front: its plan's file, cost, quality and verdict."""

    nfe: Count
    name: Text
    plan: Text
    cost: Cost
    quality: Quality
    verdict: Verdict
    searched: dict[str, Figure] = {}
    contributions: Annotated[list[Contribution], Field(max_length=32)] = []
    attribution: Attribution | None = None


class Budget(BaseModel):
    """What was asked."""

    nfe: Annotated[list[Count], Field(max_length=1000)] = []
    macs: Annotated[list[Figure], Field(max_length=1000)] = []
    ms: Annotated[list[Figure], Field(max_length=1000)] = []
    match: bool = False
    margin: Figure = None
    keep: Annotated[list[Text], Field(max_length=32)] = []
    guidance: Figure = None
    trials: int | None = None
    time: Figure = None


class Reference(BaseModel):
    """The fine solution: its network evaluations, and its own error in the units of paired_rmse."""

    nfe: int | None
    error: Figure


class ModelFacts(BaseModel):
    """The network that was tuned for."""

    name: Text
    hash: Text = ""
    shape: Annotated[list[int], Field(max_length=8)] = []
    predicts: Text = ""
    schedule: Any = None
    parameters: int | None = None
    classes: int | None = None
    prompts: Annotated[list[Annotated[str, Field(max_length=5000)]], Field(max_length=1000)] = []


class Results(BaseModel):
    """results.json, with the keys of the project's contract and those that the report adds."""

    model: ModelFacts
    seed: int
    budget: Budget
    cost: Cost
    quality: Quality
    reference: Reference
    baselines: Annotated[list[Baseline], Field(max_length=5000)]
    verdict: Verdict
    versions: Annotated[dict[str, Any], Field(max_length=64)]
    evaluations: int
    seconds: Figure
    command: Text = ""
    created: Text = ""
    front: Annotated[list[Entry], Field(min_length=1, max_length=1000)]
    notes: Annotated[list[Text], Field(max_length=64)] = []


@dataclass(frozen=True)
class Folder:
    """A tune folder: its results, the plan to use, and the plan of each entry of the front."""

    results: Results
    plan: Plan
    front: tuple[Plan, ...]


def read_folder(folder: Path) -> Folder:
    """The checked contents of a tune folder; raises InputError with one line."""
    results = _results(folder / "results.json")
    front = tuple(Plan.load(_inside(folder, entry.plan)) for entry in results.front)
    return Folder(results, Plan.load(folder / "plan.json"), front)


def _results(path: Path) -> Results:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(f"{path} is larger than {LARGEST_JSON >> 20} MiB")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; expected a folder written by fewer tune") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not complete JSON: {error}") from error
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        where, what = first_fault(error)
        raise InputError(f"{path}: {where or 'content'}: {what}") from error


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no file can have this name, or its links go round
        inside = False
    if not inside:
        raise InputError(f"{folder / 'results.json'}: plan {name[:200]!r} is not inside the folder")
    return path
